"""Own: a folder of music becomes a benchmark, the same for the same seed; the truth survives all files."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluation.dataset import sample100
from evaluation.own import own, own_files
from evaluation.own.own import Music, OwnSettings, OwnSources
from evaluation.own.survey import Track

SETTINGS = OwnSettings(references=2, queries=3, sample_free=2, interference=2, distractors=2, seed=1)
RATE = 16_000
TRACKS = 12


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Twelve tracks of 16 s, each of its own notes; one more that is silent and one that is too short."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(TRACKS):
        rng = np.random.default_rng(number)
        notes = 220 * 2 ** (rng.integers(0, 24, 16 * 4) / 12)
        time = np.arange(RATE // 4) / RATE
        wave = np.concatenate([np.sin(2 * np.pi * hz * time) * np.exp(-4 * time) for hz in notes])
        suffix = "flac" if number % 2 else "wav"
        soundfile.write(folder / f"{number:02d}.{suffix}", 0.4 * wave, RATE)
    soundfile.write(folder / "silent.wav", np.zeros(16 * RATE), RATE)
    soundfile.write(folder / "short.wav", 0.3 * np.ones(RATE), RATE)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def benchmark(music, cache):
    return rendered(music, cache)


def rendered(music: Path, cache: Path, settings: OwnSettings = SETTINGS, **options):
    return own.render(settings, OwnSources(music=Music(path=music)), cache, **options)


def folder_of(benchmark) -> Path:
    return benchmark.queries[0].path.parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_part_has_its_number_and_sampled_tracks_are_references(benchmark):
    assert list(benchmark.references) == ["T001", "T002"]
    assert list(benchmark.distractors) == ["N001", "N002"]
    assert [query.id for query in benchmark.queries] == ["T003", "T004", "T005", "T006", "T007"]
    assert [len(query.sampled) for query in benchmark.queries] == [1, 1, 1, 0, 0]
    assert set.union(*(set(query.relevant) for query in benchmark.queries)) == set(benchmark.references)


def test_half_of_the_sample_free_queries_sample_an_unknown_track(benchmark):
    assert benchmark.facts["sampling_an_unknown_track"] == ["T006"]
    assert benchmark.facts["sampling_nothing"] == ["T007"]
    kept = json.loads((folder_of(benchmark) / "audio" / "T006.json").read_text())
    sampled, laid = kept["request"]["tracks"]
    stored = {path.name for path in benchmark.catalogue.values()}
    assert sampled
    assert not {sampled, laid} & stored


def test_what_is_laid_over_a_sample_is_in_no_catalogue(benchmark):
    stored = {path.name for path in benchmark.catalogue.values()}
    for query in benchmark.queries:
        laid = json.loads(query.path.with_suffix(".json").read_text())["request"]["tracks"][1]
        assert laid not in stored


def test_unusable_files_are_left_out_with_the_reason(benchmark):
    left_out = benchmark.facts["left_out"]
    assert left_out["short.wav"] == "short.wav: lasts 1.0 s, expected at least 15 s"
    assert set(left_out) <= {"short.wav", "silent.wav"}  # the silent one only where it was wanted


def test_queries_are_16_bit_flac_at_the_rate_of_the_settings(benchmark):
    for query in benchmark.queries:
        about = soundfile.info(query.path)
        assert (about.format, about.subtype, about.samplerate) == ("FLAC", "PCM_16", 22_050)
        assert 12 <= about.duration <= 40


def test_the_truth_lies_within_query_and_reference(benchmark):
    for query in benchmark.queries:
        for sampled in query.sampled:
            seconds = soundfile.info(benchmark.references[sampled.reference]).duration
            assert sampled.sample_type in ("riff", "beat")
            assert sampled.occurrences
            for occurrence in sampled.occurrences:
                (start, end), (first, last) = occurrence.query_span, occurrence.reference_span
                assert 0 < start < end < soundfile.info(query.path).duration
                assert 0 <= first < last <= seconds
                assert (end - start) * occurrence.tempo_ratio == pytest.approx(last - first)
                assert sampled.length >= end - start


def test_two_renderings_of_one_seed_are_the_same_byte_for_byte(benchmark, music, tmp_path):
    again = rendered(music, tmp_path, workers=1)
    before, after = contents(folder_of(benchmark)), contents(folder_of(again))
    assert folder_of(benchmark).name == folder_of(again).name
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert [query.sampled for query in again.queries] == [query.sampled for query in benchmark.queries]


def test_another_seed_gives_another_benchmark_and_progress_names_what_was_done(benchmark, music, cache):
    steps = []
    small = replace(SETTINGS, references=1, queries=1, sample_free=0, interference=1, distractors=0, seed=2)
    other = rendered(music, cache, small, progress=lambda *step: steps.append(step))
    assert folder_of(other) != folder_of(benchmark)
    assert other.queries[0].path.read_bytes() != benchmark.queries[0].path.read_bytes()
    assert [step[1:] for step in steps] == [(1, 2), (2, 2), (1, 1)]  # two tracks made ready, one query
    assert steps[-1][0] == "T002"


def test_another_soundfont_gives_another_benchmark_that_names_it(benchmark, music, cache, tmp_path):
    (tmp_path / "other.sf2").write_bytes(b"another band")
    small = replace(SETTINGS, references=1, queries=1, sample_free=0, interference=1, distractors=0)
    plain, other = (rendered(music, cache, replace(small, soundfont=s)) for s in (None, tmp_path / "other.sf2"))
    assert folder_of(plain) != folder_of(other)
    if shutil.which("fluidsynth"):
        assert other.facts["midi"] == "other.sf2 12"


def test_a_soundfont_that_is_not_there_is_named_before_anything_is_rendered(music, tmp_path):
    with pytest.raises(ValueError, match="no soundfont .*missing.sf2"):
        rendered(music, tmp_path / "cache", replace(SETTINGS, soundfont=tmp_path / "missing.sf2"))
    assert not (tmp_path / "cache").exists()


def test_a_finished_benchmark_is_not_rendered_again(benchmark, music, cache, monkeypatch):
    monkeypatch.setattr(own.survey, "look", lambda *_, **__: pytest.fail("looked at the music again"))
    assert rendered(music, cache) == benchmark


def test_a_killed_rendering_goes_on_where_it_stopped(benchmark, music, tmp_path, monkeypatch):
    folder = tmp_path / folder_of(benchmark).name
    shutil.copytree(folder_of(benchmark), folder)
    (folder / "benchmark.json").unlink()
    (folder / "audio" / "T005.json").unlink()  # its flac was written, its truth not
    (folder / "audio" / "T007.flac").unlink()
    _plan_otherwise(folder / "audio" / "T004.json")  # written before a track proved unusable
    made = []
    produce = own_files.producer.produce
    monkeypatch.setattr(own_files.producer, "produce", lambda *args, **kw: made.append(1) or produce(*args, **kw))
    again = rendered(music, tmp_path)
    assert len(made) == 3
    assert contents(folder_of(again)) == contents(folder_of(benchmark))


def _plan_otherwise(record: Path) -> None:
    kept = json.loads(record.read_text())
    kept["request"]["tracks"][1] = "another.wav"
    record.write_text(json.dumps(kept))


def test_what_is_laid_over_a_sample_is_never_of_its_family_and_takes_turns():
    def track(name: str, family: str) -> Track:
        return Track(
            id=name, form="recording", files=(), family=family, artist="", title="", duration=60.0, further=False
        )

    tracks = [track("a1", "a"), track("a2", "a"), track("b", "b"), track("c", "c")]
    laid, rng = Counter(), np.random.default_rng(0)
    chosen = [own._least_used(laid, tracks, "a", rng).id for _ in range(6)]
    assert sorted(chosen) == ["b", "b", "b", "c", "c", "c"]
    assert {own._least_used(laid, tracks, "", rng).id for _ in range(2)} == {"a1", "a2"}


def test_a_changed_track_gives_another_benchmark(benchmark, music, cache, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    os.utime(tmp_path / "music" / "00.wav", ns=(1, 1))
    listed = own.listing.read(Music(path=tmp_path / "music"))
    assert own._digest(SETTINGS, listed, ()) != own._digest(SETTINGS, own.listing.read(Music(path=music)), ())


def test_a_track_that_proves_silent_is_made_up_for_by_another(music, tmp_path):
    # 12 of the 13 that are long enough, and what is left over for this seed is another one
    most = replace(SETTINGS, references=1, queries=1, sample_free=0, interference=1, distractors=10)
    made = rendered(music, tmp_path, most)
    assert made.facts["left_out"]["silent.wav"] == "silent.wav: is silent, expected music"
    assert len(made.catalogue) == 11


def test_a_track_that_proves_damaged_where_nobody_had_looked_is_made_up_for_by_another(music, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    wavs = [f"{number:02d}.wav" for number in range(0, TRACKS, 2)]
    for name in wavs:  # between the 2 s at three places that are looked at when a folder is read
        wave, rate = soundfile.read(tmp_path / "music" / name)
        wave[[4 * rate, 11 * rate]] = np.nan
        soundfile.write(tmp_path / "music" / name, wave, rate, subtype="FLOAT")
    settings = replace(SETTINGS, references=1, queries=2, sample_free=0, interference=2, distractors=0)
    left_out = rendered(tmp_path / "music", tmp_path / "cache", settings).facts["left_out"]
    damaged = {track for track, reason in left_out.items() if "NaN or infinite samples" in reason}
    assert damaged
    assert damaged <= set(wavs)


def test_too_few_tracks_are_told_in_one_line_before_anything_is_rendered(music, tmp_path):
    with pytest.raises(
        ValueError, match=r"too few tracks: 60 references, .* need 90, found 13 usable; name more .* 1 were left out"
    ):
        rendered(music, tmp_path, OwnSettings())
    assert not list(tmp_path.iterdir())


def test_an_export_is_read_back_as_the_same_benchmark(benchmark, tmp_path):
    own.export(benchmark, tmp_path / "a")
    read = sample100.load(tmp_path / "a", tmp_path / "a" / "audio")
    assert list(read.references) == list(benchmark.references)
    assert list(read.distractors) == list(benchmark.distractors)
    assert [q.id for q in read.queries] == [q.id for q in benchmark.queries]
    assert [q.sampled for q in read.queries] == [q.sampled for q in benchmark.queries]
    for track, path in benchmark.catalogue.items():
        assert np.allclose(soundfile.read(path)[0], soundfile.read(read.catalogue[track])[0], atol=1e-4)
    own.export(benchmark, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"references": 0}, "references is 0, expected 1 or more"),
        ({"queries": 59}, "59 queries for 60 references, expected as many or more"),
        ({"sample_free": -1}, "sample_free is -1, expected 0 or more"),
        ({"interference": 0}, "interference is 0, expected 1 track or more"),
        ({"sample_rate": 8000}, "sample_rate is 8000 Hz, expected one of"),
        ({"shortest": 1.0}, "shortest is 1 s and longest_midi 120 s, expected 5 s or more"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        OwnSettings(**wrong)


SHARED = Path(__file__).parents[3].parent / "shared" / "music"


@pytest.mark.skipif(not (SHARED / "manifest.csv").is_file(), reason="the folder shared is not beside the checkout")
def test_roles_of_the_test_split_keep_artists_apart():
    listed = own.listing.read(Music(path=SHARED / "manifest.csv", where=("split=test",)))
    found = own.survey.look(listed, (), shortest=15.0)
    settings = OwnSettings(references=40, queries=40, interference=15)  # 65 of the 96 that are long enough
    for seed in range(3):
        drawn = own.roles.draw(found.tracks, settings.need, seed=seed)
        artists = [{t.artist for t in members} for members in (drawn.references, drawn.interference, drawn.unknown)]
        assert len(set.union(*artists)) == sum(map(len, artists))

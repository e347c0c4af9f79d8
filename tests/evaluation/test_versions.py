"""Version identification: measures worked by hand, protocol on a fake encoder, versions that differ as they should."""

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mido
import numpy as np
import pytest
import soundfile
import torch

from encoder import systems
from encoder.clews import Clews
from encoder.encode import Encoder
from encoder.encoding import Encoding
from encoder.training import midi, version_set
from encoder.training.version_set import Version
from evaluation.pieces.composition import BARS_PER_PHRASE
from evaluation.pieces.synthesis import compose
from evaluation.versions import arrangement, benchmark, embeddings, measures, synthetic
from evaluation.versions.benchmark import VersionProtocol

FIXTURE = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews" / "map_nar.npz"
inf = float("inf")


def test_measures_equal_the_released_ones():
    if not FIXTURE.is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    expected = dict(np.load(FIXTURE))
    itself = expected["query_ids"][:, None] == expected["ids"]
    labels = expected["labels"][itself.argmax(axis=1)]
    relevant = (labels[:, None] == expected["labels"]) & ~itself
    found = measures.evaluate(expected["dist"], relevant, itself)
    names = {"ap": "average_precision", "r1": "first_rank", "nar_paper": "normalised_rank"}
    for theirs, ours in (names | {"nar_code": "normalised_rank_released"}).items():
        np.testing.assert_allclose(found[ours], expected[theirs], rtol=1e-6, atol=1e-5, err_msg=ours)
    # the paper leaves the query out of the irrelevant, the released code counts it
    assert found["normalised_rank"].mean() > found["normalised_rank_released"].mean() + 0.1


def test_measures_are_worked_by_hand():
    distances = np.array([[0.0, 0.3, 0.1, 0.2, 0.4]])
    itself = np.array([[True, False, False, False, False]])
    relevant = np.array([[False, True, True, False, False]])
    found = measures.evaluate(distances, relevant, itself)
    # ranks 1 and 3 of four: AP (1/1 + 2/3) / 2; one of two irrelevant ahead of one of two relevant: 25 %
    assert found["average_precision"].tolist() == [pytest.approx(5 / 6)]
    assert found["first_rank"].tolist() == [1]
    assert found["normalised_rank"].tolist() == [pytest.approx(25)]
    assert found["normalised_rank_released"].tolist() == [pytest.approx(100 * 0.5 / 3)]


def test_ties_rank_worst_first_and_the_infinitely_far_last():
    itself = np.zeros((1, 4), bool)
    relevant = np.array([[True, False, False, False]])
    assert measures.evaluate(np.full((1, 4), 0.5), relevant, itself)["first_rank"] == 4
    assert measures.evaluate(np.array([[inf, 0.1, inf, 9.0]]), relevant, itself)["first_rank"] == 4
    assert measures.evaluate(np.array([[9.0, inf, inf, 0.1]]), relevant, itself)["first_rank"] == 2


def test_impossible_rankings_are_refused():
    square, eye = np.zeros((2, 2)), np.eye(2, dtype=bool)
    with pytest.raises(ValueError, match="query 1 has no relevant candidate"):
        measures.evaluate(square, np.array([[False, True], [False, False]]), eye)
    with pytest.raises(ValueError, match="marked as relevant to itself"):
        measures.evaluate(square, ~np.zeros((2, 2), bool), eye)
    with pytest.raises(ValueError, match="not a number"):
        measures.evaluate(square * np.nan, ~eye, eye)


def test_intervals_draw_whole_works():
    values = {"average_precision": np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])}
    by_work = measures.estimates(values, list("aaaabbbb"), seed=1)["average_precision"]
    assert by_work.value == 0.5
    assert set(np.round(by_work.drawn, 6)) == {0.0, 0.5, 1.0}  # two works: both, or one of them twice
    assert (by_work.interval.low, by_work.interval.high) == (0.0, 1.0)


def versions(*works):
    return [Version(track=str(n), work=w, split="test", path=Path(f"{n}.wav")) for n, w in enumerate(works)]


def encoding(vectors):
    vectors = np.asarray(vectors, np.float32)
    return Encoding(
        segment_indices=np.arange(len(vectors)), fingerprints=vectors,
        node_matrices=np.zeros((len(vectors), 3, 4), np.float16), hop=5.0, segment_duration=20.0,
    )  # fmt: skip


def test_every_recording_looks_for_the_others_of_its_work(monkeypatch):
    vectors = {"0": [[0.0], [9.0]], "1": [[0.1]], "2": [[5.0]], "3": [[5.2], [7.0]], "4": np.zeros((0, 1))}
    fake = SimpleNamespace(grid=SimpleNamespace(shingled=False))
    found = {f"{track}.wav": encoding(rows) for track, rows in vectors.items()}
    monkeypatch.setattr(
        embeddings, "whole_track", lambda _, path, longest: embeddings.vectors(found[str(path)])
    )  # fmt: skip
    result = benchmark.evaluate(fake, versions(*"aabbb"), VersionProtocol(seed=1))
    assert set(result) == {"track"}
    # 0 and 1 find each other first; 2 and 3 each other, and the silent one last of four; the silent one has only ties
    precisions = [1, 1, (1 + 2 / 4) / 2, (1 + 2 / 4) / 2, (1 / 3 + 2 / 4) / 2]
    assert result["track"]["average_precision"].value == pytest.approx(np.mean(precisions))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """CLEWS with random weights, as small as it gets."""
    from encoder import checkpoint

    path = tmp_path_factory.mktemp("clews") / "tiny.safetensors"
    network = Clews(start=(2, 4), channels=(4,), blocks=(1,), strides=(2,), dimensions=8)
    system = replace(systems.CLEWS, network=network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(path, system, system.build(), provenance={})
    return Encoder(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """33 s of chirps."""
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    time = np.arange(33 * 16_000) / 16_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 + 20 * time) * time), 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("seconds", "count"), [(5, 7), (20, 4), (30, 2), (60, 1)])
def test_windows_of_any_length_give_one_embedding_each(encoder, sound, seconds, count):
    # of 33 s every 5 s: ceil((33 - seconds) / 5) + 1
    found = embeddings.windows(encoder, sound, seconds=seconds, longest=600)
    assert found.shape == (count, 8)
    wave, _ = soundfile.read(sound, dtype="float32")
    first = np.resize(wave, 60 * 16_000)[: seconds * 16_000]
    first = np.tile(first, 4)[: 20 * 16_000] if seconds < 20 else first
    alone = encoder.embed(torch.from_numpy(first.copy()).unsqueeze(0)).node_matrices[0, 0]
    np.testing.assert_allclose(found[0], alone, rtol=1e-4, atol=1e-5)


def test_a_track_is_embedded_on_the_grid_and_cut_where_asked(encoder, sound):
    whole = embeddings.whole_track(encoder, sound, longest=600)
    windows = embeddings.windows(encoder, sound, seconds=20, longest=600)
    np.testing.assert_allclose(whole, windows, rtol=0.01, atol=0.01)  # kept in half precision
    assert len(embeddings.whole_track(encoder, sound, longest=25)) == 2


def test_the_whole_protocol_runs_on_files(encoder, sound, tmp_path):
    other = tmp_path / "other.wav"
    soundfile.write(other, 0.1 * np.random.default_rng(0).normal(size=30 * 16_000), 16_000)
    read = [replace(v, path=p) for v, p in zip(versions(*"aabb"), (sound, sound, other, other), strict=True)]
    result = benchmark.to_json(benchmark.evaluate(encoder, read, VersionProtocol(lengths=(5, 30))))
    assert set(result) == {"track", "5 s", "30 s"}
    assert result["track"]["average_precision"]["value"] == 1.0
    assert result["5 s"]["normalised_rank"]["value"] == 0.0


def test_systems_without_shingles_have_no_windows_of_other_lengths(sound):
    plain = SimpleNamespace(grid=systems.ASID.grid, system=systems.ASID)
    with pytest.raises(ValueError, match="system asid has segments of one length, expected one that is shingled"):
        embeddings.windows(plain, sound, seconds=5, longest=600)


def test_impossible_protocols_are_refused():
    with pytest.raises(ValueError, match="no reduction is called 'median'"):
        VersionProtocol(reduction="median")
    with pytest.raises(ValueError, match=r"lengths \(0,\) of at most 600.0 s, expected more than 0"):
        VersionProtocol(lengths=(0,))


@pytest.fixture(scope="module")
def piece():
    return compose(80_000_000, duration=40.0)


def test_a_version_keeps_the_tune_and_changes_the_rest(piece):
    assert arrangement.arranged(piece, 0) is piece
    others = [arrangement.arranged(piece, number) for number in range(1, 9)]
    assert len({other.tempo for other in others}) == 8
    assert len({other.tonic for other in others}) > 2
    assert len({other.bars for other in others}) > 1
    assert any("drums" not in other.strokes for other in others)
    assert arrangement.arranged(piece, 3) == others[2]
    for other in others:
        assert all(other.patches[stem] != piece.patches[stem] for stem in other.patches)
        assert other.duration >= max(note.start for notes in other.notes.values() for note in notes)
        shift = (other.tonic - piece.tonic + 6) % 12 - 6  # five semitones either way
        for stem, notes in other.notes.items():
            assert {note.pitch - shift for note in notes} <= {note.pitch for note in piece.notes[stem]}
        played = [steps(other, phrase) for phrase in range(other.bars // BARS_PER_PHRASE)]
        composed = [steps(piece, phrase) for phrase in range(piece.bars // BARS_PER_PHRASE)]
        assert set(played) <= set(composed)
        assert len(set(played)) > 1


def steps(piece, phrase):
    """Intervals between the chords' notes of one phrase, in the order in which they are written."""
    start, length = phrase * BARS_PER_PHRASE * piece.bar - 0.024, BARS_PER_PHRASE * piece.bar
    notes = [n.pitch for n in piece.notes["chords"] if start <= n.start < start + length]
    return tuple(np.diff(notes).tolist())


def test_a_form_is_the_phrases_in_order_with_some_dropped_or_repeated():
    forms = [tuple(arrangement.form(6, np.random.default_rng(seed))) for seed in range(60)]
    assert all(list(form) == sorted(form) for form in forms)
    assert all(set(form) <= set(range(6)) for form in forms)
    assert all(4 <= len(form) <= 7 for form in forms)
    assert any(len(set(form)) < len(form) for form in forms)
    assert any(form[0] == 1 for form in forms)
    assert len(set(forms)) > 10
    assert arrangement.form(1, np.random.default_rng(0)) in ([0], [0, 0])


def test_a_rendering_is_cut_into_whole_sections():
    wave = np.repeat(np.arange(1.0, 7), 100).astype(np.float32)
    for seed in range(20):
        made = arrangement.cut(wave, np.random.default_rng(seed), sample_rate=100, section=1.0)
        expected = [n + 1 for n in arrangement.form(6, np.random.default_rng(seed))]
        assert made[50::100].tolist() == expected


def test_midi_files_become_works_by_the_splits_of_their_manifest(tmp_path, monkeypatch):
    for name in ("one", "two", "three"):
        mido.MidiFile().save(tmp_path / f"{name}.mid")
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = [("one", "One", "A", "train"), ("two", "Two", "B", "test"), ("three", "Three", "B", "test")]
        csv.writer(file).writerows([("id", "title", "artist", "split"), *rows])
    asked = []

    def render(path, *, sample_rate, arrangement):
        asked.append((path.stem, arrangement))
        return {"lead": np.full(30 * sample_rate, 0.1, np.float32), "bass": np.zeros(sample_rate, np.float32)}

    monkeypatch.setattr(midi, "render", render)
    settings = synthetic.SyntheticSettings(train=9, validation=9, test=1, versions=2, seconds=25)
    written = list(synthetic.write(tmp_path / "set", settings, scores=tmp_path))
    assert len(written) == 4
    read = version_set.read(tmp_path / "set")
    assert [(v.track, v.split) for v in read][:2] == [("one-0", "train"), ("one-1", "train")]
    assert {v.split for v in read[2:]} == {"test"}
    assert [number for name, number in asked if name == "one"] == [0, 1]
    assert soundfile.info(read[0].path).duration == pytest.approx(25, abs=0.01)


def test_a_midi_file_that_cannot_be_rendered_is_left_out_with_its_reason(tmp_path, monkeypatch):
    for name in ("whole", "broken"):
        mido.MidiFile().save(tmp_path / f"{name}.mid")
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = [("broken", "B", "A", "test"), ("whole", "W", "B", "test")]
        csv.writer(file).writerows([("id", "title", "artist", "split"), *rows])

    def render(path, *, sample_rate, arrangement):
        if path.stem == "broken" and arrangement:
            raise midi.MidiError(f"{path}: holds no notes")
        return {"lead": np.full(30 * sample_rate, 0.1, np.float32)}

    monkeypatch.setattr(midi, "render", render)
    settings, told = synthetic.SyntheticSettings(versions=2, seconds=25), []
    list(synthetic.write(tmp_path / "set", settings, scores=tmp_path, left_out=told.append))
    assert {v.work for v in version_set.read(tmp_path / "set")} == {"whole"}
    assert told == [f"{tmp_path / 'broken.mid'}: holds no notes; left out"]


def test_a_set_without_a_work_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("id,title,artist,split\nnothing,N,A,test\n")
    with pytest.raises(ValueError, match="no work can be rendered, expected"):
        list(synthetic.write(tmp_path / "set", synthetic.SyntheticSettings(), scores=tmp_path))


def test_no_work_is_of_another_split_however_many_are_asked_for():
    few, many = (
        {(work.split, work.seed) for work in synthetic._composed(synthetic.SyntheticSettings(**counts))}
        for counts in ({}, {"train": 90, "validation": 0, "test": 50})
    )
    assert len(few) == 60 + 12 + 40
    assert {seed - 80_000_000 for split, seed in few if split == "test"} == set(range(72, 112))  # of the shipped table
    splits = {}
    for split, seed in few | many:
        assert splits.setdefault(seed, split) == split
    assert {one for one in few if one[0] != "validation"} < many


def test_works_of_minutes_are_written_whole(tmp_path):
    settings = synthetic.SyntheticSettings(train=0, validation=0, test=1, versions=2, seconds=150)
    for version in synthetic.write(tmp_path, settings):
        assert soundfile.info(version.path).duration > 90


def test_impossible_sets_are_refused():
    with pytest.raises(ValueError, match="versions is 1, expected at least 2"):
        synthetic.SyntheticSettings(versions=1)
    with pytest.raises(ValueError, match="seconds is 5.0, expected at least 20"):
        synthetic.SyntheticSettings(seconds=5.0)
    with pytest.raises(ValueError, match="test is -1"):
        synthetic.SyntheticSettings(test=-1)
    with pytest.raises(ValueError, match="train is 3001, expected 0 to 3000 works"):
        synthetic.SyntheticSettings(train=3001)


def test_a_folder_of_other_versions_is_refused_and_more_of_the_same_are_added(tmp_path):
    few = synthetic.SyntheticSettings(train=0, validation=0, test=1, versions=2, seconds=20)
    before = {v.path: v.path.stat().st_mtime_ns for v in synthetic.write(tmp_path, few)}
    with pytest.raises(ValueError, match="was rendered with .*20.*, asked for is .*40.*; name another folder"):
        list(synthetic.write(tmp_path, replace(few, seconds=40)))
    more = list(synthetic.write(tmp_path, replace(few, versions=3)))
    assert len(more) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before

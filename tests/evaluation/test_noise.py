"""Identification under noise: what is rendered, how overlaps become hops, what counts as a hit, how tables read."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import fftconvolve

from encoder.segments import SegmentGrid
from evaluation.noise import hits, identify, landmark, queries, tables
from evaluation.noise.identify import Answer
from evaluation.noise.queries import RATE, Excerpt, NoiseSettings

SMALL = NoiseSettings(count=4, lengths=(0.5, 1.0), snrs=(0.0, 10.0), set_aside=1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings of noise, 4 s each; a silent one; one that is too short; a folder with a room of one tap."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    waves = {f"{i}.wav": 0.1 * rng.standard_normal(4 * RATE) for i in range(3)}
    waves |= {"silent.wav": np.zeros(4 * RATE), "short.wav": waves["0.wav"][:RATE]}
    for name, wave in waves.items():
        soundfile.write(folder / name, wave, RATE, subtype="FLOAT")
    (folder / "room").mkdir()
    soundfile.write(folder / "room" / "none.wav", np.eye(1, 100)[0], RATE, subtype="FLOAT")
    return folder


def paths(folder, *names):
    return [folder / f"{name}.wav" for name in names]


def rms(wave):
    return np.sqrt(np.mean(np.square(wave, dtype=np.float64)))


def test_excerpts_are_of_their_source_from_the_start_they_tell(recordings):
    settings = NoiseSettings(**{**vars(SMALL), "responses": str(recordings / "room")})
    sources = paths(recordings, "0", "1", "silent", "short")
    found = queries.excerpts(sources, paths(recordings, "2"), settings)
    assert [len(excerpt.waveform) for excerpt in found] == [RATE] * 4  # the longest query
    assert {excerpt.source.stem for excerpt in found} == {"0", "1"}  # neither silence nor what is too short
    for excerpt in found:
        whole, _ = soundfile.read(excerpt.source)
        start = round(excerpt.start * RATE)
        np.testing.assert_allclose(excerpt.waveform, whole[start : start + RATE], atol=1e-5)


def test_a_room_changes_the_sound_but_not_the_time(recordings):
    for excerpt in queries.excerpts(paths(recordings, "0", "1"), paths(recordings, "2"), SMALL):
        whole, _ = soundfile.read(excerpt.source)
        correlation = fftconvolve(whole, excerpt.waveform[::-1], mode="valid")
        assert correlation.argmax() == round(excerpt.start * RATE)  # the direct sound comes first
        assert not np.allclose(excerpt.waveform, whole[correlation.argmax() :][:RATE], atol=1e-3)


def test_a_query_has_the_length_and_the_ratio_asked_for_whatever_its_length():
    rng = np.random.default_rng(0)
    louder = np.linspace(0.01, 0.1, RATE).astype(np.float32)  # so that the ratio of a part is not that of the whole
    wave, background = (rng.standard_normal(RATE).astype(np.float32) * louder for _ in range(2))
    excerpt = Excerpt(source=Path("x"), start=0.0, waveform=wave, background=background[::-1].copy(), babble=False)
    for length in (0.5, 1.0):
        for snr in (-6.0, 10.0):
            samples = round(length * RATE)
            heard = excerpt.heard(length=length, snr=snr)
            assert len(heard) == samples
            over = heard - wave[:samples]
            assert 20 * np.log10(rms(wave[:samples]) / rms(over)) == pytest.approx(snr, abs=0.01)


def test_the_same_seed_asks_the_same_and_another_seed_something_else(recordings):
    made = [
        queries.excerpts(
            paths(recordings, "0", "1"), paths(recordings, "2"), NoiseSettings(**{**vars(SMALL), "seed": seed})
        )
        for seed in (1, 1, 2)
    ]
    first, again, other = ([(e.start, e.source, float(e.background[0])) for e in some] for some in made)
    assert first == again != other


def test_too_little_music_is_told_in_one_line(recordings):
    with pytest.raises(ValueError, match=r"0 excerpts of 1 s could be cut from 2 recordings, expected 4; give longer"):
        queries.excerpts(paths(recordings, "silent", "short"), paths(recordings, "2"), SMALL)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lengths": ()}, "no lengths, expected one or more"),
        ({"count": 0}, "count 0"),
        ({"overlaps": (1.0,)}, r"overlaps are \(1.0,\), expected 0 or more and less than 1"),
    ],
)
def test_impossible_settings_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        NoiseSettings(**{**vars(SMALL), **change})


class FakeEncoder:
    def __init__(self, step):
        from encoder.spectrogram import LogMel
        from encoder.systems import System

        grid = SegmentGrid(frames=32, step=step, minimum_samples=16_000)
        self.system = System(name="x", about="x", front_end=LogMel(), network=None, grid=grid)
        self.digest = "d"

    @property
    def grid(self):
        return self.system.grid


def test_overlaps_are_hops_and_every_hop_is_another_encoder_to_the_store():
    encoder = FakeEncoder(3)
    half, most = identify.overlapping(encoder, 0.5), identify.overlapping(encoder, 0.9)
    assert (half.grid.step, most.grid.step) == (16, 3)  # of 32 frames; 3.2 is rounded
    assert len({half.digest, most.digest, encoder.digest}) == 3
    assert (encoder.grid.step, encoder.digest) == (3, "d")
    # Queries: a divisor of the hop, no more than an eighth of a segment (4 frames).
    steps = [identify.asking(FakeEncoder(step)).grid.step for step in (16, 13, 10, 6, 3)]
    assert steps == [4, 1, 2, 3, 3]


def test_a_waveform_is_resampled_for_an_encoder_of_another_rate():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    other = identify.resampled(tone, 22_050)
    expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    assert np.abs(other - expected)[500:-500].max() < 5e-3
    assert identify.resampled(tone, RATE) is tone


def excerpt_of(source="a", start=10.0):
    wave = np.ones(RATE, np.float32)
    return Excerpt(source=Path(source), start=start, waveform=wave, background=wave, babble=True)


def test_an_answer_is_judged_by_recording_and_milliseconds():
    def said(found):
        return identify.judged(0, excerpt_of(), 1.0, 5.0, found, seconds=0.1)

    answers = [said(found) for found in ((Path("a"), 10.04), (Path("a"), 9.8), (Path("b"), 10.0), None)]
    assert [a.song for a in answers] == [True, True, False, False]
    assert [a.error for a in answers] == pytest.approx([0.04, 0.2, np.inf, np.inf])
    rows = hits.frame(answers, system="s", overlap=0.5)
    assert rows["within_50"].tolist() == [True, False, False, False]
    assert rows["within_250"].tolist() == [True, True, False, False]


def answers(songs, *, length=1.0):
    """An excerpt of a recording of its own for each; found exactly or not at all."""
    return [
        Answer(
            excerpt=i, source=str(i), length=length, snr=0.0, babble=False, song=song,
            error=0.0 if song else np.inf, seconds=0.1,
        )
        for i, song in enumerate(songs)
    ]  # fmt: skip


def test_rates_have_shares_and_intervals_for_every_length_and_ratio():
    rows = hits.frame([*answers([1, 1, 1, 0]), *answers([0] * 4, length=2.0)], system="s", overlap=0.9)
    rates = hits.rates(rows, seed=1)
    one = rates[(rates.length == 1.0) & (rates.measure == "song")].iloc[0]
    assert (one.share, one.queries) == (0.75, 4)
    assert one.low < 0.75 < one.high
    two = rates[(rates.length == 2.0) & (rates.measure == "within_50")].iloc[0]
    assert (two.share, two.low, two.high) == (0, 0, 0)


def test_excerpts_of_one_recording_are_drawn_together():
    rows = hits.frame(answers([1, 0] * 20), system="s", overlap=0.9)
    apart = hits.rates(rows, seed=1)
    rows["source"] = ["a", "b"] * 20  # two recordings, one always found
    together = hits.rates(rows, seed=1)
    assert (together.high - together.low).max() == 1.0
    assert (apart.high - apart.low).max() < 0.5


def test_differences_are_paired_and_of_the_same_queries():
    parts = [
        hits.frame(answers(songs), system=name, overlap=0.9) for name, songs in (("a", [0, 1] * 10), ("b", [1] * 20))
    ]
    both = pd.concat(parts)
    (row,) = hits.differences(both, baseline=("a", 0.9), seed=1).query("measure == 'song'").itertuples()
    assert (row.system, row.difference) == ("b", 0.5)
    assert 0 < row.low < 0.5 < row.high
    with pytest.raises(ValueError, match="were asked different queries"):
        hits.differences(both[(both.system == "a") | (both.excerpt > 0)], baseline=("a", 0.9), seed=1)
    with pytest.raises(ValueError, match="no answers of"):
        hits.differences(both, baseline=("c", None), seed=1)


def test_tables_have_lengths_down_and_ratios_across():
    rates = hits.rates(hits.frame(answers([1, 1, 1, 1]), system="s", overlap=0.9), seed=1)
    text = tables.text(rates, rates.iloc[:0], facts=["about"])
    assert "## s, overlap 0.9" in text
    assert "| query | 0 dB |" in text
    assert "| 1 s | 100 [100, 100] |" in text


MATCHED = (
    "Matched   1.0 s starting at    0.2 s in /queries/query-000000.wav to time   10.2 s in tracks/000001 with     9 of"
)
PRINTED = f"""Fri Nov 21 Reading hash table
{MATCHED}    12 common hashes at rank  0
NOMATCH /queries/query-000001.wav 1.0 sec 50 raw hashes
Processed 2 files (2.0 s total dur) in 0.1 s sec = 0.050 x RT
"""


def test_answers_of_the_landmark_fingerprinter_are_told_apart_by_query():
    lines = landmark.by_query(PRINTED)
    assert set(lines) == {"query-000000.wav", "query-000001.wav"}
    path, offset = landmark.first(lines["query-000000.wav"], {"tracks/000001": "a"})
    assert (path, offset) == (Path("a"), pytest.approx(10.0))
    assert landmark.first(lines["query-000001.wav"], {}) is None
    assert set(landmark.by_query(PRINTED.replace("/queries/", "/my queries/"))) == set(lines)


def test_a_query_of_which_the_landmark_fingerprinter_says_nothing_is_no_miss():
    peer = SimpleNamespace(name="audfprint", printed=lambda files: "Processed 2 files\n", names={})
    with pytest.raises(ValueError, match="audfprint said nothing of query-000000.wav, expected a match or NOMATCH"):
        list(landmark.ask(peer, [excerpt_of()], NoiseSettings(count=1, lengths=(1.0,), snrs=(3.0,))))


def test_the_landmark_fingerprinter_is_asked_every_query_in_one_go():
    seen = []

    def printed(files):
        seen.extend(soundfile.info(file).duration for file in files)
        return PRINTED

    peer = SimpleNamespace(printed=printed, names={"tracks/000001": "a"})
    settings = NoiseSettings(count=1, lengths=(0.5, 1.0), snrs=(3.0,))
    found = list(landmark.ask(peer, [excerpt_of()], settings))
    assert seen == [0.5, 1.0]
    assert [(a.length, a.song) for a in found] == [(0.5, True), (1.0, False)]
    assert found[0].error == pytest.approx(0.0)

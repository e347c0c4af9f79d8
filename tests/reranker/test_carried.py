"""Carried: the stem in which a sample was planted is the one that is told."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reranker.carried import Carried, StemFinder, by_stem
from reranker.rank import Match, Occurrence
from reranker.warp import stretched, transposed

BINS, SECONDS = 85, 0.064


def partials(frames, *, seed):
    """Sparse random partials that last a few frames: (frames, bins) uint8."""
    rng = np.random.default_rng(seed)
    loud = (rng.random((frames, BINS)) < 0.03) * rng.uniform(60, 200, (frames, BINS))
    return np.maximum(loud, 0.7 * np.roll(loud, 1, axis=0)).astype(np.uint8)


def place(first, last, start, *, ratio=1.0, semitones=0.0):
    """Query frames `first` to `last` play the reference from frame `start` on."""
    end = start + (last - first) * ratio
    return Occurrence(
        query_span=(first * SECONDS, last * SECONDS),
        reference_span=(start * SECONDS, end * SECONDS),
        tempo_ratio=ratio,
        transposition=semitones,
    )


@pytest.fixture(scope="module")
def reference():
    return partials(420, seed=8)


def planted(sample, *, at, seed, frames=240):
    """The sample from frame `at` on, in a stem that otherwise plays something else."""
    stem = partials(frames, seed=seed)
    stem[at : at + len(sample)] = sample
    return stem


@pytest.mark.parametrize(("ratio", "semitones"), [(1.0, 0.0), (0.8, 3.0), (1.31, -4.0), (1.12, 1.96)])
def test_a_warped_sample_is_carried_by_the_stem_that_plays_it(reference, ratio, semitones):
    sample = torch.from_numpy(reference[200:290]).float()
    sample = transposed(stretched(sample, 1 / ratio), semitones).numpy().astype(np.uint8)
    stems = {"drums": partials(240, seed=1), "bass": planted(sample, at=60, seed=2), "vocals": partials(240, seed=3)}
    carried = by_stem(
        stems, reference, [place(60, 60 + len(sample), 200, ratio=ratio, semitones=semitones)], seconds=SECONDS
    )
    assert carried.stem == "bass"
    assert carried.shares["bass"] > 0.85
    assert list(carried.shares) == ["drums", "bass", "vocals"]


def test_shares_are_in_the_ratio_of_what_the_stems_hold(reference):
    sample = reference[100:180] // 12 * 12  # so that a quarter and a third of it are whole numbers
    silence = np.zeros((200, BINS), np.uint8)

    def only(part):
        stem = silence.copy()
        stem[50:130] = part
        return stem

    where = [place(50, 130, 100)]
    # Likeness is linear in the stem: 1 to 1/3 is 0.75 to 0.25, and 1 to 1 is 0.5 each.
    uneven = by_stem({"a": only(sample), "b": only(sample // 3), "c": silence}, reference, where, seconds=SECONDS)
    assert uneven.shares == pytest.approx({"a": 0.75, "b": 0.25, "c": 0.0})
    assert uneven.stem == "a"
    even = by_stem({"a": only(sample), "b": only(sample), "c": silence}, reference, where, seconds=SECONDS)
    assert even.shares == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.0})
    assert even.stem is None  # none stands out


def test_all_occurrences_of_a_match_count_together(reference):
    # A loop: frames 100 to 140 of the reference three times, twice in the drums and once in the bass.
    drums, bass = partials(240, seed=1), partials(240, seed=2)
    drums[20:60] = drums[60:100] = bass[100:140] = reference[100:140]
    where = [place(20, 60, 100), place(60, 100, 100), place(100, 140, 100)]
    shares = by_stem({"drums": drums, "bass": bass}, reference, where, seconds=SECONDS).shares
    assert shares["drums"] == pytest.approx(2 / 3, abs=0.1)
    assert by_stem({"drums": drums, "bass": bass}, reference, where[2:], seconds=SECONDS).stem == "bass"


def test_what_is_as_likely_anywhere_else_in_the_reference_carries_nothing(reference):
    # The reference holds 20 notes for 4/5 of its time. The pad holds the same while the drums play the sample.
    reference = reference.copy()
    reference[:, 40:60], reference[:336, 40:60] = 0, 200
    drums, pad = np.zeros((2, 240, BINS), np.uint8)
    drums[60:150] = reference[200:290]
    drums[:, 40:60] = 0
    pad[60:150, 40:60] = 200
    carried = by_stem({"drums": drums, "pad": pad}, reference, [place(60, 150, 200)], seconds=SECONDS)
    assert carried.shares["drums"] > 0.9


def test_where_no_stem_is_like_the_reference_nothing_is_told(reference):
    where = [place(60, 150, 200)]
    for stems in (
        {"drums": np.zeros((240, BINS), np.uint8), "bass": np.zeros((240, BINS), np.uint8)},
        {"drums": np.zeros((0, BINS), np.uint8), "bass": partials(30, seed=1)},  # the occurrence lies behind their end
    ):
        assert by_stem(stems, reference, where, seconds=SECONDS) == Carried(shares={"drums": 0, "bass": 0}, stem=None)
    told = [by_stem({"drums": partials(240, seed=s)}, reference, where, seconds=SECONDS).stem for s in range(20, 40)]
    assert told.count(None) >= 18  # what is like it by chance hardly ever reaches 3 standard deviations


def test_without_a_place_nothing_is_told_and_a_rough_place_is_refused(reference):
    stems = {"drums": partials(240, seed=1)}
    assert by_stem(stems, reference, [], seconds=SECONDS) == Carried(shares={"drums": 0.0}, stem=None)
    rough = Occurrence(query_span=(0.0, 4.0), reference_span=(3.0, 7.0))
    with pytest.raises(ValueError, match="no tempo ratio or transposition; .*--rank-by correlation"):
        by_stem(stems, reference, [rough], seconds=SECONDS)


def test_an_empty_reference_tells_nothing():
    found = by_stem({"drums": partials(240, seed=1)}, np.zeros((0, BINS), np.uint8), [place(0, 90, 0)], seconds=SECONDS)
    assert found == Carried(shares={"drums": 0.0}, stem=None)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (dict(shares={"a": 0.5}, stem="a"), "expected 0 or more with a sum of 1, or all 0"),
        (dict(shares={"a": 1.5, "b": -0.5}, stem="a"), "expected 0 or more with a sum of 1"),
        (dict(shares={"a": 1.0}, stem="b"), "stem is 'b', expected one of a, or None"),
    ],
)
def test_impossible_shares_are_refused(values, told):
    with pytest.raises(ValueError, match=told):
        Carried(**values)


def test_a_query_is_separated_once_and_only_if_it_has_matches(encoder, music, tmp_path):
    asked, waves = [], {name: music(seed, 6) for seed, name in enumerate(("drums", "bass"))}

    def separate(path, *, sample_rate):
        asked.append((path, sample_rate))
        return waves

    kept = {n: encoder.encode_waveform(wave).features for n, wave in enumerate(waves.values())}
    references = SimpleNamespace(features=lambda numbers: {n: kept[n] for n in numbers})
    find_stems = StemFinder(separate, encoder, references)
    assert find_stems(tmp_path / "song.wav", ()) == ()
    assert asked == []

    whole = Occurrence(query_span=(0.0, 5.8), reference_span=(0.0, 5.8), tempo_ratio=1.0, transposition=0.0)
    matches = [
        Match(reference=SimpleNamespace(number=n), score=200.0 - n, confidence=None, occurrences=(whole,)) for n in kept
    ]
    found = find_stems(tmp_path / "song.wav", matches)
    assert asked == [(tmp_path / "song.wav", encoder.grid.sample_rate)]
    assert [match.carried.stem for match in found] == ["drums", "bass"]  # reference 0 is the drums, 1 the bass
    assert [(m.reference.number, m.score, m.occurrences) for m in found] == [(0, 200.0, (whole,)), (1, 199.0, (whole,))]

"""Slide: sums along lines are what laying the pieces frame by frame gives, at every tempo ratio and transposition."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from reranker import slide
from reranker.slide import Asked, Lines, highest

TEMPI, TRANSPOSITIONS = np.array([0.75, 1.0, 1.3]), np.array([-2, 0, 3])


def frames(count, *, bins=12, seed=0):
    return torch.randn(count, bins, generator=torch.Generator().manual_seed(seed))


def by_hand(query, reference, *, piece, span, first, ratio, semitones):
    """Highest cosine of `span` pieces from piece `first` on, frame by frame."""
    offsets = [
        round(piece * ratio) * k + int(np.round(i * ratio)) for k in range(span) for i in range(piece)
    ]  # every piece begins a rounded length after the one before it
    mine = query[first * piece : (first + span) * piece]
    bins = query.shape[1]
    low, high = max(semitones, 0), bins + min(semitones, 0)
    mine = mine[:, low:high]
    length = round(piece * ratio) * span
    padded, best = torch.nn.functional.pad(reference, (0, 0, 0, piece)), -np.inf  # a rounded line may end a frame later
    for start in range(len(reference) - length + 1):
        met = torch.stack([padded[start + offset] for offset in offsets])
        theirs = met[:, low - semitones : high - semitones]
        norm = met.square().sum().sqrt() * mine.square().sum().sqrt()
        best = max(best, float((mine * theirs).sum() / norm))
    return best


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("piece", [4, 6])  # whole groups of four frames, and two frames over
def test_the_highest_cosines_are_those_found_frame_by_frame(piece, beside, monkeypatch):
    monkeypatch.setattr(slide, "_AT_ONCE", 2)  # so that pieces come in several portions
    query, references = frames(5 * piece + 1, seed=1), [frames(70, seed=2), frames(41, seed=3)]
    lines = Lines(TEMPI, piece)
    found = highest(
        Asked(query, TRANSPOSITIONS, piece),
        [references] if beside else [[r] for r in references],
        lines,
    )
    assert found.shape == (5, 2, 3, 3, 2)
    for (p, k, i, j, r), value in np.ndenumerate(found):
        if k == 1 and p == 4:
            assert value == -1  # the last piece begins no span of two
            continue
        warp = dict(ratio=TEMPI[i], semitones=int(TRANSPOSITIONS[j]))
        expected = by_hand(query, references[r], piece=piece, span=k + 1, first=p, **warp)
        # Quiet patches are made louder; of noise none is that quiet.
        assert value == pytest.approx(expected, abs=1e-4)


def test_a_stroke_that_a_slow_line_meets_twice_is_no_more_than_equal():
    lines = Lines(TEMPI, 8)
    twice = int(np.flatnonzero(np.diff(lines.offsets[0]) == 0)[0])
    stroke, query = torch.zeros(40, 12), torch.zeros(8, 12)
    stroke[20] = query[twice] = query[twice + 1] = torch.arange(12.0)
    found = highest(Asked(query, np.array([0]), 8), [[stroke]], lines)
    assert found[0, 0, 0, 0, 0] == pytest.approx(1)  # and not the root of two


def test_a_span_longer_than_the_reference_is_nowhere():
    lines = Lines(np.array([1.0]), 8)
    found = highest(Asked(frames(24), np.array([0]), 8), [[frames(12, seed=1)]], lines)
    assert (found[:, 0] > -1).all()
    assert (found[:, 1] == -1).all()


def test_threads_are_as_many_as_before_here_and_in_new_ones():
    before, lines = torch.get_num_threads(), Lines(np.array([1.0]), 4)
    torch.set_num_threads(2)
    try:
        highest(Asked(torch.rand(12, 10), np.array([0]), 4), [[torch.rand(30, 10)]], lines)
        with ThreadPoolExecutor(1) as pool:
            assert (torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == (2, 2)
    finally:
        torch.set_num_threads(before)

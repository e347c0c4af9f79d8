"""Arrangement: what sounds when, and which place of the reference it is."""

import numpy as np
import pytest

from evaluation.own import arrangement, recipe
from evaluation.own.digging import Dug

RATE = 22_050


def arranged(seconds: float, seed: int = 4, **decisions) -> arrangement.Run:
    wave = np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32)
    dug = Dug(wave=wave, start=5.0, end=5.0 + seconds, onsets=np.array([RATE // 2]))
    drawn = recipe.draw(np.random.default_rng(0))
    drawn = type(drawn)(**{**vars(drawn), "tempo_ratio": 1.0, "transposition": 0.0, "varispeed": False, **decisions})
    return arrangement.arrange(dug, drawn, longest=35.0, sample_rate=RATE, rng=np.random.default_rng(seed))


def test_a_loop_lasts_about_as_long_as_wanted():
    run = arranged(2.0, arrangement="loop", sounding=11.0)  # 5.5 times, rounded to 6
    assert len(run.pieces) == 6
    assert run.starts == tuple(place * 2 * RATE for place in range(6))
    assert run.length == 12 * RATE


def test_a_loop_goes_round_twice_but_never_beyond_the_longest_query():
    assert len(arranged(4.0, arrangement="loop", sounding=5.0).pieces) == 2
    assert len(arranged(12.0, arrangement="loop", sounding=24.0).pieces) == 2  # three would last 36 s


def test_gaps_are_silent_and_of_one_length():
    run = arranged(2.0, arrangement="gaps", sounding=14.0)
    steps = set(np.diff(run.starts))
    assert len(steps) == 1
    assert steps.pop() / RATE in (3.0, 4.0, 6.0)  # gaps of half, once and twice the sample


@pytest.mark.parametrize("seed", range(12))
def test_chops_cover_the_excerpt_and_are_not_in_order(seed):
    run = arranged(3.0, seed, arrangement="chops", sounding=9.0)
    spans = sorted({piece.number: piece.reference_span for piece in run.pieces}.values())
    assert 2 <= len(spans) <= 4
    assert spans[0][0] == 5.0
    assert spans[-1][1] == pytest.approx(8.0)
    assert all(end == pytest.approx(start) for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    first = [piece.number for piece in run.pieces][: len(spans)]
    assert first != sorted(first) or len(set(first)) < len(spans)


def test_a_faster_sample_is_shorter_and_names_the_same_place():
    run = arranged(3.0, arrangement="once", tempo_ratio=1.25, varispeed=True)
    (piece,) = run.pieces
    assert len(piece.wave) == round(3.0 / 1.25 * RATE)
    assert piece.reference_span == (5.0, pytest.approx(8.0))

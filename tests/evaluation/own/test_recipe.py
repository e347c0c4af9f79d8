"""Recipe: the decisions follow what Sample100's annotations tell."""

import math

import numpy as np
import pytest

from evaluation.own import recipe

RECIPES = [recipe.draw(rng) for rng in [np.random.default_rng(0)] for _ in range(4000)]


def share(fits) -> float:
    return sum(map(fits, RECIPES)) / len(RECIPES)


def test_tempo_ratios_are_mostly_near_one_and_within_the_range_of_sample100():
    # Sample100: 39 of 106 exactly 1 (.37), 62 within 5 % (.58); two standard errors of 4000 draws are .016
    assert share(lambda r: r.tempo_ratio == 1.0) == pytest.approx(0.37, abs=0.02)
    assert share(lambda r: abs(math.log(r.tempo_ratio)) <= math.log(1.05)) == pytest.approx(0.58, abs=0.02)
    assert min(r.tempo_ratio for r in RECIPES) == pytest.approx(0.75, abs=0.01)
    assert max(r.tempo_ratio for r in RECIPES) == pytest.approx(1.37, abs=0.01)


def test_lengths_have_the_median_of_sample100_and_stay_within_limits():
    lengths = [r.length for r in RECIPES]
    assert np.median(lengths) == pytest.approx(3.65, abs=0.15)
    assert 1.2 <= min(lengths) < 1.25
    assert 11.5 < max(lengths) <= 12.0


def test_varispeed_moves_pitch_with_tempo_and_other_samples_by_up_to_four_semitones():
    assert all(r.transposition == 12 * math.log2(r.tempo_ratio) for r in RECIPES if r.varispeed)
    others = [r.transposition for r in RECIPES if not r.varispeed]
    assert set(others) == {-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0}
    assert np.mean(np.array(others) == 0.0) == pytest.approx(0.7, abs=0.03)
    assert not any(r.varispeed for r in RECIPES if r.tempo_ratio == 1.0)


def test_levels_are_spread_evenly_from_minus_six_to_six():
    counts, _ = np.histogram([r.level for r in RECIPES], bins=4, range=(-6, 6))
    assert counts == pytest.approx([1000] * 4, abs=90)  # three standard errors of 27


def test_all_arrangements_are_drawn():
    assert {r.arrangement for r in RECIPES} == {"once", "loop", "gaps", "chops"}

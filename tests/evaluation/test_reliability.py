"""Reliability by hand: what bins of equal mass state, and what is right."""

import math

import numpy as np
import pytest

from evaluation import reliability
from evaluation.reliability import Bin


def test_bins_are_equally_full_and_tell_what_was_stated_and_what_is_right():
    first, second = reliability.bins([0.9, 0.1, 0.7, 0.3], [True, False, False, True], count=2)
    assert first == Bin(low=0.1, high=0.3, confidence=pytest.approx(0.2), right=1, count=2)
    assert second == Bin(low=0.7, high=0.9, confidence=pytest.approx(0.8), right=1, count=2)
    assert first.share == 0.5


def test_the_error_is_the_mean_gap_over_the_answers():
    # |1 - 0.4| of two answers and |1 - 1.6| of two answers: (0.6 + 0.6) / 4
    assert reliability.error([0.9, 0.1, 0.7, 0.3], [True, False, False, True], count=2) == pytest.approx(0.3)
    # one bin: 2 right of 4, stated 2.0 in all
    assert reliability.error([0.9, 0.1, 0.7, 0.3], [True, False, False, True], count=1) == pytest.approx(0.0)
    assert reliability.error([1.0, 0.0], [True, False]) == 0.0


def test_answers_without_confidence_take_no_part():
    assert reliability.error([0.5, math.nan], [True, True]) == pytest.approx(0.5)
    assert reliability.bins([math.nan], [True]) == ()
    assert math.isnan(reliability.error([], []))
    assert math.isnan(reliability.by_chance([math.nan]))


def test_chance_is_what_true_confidences_give():
    # One answer of 0.5 in each bin is always 0.5 off; 1,000 answers of 0.5 in ten bins: 0.8 sqrt(0.25 / 100) = 0.04
    assert reliability.by_chance(np.full(10, 0.5)) == pytest.approx(0.5)
    assert reliability.by_chance(np.full(1000, 0.5)) == pytest.approx(0.04, abs=0.003)
    assert reliability.by_chance([0.0, 1.0]) == 0.0


def test_impossible_confidences_are_refused():
    for confidences, correct in (([1.5], [True]), ([0.5], [True, False]), ([-0.1], [False])):
        with pytest.raises(ValueError, match="expected"):
            reliability.error(confidences, correct)
    with pytest.raises(ValueError, match="0 bins"):
        reliability.bins([0.5], [True], count=0)

"""Metrics as readers meet them."""

import pytest

from evaluation import metrics
from evaluation.pages import measures
from evaluation.pages.measures import MEASURES


def interval(value, low, high):
    return {"value": value, "low": low, "high": high}


def test_every_metric_has_a_name_a_unit_and_a_direction():
    assert set(MEASURES) == set(metrics.KEYS)
    assert all(measure.label and measure.unit and measure.about for measure in MEASURES.values())
    lower = {key for key, measure in MEASURES.items() if measure.better == "lower"}
    assert lower == {
        "normalised_average_rank", "false_alarm_rate", "calibration_error", "tempo_error", "transposition_error"
    }  # fmt: skip


def test_numbers_come_with_their_interval_and_differences_with_signs():
    assert measures.text(interval(0.46251, 0.3681, 0.5519)) == "0.463 [0.368, 0.552]"
    assert measures.text(interval(-0.02, -0.1, 0.06), signed=True) == "−0.020 [−0.100, +0.060]"
    assert measures.text(interval(-0.0001, -0.1, 0.0), signed=True) == "0.000 [−0.100, 0.000]"


def test_what_cannot_be_computed_is_a_dash_and_no_zero():
    assert measures.text(None) == "–"
    assert measures.mark(None, MEASURES["map"]) == ""


@pytest.mark.parametrize(
    ("key", "low", "high", "mark"),
    [
        ("map", 0.01, 0.2, "better"),
        ("map", -0.2, -0.01, "worse"),
        ("map", -0.01, 0.2, ""),
        ("map", 0.0, 0.2, ""),  # an interval that ends at 0 holds it
        ("false_alarm_rate", 0.01, 0.2, "worse"),
        ("false_alarm_rate", -0.2, -0.01, "better"),
    ],
)
def test_a_difference_is_marked_where_its_interval_excludes_0(key, low, high, mark):
    assert measures.mark(interval((low + high) / 2, low, high), MEASURES[key]) == mark

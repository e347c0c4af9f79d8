"""Measures: the metrics as readers meet them: their names, units and directions, and their numbers as text.

The definitions are in evaluation/metrics.py. What cannot be computed is a dash, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mark = Literal["", "better", "worse"]
Interval = Mapping[str, float]  # value, low, high, as in summary.json
DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric as readers meet it; its definition is in evaluation/metrics.py."""

    key: str
    label: str
    unit: str
    about: str
    group: str
    better: Literal["higher", "lower"] = "higher"


_FOUND, _OPEN, _PLACE = "Is it found?", "Is silence right?", "Is the place right?"
_RIGHT = "Are right matches explained?"  # a match is right where the first-ranked reference is
MEASURES = {
    measure.key: measure
    for measure in (
        Measure(key="map", label="mAP", unit="0-1", group=_FOUND,
                about="mean average precision over the sampled queries"),
        Measure(key="hit_rate_1", label="hit rate, first", unit="share 0-1", group=_FOUND,
                about="share of sampled queries with a sampled reference at first rank"),
        Measure(key="hit_rate_3", label="hit rate, first 3", unit="share 0-1", group=_FOUND,
                about="the same among the first 3"),
        Measure(key="hit_rate_5", label="hit rate, first 5", unit="share 0-1", group=_FOUND,
                about="the same among the first 5"),
        Measure(key="hit_rate_10", label="hit rate, first 10", unit="share 0-1", group=_FOUND,
                about="the same among the first 10"),
        Measure(key="candidate_recall", label="candidate recall", unit="share 0-1", group=_FOUND,
                about="share of the sampled references that the index returned, before any scoring"),
        Measure(key="normalised_average_rank", label="normalised average rank", unit="0-1", group=_FOUND,
                better="lower", about="share of the wrong references that stand before a sampled one"),
        Measure(key="auroc", label="AUROC", unit="0-1", group=_OPEN,
                about="probability that a sampled query scores above a sample-free one"),
        Measure(key="false_alarm_rate", label="false alarms", unit="share 0-1", group=_OPEN, better="lower",
                about="share of sample-free queries for which the system, as it is set, reports a sample"),
        Measure(key="recall_at_1_percent", label="recall at 1 % false alarms", unit="share 0-1", group=_OPEN,
                about="share of sampled queries answered rightly above the score that 1 % of sample-free ones exceed"),
        Measure(key="recall_at_5_percent", label="recall at 5 % false alarms", unit="share 0-1", group=_OPEN,
                about="the same at 5 %"),
        Measure(key="calibration_error", label="calibration error", unit="0-1", group=_OPEN, better="lower",
                about="how far stated confidences are from the share that is right, in 10 bins of equal width"),
        Measure(key="query_iou", label="span in the query", unit="IoU 0-1", group=_PLACE,
                about="overlap of found and annotated span, intersection over union, where the reference was found"),
        Measure(key="reference_iou", label="span in the reference", unit="IoU 0-1", group=_PLACE,
                about="the same in the reference"),
        Measure(key="within_1_s", label="start within 1 s", unit="share 0-1", group=_PLACE,
                about="share of found references whose strongest occurrence starts within 1 s on both sides"),
        Measure(key="tempo_error", label="tempo error, median", unit="ratio", group=_PLACE, better="lower",
                about="error of the tempo ratio, relative to the true one"),
        Measure(key="transposition_error", label="transposition error, median", unit="semitones", group=_PLACE,
                better="lower", about="error of the transposition"),
        Measure(key="right_query_iou", label="span in the query, median", unit="IoU 0-1", group=_RIGHT,
                about="overlap of found and annotated span where the first-ranked reference is right"),
        Measure(key="tempo_within_2_percent", label="tempo within 2 %", unit="share 0-1", group=_RIGHT,
                about="share of right matches with a tempo ratio within 2 % of the true one"),
        Measure(key="transposition_within_half_semitone", label="transposition within half a semitone",
                unit="share 0-1", group=_RIGHT,
                about="share of right matches; one without a stated transposition is not within"),
        Measure(key="transposition_told", label="transposition stated", unit="share 0-1", group=_RIGHT,
                about="share of right matches that state a transposition, right or wrong"),
        Measure(key="repetitions_listed", label="repetitions listed", unit="share 0-1", group=_RIGHT,
                about="share of the repetitions longer than 2 s in right matches that are listed as an occurrence of "
                "their own"),
    )
}  # fmt: skip


def text(interval: Interval | None, *, signed: bool = False) -> str:
    """ "0.463 [0.368, 0.552]"; with signs for a difference."""
    if interval is None:
        return DASH
    value, low, high = (_number(interval[key], signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def mark(difference: Interval | None, measure: Measure) -> Mark:
    """Whether a difference to the baseline is better or worse by more than chance: its interval excludes 0."""
    if difference is None or difference["low"] <= 0 <= difference["high"]:
        return ""
    return "better" if (difference["low"] > 0) == (measure.better == "higher") else "worse"


def _number(value: float, signed: bool) -> str:
    rounded = round(value, 3) + 0.0  # no negative zero
    return f"{rounded:{'+' if signed and rounded else ''}.3f}".replace("-", "−")

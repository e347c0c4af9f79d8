"""Metrics by hand: a perfect, an inverted and a shuffled system, and one that returns nothing, in every metric."""

from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics, results
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers.interface import Found, Response
from evaluation.protocols import STRICT
from reranker.rank import Occurrence

TRUE_PLACE = Occurrence(query_span=(2, 6), reference_span=(10, 14))
ONCE = {"repetitions_listed": pytest.approx(np.nan, nan_ok=True)}  # nothing is repeated here
UNKNOWN = {key: pytest.approx(np.nan, nan_ok=True) for key in ("right_query_iou", "tempo_within_2_percent",
           "transposition_within_half_semitone", "transposition_told", "repetitions_listed")}  # fmt: skip


def query(name, *references):
    """Samples each of the references at 2 to 6 s, from 10 to 14 s, at half the tempo and 6 semitones lower."""
    samples = tuple(
        Sampled(sample_id="S", reference=r, occurrences=(TRUE_PLACE,), tempo_ratio=0.5, transposition=-6.0)
        for r in references
    )
    return Query(id=name, path=Path(name), sampled=samples)


QUERIES = (query("a", "r1"), query("b", "r2", "r3"), query("c", "r4"), query("free 1"), query("free 2"))
BENCHMARK = Benchmark(
    name="by hand",
    references={f"r{i}": Path() for i in range(1, 5)},
    distractors={"r5": Path()},
    queries=QUERIES,
)


def response(order, *, top, place=TRUE_PLACE, confidence=None, candidates=None, answered=True):
    """`order` as "r1 r2": scores top, top - 1, ... ; each found at `place`."""
    found = tuple(
        Found(reference=name, score=top - i, occurrences=(place,), confidence=confidence)
        for i, name in enumerate(order.split())
    )
    return Response(found=found, candidates=frozenset(candidates or ()), answered=answered, seconds=0.0)


def evaluate(responses):
    rows = [
        results.row(query, response, system="one", benchmark=BENCHMARK, protocol=STRICT)
        for query, response in zip(QUERIES, responses, strict=True)
    ]
    frame = results.table(rows)
    return {key: float(value) for key, value in metrics.evaluate({n: frame[n].to_numpy() for n in frame}).items()}


def test_a_perfect_system_has_the_best_value_in_every_metric():
    place = Occurrence(query_span=(2, 6), reference_span=(10, 14), tempo_ratio=0.5, transposition=-6.0)
    nothing = Response(found=(), candidates=frozenset(), answered=False, seconds=0.0)
    right = {"place": place, "confidence": 1.0, "top": 9, "candidates": ["r1", "r2", "r3", "r4"]}
    responses = [response("r1", **right), response("r2 r3", **right), response("r4", **right), nothing, nothing]
    zero = {"false_alarm_rate", "calibration_error", "tempo_error", "transposition_error", "normalised_average_rank"}
    assert evaluate(responses) == {key: 0.0 if key in zero else 1.0 for key in metrics.KEYS} | ONCE


def test_an_inverted_system_has_the_values_worked_by_hand():
    elsewhere = Occurrence(query_span=(8, 10), reference_span=(30, 32), tempo_ratio=1.0, transposition=6.0)
    wrong = {"place": elsewhere, "confidence": 1.0, "top": 9}
    responses = [
        response("r2 r3 r4 r5 r1", **wrong),  # r1 at rank 5: 1/5
        response("r1 r4 r5 r2 r3", **wrong),  # r2, r3 at ranks 4, 5: (1/4 + 2/5) / 2 = 0.325
        response("r1 r2 r3 r5 r4", **wrong),  # r4 at rank 5: 1/5
        response("r1", **wrong),
        response("r2", **wrong),
    ]
    assert evaluate(responses) == pytest.approx(
        {
            "map": (0.2 + 0.325 + 0.2) / 3,
            "hit_rate_1": 0.0,
            "hit_rate_3": 0.0,
            "hit_rate_5": 1.0,  # the catalogue has five
            "hit_rate_10": 1.0,
            "candidate_recall": 0.0,
            "auroc": 0.0,  # true scores 5, 6, 5; sample-free ones 9
            "false_alarm_rate": 1.0,
            "recall_at_1_percent": 0.0,
            "recall_at_5_percent": 0.0,
            "calibration_error": 1.0,  # five answers, sure and wrong
            "query_iou": 0.0,
            "reference_iou": 0.0,
            "within_1_s": 0.0,
            "tempo_error": 1.0,  # |1 / 0.5 - 1|
            "transposition_error": 12.0,
            "normalised_average_rank": 1.0,
        }
        | UNKNOWN  # no match is right
    )


def test_a_shuffled_system_has_the_values_worked_by_hand():
    # query: 2 to 6 against 3 to 7: 3 / 5; reference: 10 to 14 against 10.5 to 14: 3.5 / 4; starts 1.0 and 0.5 s apart
    near = Occurrence(query_span=(3, 7), reference_span=(10.5, 14), tempo_ratio=0.45, transposition=-5.0)
    # 1 / 8 and 4 / 8: whole, but twice as long; starts 5 and 0 s apart
    far = Occurrence(query_span=(5, 10), reference_span=(10, 18), tempo_ratio=0.4, transposition=-6.0)
    responses = [
        response("r4 r1 r3 r5 r2", top=5, place=near, confidence=0.75, candidates=["r1"]),  # rank 2: 1/2; wrong 1 of 4
        # ranks 2, 4: (1/2 + 2/4) / 2 = 1/2; wrong ones before (1 + 2) of 3 each: 3 / 3 / 2 = 1/2
        response("r5 r3 r1 r2 r4", top=5, place=far, confidence=0.75, candidates=["r3", "r5"]),
        response("r4 r2 r1 r5 r3", top=6, place=near, confidence=0.85, candidates=["r2"]),  # rank 1
        response("r1 r2 r3 r4 r5", top=5, confidence=0.75),
        response("r5", top=3, answered=False),
    ]
    assert evaluate(responses) == pytest.approx(
        {
            "map": (0.5 + 0.5 + 1) / 3,
            "hit_rate_1": 1 / 3,
            "hit_rate_3": 1.0,
            "hit_rate_5": 1.0,
            "hit_rate_10": 1.0,
            "candidate_recall": (1 + 1 / 2 + 0) / 3,
            "auroc": (1 + 1 + 2) / 6,  # true scores 4, 4, 6 against 5, 3
            "false_alarm_rate": 1 / 2,
            "recall_at_1_percent": 1 / 3,  # none of the two may be exceeded: above 5, only the third
            "recall_at_5_percent": 1 / 3,
            "calibration_error": (3 * 0.75 + 0.15) / 4,  # three wrong ones in bin 0.7, a right one in bin 0.8
            "query_iou": (3 / 5 + 1 / 8 + 3 / 5) / 3,
            "reference_iou": (7 / 8 + 1 / 2 + 7 / 8) / 3,
            "within_1_s": 2 / 3,
            "tempo_error": 0.1,  # 0.1, 0.2, 0.1
            "transposition_error": 1.0,  # 1, 0, 1
            "normalised_average_rank": (1 / 4 + 1 / 2 + 0) / 3,
            # only the third is right: 0.1 off in tempo, a semitone in pitch
            "right_query_iou": 3 / 5,
            "tempo_within_2_percent": 0.0,
            "transposition_within_half_semitone": 0.0,
            "transposition_told": 1.0,
        }
        | ONCE
    )


def test_what_cannot_be_computed_is_nan():
    nothing = Response(found=(), candidates=None, answered=False, seconds=0.0)
    values = evaluate([nothing] * 5)
    unknown = {key for key, value in values.items() if np.isnan(value)}
    assert unknown == {
        "candidate_recall", "calibration_error", "query_iou", "reference_iou", "within_1_s", "tempo_error",
        "transposition_error", *UNKNOWN,
    }  # fmt: skip
    assert values["auroc"] == 0.5  # everything is -inf: ties
    assert values["normalised_average_rank"] == 1.0
    assert values["map"] == values["recall_at_5_percent"] == values["false_alarm_rate"] == 0.0

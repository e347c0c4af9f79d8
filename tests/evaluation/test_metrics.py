"""Metrics: each by hand and against plain loops; a whole system in every metric is in test_metrics_by_hand.py."""

from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics

FIXTURE = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews" / "map_nar.npz"


def test_what_is_not_returned_lowers_average_precision_and_rank():
    assert metrics.average_precision([True], 2) == 0.5
    assert metrics.average_precision([], 2) == 0.0
    # the one found is first, the lost one behind all 8 wrong ones: (0 + 8/8) / 2
    assert metrics.normalised_rank([True], 2, catalogue=10) == 0.5
    assert metrics.hit_rate([], 1, top=10) == 0.0
    assert np.isnan(metrics.best_rank([False]))


def test_sample_free_queries_have_no_rank_metrics():
    values = metrics.average_precision([False], 0), metrics.hit_rate([False], 0, top=1)
    values += metrics.normalised_rank([False], 0, catalogue=9), metrics.candidate_recall({"r"}, ())
    assert np.isnan(values).all()


def test_average_precision_over_the_found_and_within_a_cut():
    hits = [False, True, False, True]  # precisions 1/2 and 2/4
    assert metrics.average_precision(hits, 4) == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert metrics.average_precision(hits, 4, divide_by="found") == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics.average_precision(hits, 4, divide_by="found", cut=3) == 0.5
    assert metrics.average_precision(hits, 4, divide_by="found", cut=1) == 0.0


def test_equal_scores_share_the_area_under_the_curve():
    assert metrics.auroc([1, 2], [1, 0]) == (0.5 + 1 + 1 + 1) / 4
    assert metrics.auroc([-np.inf, 3], [-np.inf]) == (0.5 + 1) / 2
    assert np.isnan(metrics.auroc([], [1.0]))
    assert np.isnan(metrics.auroc([1.0], []))


def test_the_threshold_lets_no_more_false_alarms_through_than_allowed():
    negatives = np.arange(1.0, 101.0)  # 1 to 100
    assert metrics.threshold_at(negatives, false_alarms=0.01) == 99.0  # one of them, 100, is above
    assert metrics.threshold_at(negatives, false_alarms=0.05) == 95.0
    assert metrics.threshold_at(negatives, false_alarms=0.29) == 71.0  # 0.29 * 100 is 28.999... in floating point
    assert metrics.threshold_at(negatives[:99], false_alarms=0.01) == 99.0  # 0.99 of one: none may be above
    assert metrics.threshold_at([7, 7, 7, 1], false_alarms=0.25) == 7.0  # all three or none
    assert metrics.threshold_at([-np.inf, -np.inf], false_alarms=0.01) == -np.inf  # nothing was returned
    assert np.isnan(metrics.threshold_at([], false_alarms=0.01))


def test_recall_counts_right_answers_strictly_above_the_threshold():
    recall = metrics.recall_at_false_alarms
    correct = [True, True, False, True]
    assert recall([5, 3, 9, 6], correct, [5, 1], false_alarms=0.01) == 1 / 4  # above 5: the last, and the wrong third
    assert recall([5, 3, 9, 6], correct, [5, 1], false_alarms=0.5) == 3 / 4  # above 1
    assert recall([5, -np.inf], [True, False], [-np.inf], false_alarms=0.01) == 1 / 2
    assert np.isnan(recall([5.0], [True], [], false_alarms=0.01))


def test_calibration_is_perfect_where_the_share_is_the_confidence():
    correct = [True, True, True, False] + [True, False]
    assert metrics.calibration_error([0.75] * 4 + [0.5] * 2, correct) == pytest.approx(0.0)
    assert metrics.calibration_error([0.0, 1.0, np.nan], [False, True, False]) == 0.0  # 1.0 is in the last bin
    # 0.72 and 0.78 share a bin: |1/2 - 0.75|; 0.2: |1 - 0.2|; weighted 2/3 and 1/3
    assert metrics.calibration_error([0.72, 0.78, 0.2], [True, False, True]) == pytest.approx(0.5 / 3 + 0.8 / 3)


def test_medians_and_means_leave_out_what_is_unknown():
    assert metrics.median([3.0, np.nan, 1.0]) == 2.0
    assert metrics.median([3.0, np.nan, 1.0, 10.0]) == 3.0
    assert metrics.mean([1.0, np.nan, 0.0]) == 0.5
    assert np.isnan(metrics.mean([np.nan]))
    assert np.isnan(metrics.median([np.nan]))
    assert np.array_equal(metrics.median([5.0, 1.0], np.array([[1.0, 3.0], [0, 0]])), [1.0, np.nan], equal_nan=True)


def test_ranking_metrics_agree_with_plain_loops():
    rng = np.random.default_rng(0)
    for _ in range(200):
        catalogue, relevant = int(rng.integers(6, 30)), int(rng.integers(1, 5))
        truth = np.zeros(catalogue, bool)
        truth[:relevant] = True
        hits = rng.permutation(truth)[: rng.integers(0, catalogue + 1)].tolist()
        precision = rank_sum = seen = 0.0
        for rank, hit in enumerate(hits, start=1):
            if hit:
                seen += 1
                precision += seen / rank
                rank_sum += rank - seen
        rank_sum += (relevant - seen) * (catalogue - relevant)
        assert metrics.average_precision(hits, relevant) == pytest.approx(precision / relevant)
        expected = rank_sum / (relevant * (catalogue - relevant))
        assert metrics.normalised_rank(hits, relevant, catalogue=catalogue) == pytest.approx(expected)
        assert metrics.hit_rate(hits, relevant, top=3) == float(True in hits[:3])


def test_detection_metrics_agree_with_plain_loops():
    rng = np.random.default_rng(1)
    for _ in range(100):
        positives, negatives = (rng.integers(0, 8, rng.integers(1, 30)).astype(float) for _ in range(2))
        correct = rng.random(len(positives)) < 0.6
        wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
        assert metrics.auroc(positives, negatives) == pytest.approx(wins / len(positives) / len(negatives))
        allowed = [t for t in negatives if sum(n > t for n in negatives) <= 0.05 * len(negatives)]
        right = sum(bool(c) and p > min(allowed) for p, c in zip(positives, correct))
        found = metrics.recall_at_false_alarms(positives, correct, negatives, false_alarms=0.05)
        assert found == pytest.approx(right / len(positives))


def test_counts_mean_the_same_as_repeating_the_queries():
    rng = np.random.default_rng(2)
    columns = made_columns(rng, sampled=25, free=12)
    counts = rng.integers(0, 4, (20, 37)).astype(float)
    drawn = metrics.evaluate(columns, counts)
    for row, times in enumerate(counts.astype(int)):
        repeated = metrics.evaluate({name: np.repeat(values, times) for name, values in columns.items()})
        assert {k: v[row] for k, v in drawn.items()} == pytest.approx(repeated, nan_ok=True)


RIGHT = ("right_query_iou", "tempo_within_2_percent", "transposition_within_half_semitone", "transposition_told",
         "repetitions_listed")  # fmt: skip


def right_matches(**changes):
    """Five sampled queries, the last one's match wrong, and a sample-free one."""
    columns = made_columns(np.random.default_rng(3), sampled=5, free=1) | {
        "correct": np.array([True, True, True, True, False, False]),
        "query_iou": np.array([0.9, 0.8, 0.5, np.nan, 0.1, np.nan]),
        "tempo_ratio": np.array([1.1, 1.1, 1.1, np.nan, 1.1, np.nan]),  # of the fourth unknown
        "tempo_error": np.array([0.02, 0.03, np.nan, np.nan, 0.0, np.nan]),
        "transposition": np.array([2.0, 2.0, 2.0, 2.0, 2.0, np.nan]),
        "transposition_error": np.array([0.5, 12.0, 0.1, np.nan, 0.0, np.nan]),
        "repetitions": np.array([4.0, 0.0, 2.0, 3.0, 8.0, np.nan]),
        "repetitions_listed": np.array([3.0, 0.0, 2.0, np.nan, 8.0, np.nan]),
    }
    values = metrics.evaluate(columns | changes)
    return [float(values[key]) for key in RIGHT]


def test_right_matches_are_measured_without_the_wrong_one():
    # the middle of 0.5, 0.8, 0.9; one of three known tempos, as one is not stated; 0.5 and 0.1 of four; three of four
    # state one; 5 of 4 + 2 + 3, as the places of the fourth are not stated
    assert right_matches() == pytest.approx([0.8, 1 / 3, 2 / 4, 3 / 4, 5 / 9])


def test_what_no_right_match_states_is_unknown_and_not_zero():
    unknown = np.full(6, np.nan)
    silent = {"query_iou": unknown, "tempo_error": unknown, "transposition_error": unknown}
    silent["repetitions_listed"] = unknown
    iou, tempo, pitch, told, listed = right_matches(**silent)
    assert np.isnan([iou, tempo, pitch, listed]).all()
    assert told == 0.0  # none of the four states a transposition: this is known
    assert np.isnan(right_matches(correct=np.zeros(6, bool))).all()
    assert np.isnan(right_matches(repetitions=unknown * 0, repetitions_listed=unknown * 0)[-1])
    assert np.isnan(right_matches(transposition=unknown, transposition_error=unknown)[3])  # nobody knows the truth


def test_rows_of_runs_without_repetitions_are_still_read():
    columns = made_columns(np.random.default_rng(3), sampled=9, free=2)
    older = {name: values for name, values in columns.items() if not name.startswith("repetitions")}
    values = metrics.evaluate(older)
    assert np.isnan(values.pop("repetitions_listed"))
    assert values == pytest.approx({key: metrics.evaluate(columns)[key] for key in values}, nan_ok=True)


def made_columns(rng, *, sampled, free):
    """Random rows with everything in them: losses, ties, unknown values."""
    count = sampled + free
    of = np.arange(count) < sampled

    def some(share, values):
        return np.where(rng.random(count) < share, values, np.nan)

    shares = {name: np.where(of, some(0.9, rng.random(count)), np.nan) for name in metrics._SHARES}
    errors = {name: np.where(of, some(0.6, rng.exponential(1, count)), np.nan) for name in metrics._ERRORS}
    return shares | errors | {
        "ap": np.where(of, rng.random(count), np.nan),
        "confidence": some(0.8, rng.random(count)),
        "relevant": of.astype(int),
        "top_score": some(0.9, rng.integers(0, 9, count)),
        "true_score": np.where(of, some(0.7, rng.integers(0, 9, count)), np.nan),
        "answered": rng.random(count) < 0.5,
        "correct": of & (rng.random(count) < 0.5),
        "tempo_ratio": np.where(of, some(0.7, 1.1), np.nan),
        "transposition": np.where(of, some(0.7, 2.0), np.nan),
        "repetitions": np.where(of, 5.0, np.nan),
        "repetitions_listed": np.where(of, some(0.6, rng.integers(0, 6, count)), np.nan),
    }  # fmt: skip


def test_average_precision_and_rank_agree_with_recorded_values_of_clews():
    if not FIXTURE.is_file():
        pytest.skip("the folder shared, with the recorded values, is not beside the checkout")
    recorded = np.load(FIXTURE)
    for row, distances in enumerate(recorded["dist"]):
        others = recorded["ids"] != recorded["query_ids"][row]
        relevant = recorded["labels"] == recorded["labels"][recorded["ids"] == recorded["query_ids"][row]]
        hits = relevant[others][np.argsort(distances[others], kind="stable")]
        assert metrics.average_precision(hits, hits.sum()) == pytest.approx(recorded["ap"][row], abs=1e-6)
        assert metrics.best_rank(hits) == recorded["r1"][row]
        rank = metrics.normalised_rank(hits, hits.sum(), catalogue=len(hits))
        assert 100 * rank == pytest.approx(recorded["nar_paper"][row], abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.average_precision([True, True], 1), "2 hits in a ranking, expected at most the 1 relevant"),
        (lambda: metrics.normalised_rank([False] * 4, 1, catalogue=4), "4 references ranked, expected at most"),
        (lambda: metrics.auroc([np.nan], [1.0]), "a score is NaN, expected a number; use -inf"),
        (lambda: metrics.threshold_at([1.0], false_alarms=5), "share of false alarms is 5, .* 5 % is 0.05"),
        (lambda: metrics.mean([1.0, 2.0], np.ones((3, 1))), "counts of 1 queries for 2 values"),
    ],
)
def test_impossible_input_is_refused_with_value_and_expectation(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ap", 1.5, "ap is 1.5, expected 0 to 1"),
        ("start_error", -1.0, "start_error is -1.0, expected 0 or more"),
        ("tempo_error", np.inf, "tempo_error is inf"),
        ("ap", np.nan, "ap is known for another set of queries"),
        ("relevant", 0, "ap is known for another set of queries"),
        ("repetitions_listed", 6.0, "repetitions_listed is not within 0 and repetitions"),
        ("repetitions_listed", -1.0, "repetitions_listed is not within 0 and repetitions"),
    ],
)
def test_impossible_columns_are_refused(column, value, message):
    columns = made_columns(np.random.default_rng(3), sampled=4, free=2)
    columns[column] = np.append([value], columns[column][1:])
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(columns)


def test_a_missing_short_or_contradicting_column_is_refused():
    columns = made_columns(np.random.default_rng(3), sampled=4, free=2)
    with pytest.raises(ValueError, match="'answered' is missing"):
        metrics.validate({name: values for name, values in columns.items() if name != "answered"})
    with pytest.raises(ValueError, match="differ in length"):
        metrics.validate(columns | {"correct": columns["correct"][:3]})
    with pytest.raises(ValueError, match="sample-free query has a correct answer"):
        metrics.validate(columns | {"correct": np.ones(6, bool)})

"""Bootstrap: intervals against closed forms, strata and groups, paired differences, and its speed."""

import time

import numpy as np
import pytest

from evaluation import bootstrap, metrics
from evaluation.bootstrap import Estimate, Interval


def columns(*, sampled=60, free=40, seed=0, shift=0.0):
    """A system without losses; `shift` raises its hit rate."""
    rng = np.random.default_rng(seed)
    count = sampled + free
    of = np.arange(count) < sampled
    ease = rng.random(count) + shift
    values = {name: np.where(of, ease.clip(0, 1), np.nan) for name in (*metrics._SHARES, *metrics._ERRORS)}
    values |= {f"hit_{n}": np.where(of, ease > 0.6, np.nan) for n in (1, 3, 5, 10)}
    return values | {
        "query": np.array([f"q{i:03d}" for i in range(count)]),
        "relevant": of.astype(int),
        "confidence": rng.random(count),
        "top_score": ease + of,
        "true_score": np.where(of, ease + of, np.nan),
        "answered": ease > 0.5,
        "correct": of & (ease > 0.6),
        "tempo_ratio": np.where(of, 1.0, np.nan),
        "transposition": np.where(of, 0.0, np.nan),
        "repetitions": np.where(of, 2.0, np.nan),
        "repetitions_listed": np.where(of, np.where(ease > 0.8, 2.0, 1.0), np.nan),
    }


def test_the_interval_of_a_share_is_the_binomial_one():
    system = columns(sampled=100)
    system["hit_1"][:100] = np.arange(100) < 40
    interval = bootstrap.intervals(system, seed=1, draws=5_000)["hit_rate_1"]
    assert interval.value == 0.4
    # standard error sqrt(0.4 * 0.6 / 100) = 0.049; 0.4 -+ 1.96 * 0.049
    assert (interval.low, interval.high) == pytest.approx((0.304, 0.496), abs=0.011)


def test_the_interval_of_a_median_holds_the_middle_ranks():
    system = columns(sampled=100)
    system["tempo_error"][:100] = np.arange(1.0, 101.0)
    interval = bootstrap.intervals(system, seed=1, draws=5_000)["tempo_error"]
    assert interval.value == 50.5
    # ranks 50.5 -+ 1.96 * sqrt(100) / 2
    assert (interval.low, interval.high) == pytest.approx((40.7, 60.3), abs=1.3)


def test_the_interval_of_the_auroc_is_about_that_of_hanley_and_mcneil():
    rng = np.random.default_rng(4)
    system = columns(sampled=200, free=200)
    system["true_score"][:200] = rng.normal(1.0, 1.0, 200)
    system["top_score"][200:] = rng.normal(0.0, 1.0, 200)
    interval = bootstrap.intervals(system, seed=1)["auroc"]
    a = interval.value
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + 199 * (q1 - a * a) + 199 * (q2 - a * a)) / 200**2)
    assert (interval.high - interval.low) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(150):
        hits = (rng.random(60) < 0.3).astype(float)
        counts = bootstrap.draw(np.ones(60, bool), seed=trial, draws=300)
        interval = Estimate(value=float(hits.mean()), drawn=metrics.mean(hits, counts)).interval
        held += interval.low <= 0.3 <= interval.high
    assert 0.90 <= held / 150 <= 0.99


def test_sampled_and_sample_free_queries_are_drawn_apart():
    sampled = np.arange(30) < 20
    counts = bootstrap.draw(sampled, seed=1, draws=500)
    assert counts.shape == (500, 30)
    assert (counts[:, sampled].sum(axis=1) == 20).all()
    assert (counts[:, ~sampled].sum(axis=1) == 10).all()
    assert counts.mean() == pytest.approx(1.0)
    assert counts.var() == pytest.approx(0.95, abs=0.05)  # 20 * 1/20 * 19/20 in the larger part


def test_excerpts_of_one_query_are_drawn_together():
    groups = np.repeat(["a", "b", "c", "d"], [5, 1, 3, 1])
    counts = bootstrap.draw([True] * 9 + [False], seed=1, draws=200, groups=groups)
    for name in "abcd":
        assert (counts[:, groups == name] == counts[:, groups == name][:, :1]).all()
    assert (counts[:, [0, 5, 6]].sum(axis=1) == 3).all()  # three groups with a sample
    assert (counts[:, 9] == 1).all()  # the only one without


def test_ten_copies_of_every_query_make_the_interval_no_narrower():
    hits = (np.random.default_rng(3).random(50) < 0.5).astype(float)
    copies, groups = np.repeat(hits, 10), np.repeat(np.arange(50), 10)

    def width(counts, values):
        interval = Estimate(value=0.5, drawn=metrics.mean(values, counts)).interval
        return interval.high - interval.low

    single = width(bootstrap.draw(hits >= 0, seed=1), hits)
    assert width(bootstrap.draw(copies >= 0, seed=1, groups=groups), copies) == pytest.approx(single, rel=0.1)
    assert width(bootstrap.draw(copies >= 0, seed=1), copies) < single / 2.5  # as if they were 500


def test_one_seed_gives_one_interval_and_another_seed_another():
    system = columns()
    assert bootstrap.intervals(system, seed=1) == bootstrap.intervals(system, seed=1)
    assert bootstrap.intervals(system, seed=1)["map"] != bootstrap.intervals(system, seed=2)["map"]


def test_every_metric_has_an_interval_around_its_value():
    for key, interval in bootstrap.intervals(columns(), seed=1).items():
        assert interval.low <= interval.value <= interval.high or key == "calibration_error"  # biased upwards by chance
    assert list(bootstrap.intervals(columns(), seed=1)) == list(metrics.KEYS)


def test_what_cannot_be_computed_has_no_interval():
    intervals = bootstrap.intervals(columns(free=0), seed=1)
    without = {key for key, interval in intervals.items() if interval is None}
    assert without == {"auroc", "false_alarm_rate", "recall_at_1_percent", "recall_at_5_percent"}


def test_a_metric_known_of_few_queries_uses_the_draws_that_have_one():
    system = columns()
    system["tempo_error"] = np.where(np.arange(100) == 0, 0.25, np.nan)
    assert bootstrap.intervals(system, seed=1)["tempo_error"] == Interval(value=0.25, low=0.25, high=0.25)


def test_a_paired_difference_is_narrower_than_its_two_intervals():
    better, worse = columns(shift=0.1), columns()  # the same queries are hard for both
    difference = bootstrap.differences(better, worse, seed=1)["map"]
    mine, other = (bootstrap.intervals(system, seed=1)["map"] for system in (better, worse))
    assert difference.value == pytest.approx(mine.value - other.value)
    assert difference.low > 0
    assert difference.high - difference.low < (mine.high - mine.low) / 3


def test_a_system_does_not_differ_from_itself():
    for difference in bootstrap.differences(columns(), columns(), seed=1).values():
        assert difference == Interval(value=0.0, low=0.0, high=0.0)


def test_systems_that_answered_other_queries_are_not_compared():
    other = columns() | {"query": np.array([f"q{i:03d}" for i in range(1, 101)])}
    with pytest.raises(ValueError, match="has query 'q000', expected the same"):
        bootstrap.differences(columns(), other, seed=1)
    with pytest.raises(ValueError, match="ordered differently; sort both by query"):
        bootstrap.differences(columns(), columns() | {"query": columns()["query"][::-1]}, seed=1)
    with pytest.raises(ValueError, match="judged by different truths"):
        bootstrap.differences(columns(sampled=50, free=50), columns(), seed=1)


def test_impossible_draws_are_refused():
    with pytest.raises(ValueError, match="0 draws, expected at least 1"):
        bootstrap.draw([True], seed=1, draws=0)
    with pytest.raises(ValueError, match="2 groups for 1 queries"):
        bootstrap.draw([True], seed=1, groups=["a", "b"])


def test_four_systems_of_a_hundred_queries_take_less_than_a_second():
    systems = [columns(seed=seed) for seed in range(4)]
    start = time.process_time()
    counts = bootstrap.draw(systems[0]["relevant"] > 0, seed=1)
    for system in systems:
        assert all(estimate.interval for estimate in bootstrap.estimates(system, counts).values())
    assert time.process_time() - start < 1.0  # measured 0.05 s of CPU; a loop over draws and metrics takes seconds

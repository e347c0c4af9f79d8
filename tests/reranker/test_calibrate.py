"""Calibrating: on made-up rankings, confidences hold and false alarms are as rare as asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from reranker import calibrate, confidence
from reranker.calibrate import Ranked, fit
from reranker.confidence import NOTHING, CalibrationError


def made(count, *, seed, share=0.75, found=0.7, gain=2.5, lengths=(20.0,)):
    """Queries with a heavy-tailed background of 30 references that grows with length; a sample stands out by e^gain."""
    rng = np.random.default_rng(seed)
    ranked = []
    for number in range(count):
        samples = rng.random() < share
        listed = samples and rng.random() < found
        for seconds in lengths:
            scores = np.exp(0.5 * np.log(seconds) + rng.normal(0, 0.4) + rng.gumbel(0, 0.5, 30))
            right = np.zeros(30, bool)
            if listed:
                right[0] = True
                scores[0] *= np.exp(gain + rng.normal(0, 1.0))
            order = np.argsort(-scores)
            name = f"{seed} {number}"
            ranked.append(
                Ranked(
                    query=name, seconds=seconds, scores=tuple(scores[order]), right=tuple(right[order]),
                    sampled=samples, whole=seconds == lengths[0],
                )
            )  # fmt: skip
    return ranked


def fitted(ranked, **options):
    return fit(ranked, encoder="abc", scoring={}, **options)


def best(calibration, ranked):
    """Confidence of each query's best answer, and whether it is right."""
    rows = [calibration.confidences(confidence.of_ranking(r.scores, seconds=r.seconds))[0] for r in ranked]
    return np.array(rows), np.array([r.right[0] for r in ranked])


@pytest.fixture(scope="module")
def half():
    return fitted(made(400, seed=1))


def test_confidences_hold_on_queries_that_were_not_used(half):
    stated, correct = best(half.calibration, made(2000, seed=2))
    assert correct.mean() == pytest.approx(stated.mean(), abs=0.03)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        inside = (stated >= low) & (stated < high)
        assert inside.sum() > 50
        assert correct[inside].mean() == pytest.approx(stated[inside].mean(), abs=0.1)


def test_false_alarms_are_as_rare_as_asked_for(half):
    stated, _ = best(half.calibration, made(2000, seed=3, share=0.0))
    for rate in (0.01, 0.05, 0.2):
        # the bar rests on 400 queries, so the true rate at 5 % is 5 % +- 2.2 % (two standard errors)
        spread = 2.5 * math.sqrt(rate * (1 - rate) / 400)
        assert (stated > half.calibration.threshold(rate)).mean() == pytest.approx(rate, abs=spread)


def test_all_lengths_are_served_alike():
    lengths = (20.0, 5.0, 180.0)
    calibration = fitted(made(900, seed=4, lengths=lengths)).calibration
    for seconds in lengths:
        stated, correct = best(calibration, [r for r in made(1500, seed=5, lengths=lengths) if r.seconds == seconds])
        assert stated.mean() == pytest.approx(correct.mean(), abs=0.05)
        free, _ = best(calibration, [r for r in made(1500, seed=6, share=0.0, lengths=lengths) if r.seconds == seconds])
        assert 0.02 < (free > calibration.threshold(0.05)).mean() < 0.09
    assert calibration.range["seconds"] == (5.0, 180.0)


def test_every_query_is_a_draw_of_the_best_wrong_answer_and_versions_share_it():
    ranked = made(60, seed=7, lengths=(20.0, 5.0))
    calibration = fitted(ranked).calibration
    assert len(calibration.false) == 60
    assert {len(versions) for versions in calibration.false} == {2}
    query = next(r for r in ranked if r.right[0])
    ordered = [r.query for r in [*(r for r in ranked if not r.sampled), *(r for r in ranked if r.sampled)]]
    place = list(dict.fromkeys(ordered)).index(query.query)
    wrong = confidence.of_ranking(query.withheld.scores, seconds=query.seconds)[0]  # the second is the best
    assert calibration.confidence(wrong) == pytest.approx(1 / (1 + math.exp(-calibration.false[place][0])))


def test_a_query_is_judged_by_a_model_that_did_not_see_it():
    ranked = made(200, seed=8)
    whole = fitted(ranked)
    # Truth turned upside down in every fifth query changes the model for the others, but not how these are judged.
    inside = np.array([n % 5 == 2 for n in range(200)])
    lied = [
        replace(r, right=r.right[::-1], sampled=True) if hidden and r.right[0] else r
        for r, hidden in zip(ranked, inside, strict=True)
    ]
    other = fitted(lied)
    # To 1e-9: sums over arrays that lie elsewhere in memory may differ in their last bits.
    assert np.allclose(whole.held.confidences[inside], other.held.confidences[inside], rtol=0, atol=1e-9)
    assert not np.allclose(whole.held.confidences[~inside], other.held.confidences[~inside], rtol=0, atol=1e-3)


def test_a_withheld_truth_leaves_as_many_references_so_that_their_number_tells_nothing():
    ranked = Ranked(query="a", seconds=20.0, scores=(9.0, 5.0, 1.0), right=(True, False, False), sampled=True)
    assert ranked.withheld.scores == (5.0, 1.0, 0.0)
    assert ranked.withheld.right == (False,) * 3
    related = replace(ranked, related=(True, True, False))  # the second may be another version of the first
    assert related.withheld.scores == (1.0, 0.0, 0.0)
    result = fitted(made(200, seed=20))
    assert "listed" not in result.calibration.model.features


def test_more_queries_without_a_sample_lower_every_confidence():
    ranked = made(300, seed=9)
    usual, rare = (fitted(ranked, sampled=share).calibration for share in (0.75, 0.1))
    row = confidence.of_ranking((60.0, 20.0, 10.0), seconds=20.0)[0]
    assert rare.confidence(row) < usual.confidence(row) - 0.1


def test_of_features_that_add_nothing_the_simplest_are_taken(half):
    assert half.calibration.model.features[:2] == ("score", "rival")
    alike = np.zeros(50)
    assert calibrate._simplest({("a",): alike + 0.5, ("a", "b"): alike + 0.4}) == ("a", "b")
    noisy = np.where(np.arange(50) % 2, 3.0, -3.0)  # differs by 0.01 +- 3: one standard error is 0.42
    assert calibrate._simplest({("a",): alike + 0.5, ("a", "b"): alike + 0.49 + noisy}) == ("a",)


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(0)
    design, right, counts = rng.normal(size=(20, 3)), rng.integers(0, 2, 20).astype(float), rng.random(20)
    at = rng.normal(size=3)
    _, gradient = calibrate._objective(at, design, right, counts)
    for place in range(3):
        step = np.eye(3)[place] * 1e-6
        ahead, behind = (calibrate._objective(at + sign * step, design, right, counts)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((ahead - behind) / 2e-6, abs=1e-5)


def test_the_interval_of_a_threshold_holds_it_and_narrows_with_queries():
    few, many = ([(float(v),) for v in np.random.default_rng(1).normal(-2, 1, n)] for n in (60, 600))
    widths = []
    for false in (few, many):
        low, high = calibrate.interval(false, 0.1, draws=300)
        assert low <= confidence.of_log_odds(confidence.bar(false, 0.1)) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_queries_for_which_nothing_was_found_count_as_wrong_and_silent():
    ranked = made(100, seed=10)
    empty = Ranked(query="e", seconds=20.0, scores=(), right=(), sampled=True)
    result = fitted([*ranked, empty])
    assert (NOTHING,) in result.calibration.false
    assert result.held.confidences[-1] < 1e-9
    assert not result.held.correct[-1]


def test_too_few_queries_of_either_kind_are_refused():
    with pytest.raises(CalibrationError, match="calibrate with more queries"):
        fitted(made(12, seed=11))
    with pytest.raises(CalibrationError, match="0 best answers are right, 200 are wrong"):
        fitted(made(200, seed=12, share=0.0))
    with pytest.raises(CalibrationError, match="of 1 queries"):
        fitted([replace(r, query="all") for r in made(100, seed=13)])


def test_an_impossible_ranking_is_refused():
    with pytest.raises(ValueError, match="falling row"):
        Ranked(query="a", seconds=1.0, scores=(1.0, 2.0), right=(False, False), sampled=False)
    with pytest.raises(ValueError, match="samples nothing"):
        Ranked(query="a", seconds=1.0, scores=(1.0,), right=(True,), sampled=False)

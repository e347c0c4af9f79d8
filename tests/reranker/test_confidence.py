"""Confidence: from evidence to a probability and a bar, computed by hand; a file that is refused where it must be."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from encoder.encode import Encoder
from reranker import confidence, verify
from reranker.confidence import NOTHING, Calibration, CalibrationError, Evidence, Model
from reranker.correlate import Correlation, Correlator
from reranker.rank import Ranking

# log odds = 2 (log(1 + score) - 3) / 1 - 1 (log(1 + rival) - 2) / 0.5 + 0.5
MODEL = Model(features=("score", "rival"), means=(3.0, 2.0), spreads=(1.0, 0.5), weights=(2.0, -1.0), intercept=0.5)
CALIBRATION = Calibration(
    encoder="abc",
    scoring={"by": "correlation"},
    sampled=0.75,
    model=MODEL,
    false=tuple((float(n),) for n in range(300)),
    range={"seconds": (5.0, 120.0), "listed": (20.0, 60.0)},
    provenance={"seeds": [0]},
)


def evidence(score, rival, *, seconds=20.0, listed=30):
    return Evidence(score=score, rival=rival, seconds=seconds, listed=listed)


def test_the_rival_is_the_second_best_of_the_others_or_the_only_one():
    rows = confidence.of_ranking([5.0, 9.0, 2.0, 7.0, 1.0], seconds=8.0)
    assert [(r.score, r.rival) for r in rows] == [(5.0, 7.0), (9.0, 5.0), (2.0, 7.0), (7.0, 5.0), (1.0, 7.0)]
    assert {(r.seconds, r.listed) for r in rows} == {(8.0, 5)}
    assert [r.rival for r in confidence.of_ranking([4.0, 4.0], seconds=1.0)] == [4.0, 4.0]
    assert confidence.of_ranking([4.0], seconds=1.0)[0].rival is None
    assert confidence.of_ranking([], seconds=1.0) == ()
    assert [r.listed for r in confidence.of_ranking([4.0, 3.0], seconds=1.0, listed=900)] == [900, 900]


def test_two_samples_of_one_query_do_not_speak_against_each_other():
    alone, *_ = confidence.of_ranking([800.0, 9.0, 9.0, 9.0], seconds=20.0)
    first, second, *_ = confidence.of_ranking([800.0, 800.0, 9.0, 9.0], seconds=20.0)
    assert {one.rival for one in (alone, first, second)} == {9.0}


def test_a_confidence_is_the_logistic_function_of_the_weighted_logarithms():
    row = evidence(math.e**4 - 1, math.e**2.5 - 1)  # logarithms 4 and 2.5: 2 * 1 - 1 * (0.5 / 0.5) + 0.5 = 1.5
    assert CALIBRATION.confidence(row) == pytest.approx(1 / (1 + math.exp(-1.5)))
    lonely = evidence(math.e**4 - 1, None, listed=1)  # the rival is the usual one: 2 * 1 + 0.5 = 2.5
    assert CALIBRATION.confidence(lonely) == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert CALIBRATION.confidences([]).shape == (0,)


def test_what_scores_less_is_never_surer_and_equal_evidence_is_equally_sure():
    three = dict(features=("score", "rival", "seconds"), means=(7.6, 2.8, 2.6), spreads=(3.7, 0.8, 0.6))
    model = replace(MODEL, **three, weights=(6.8, -0.87, -0.44), least=(1.6, 1.3, 1.7))
    for seed in range(30):
        scores = np.sort(np.random.default_rng(seed).gamma(1, 2, 200 + seed))[::-1]
        odds = model.log_odds(confidence.features(confidence.of_ranking(scores.tolist(), seconds=20.0)))
        assert (np.diff(odds) <= 0).all()
        assert len(set(odds[np.log1p(scores) < 1.6][2:])) == 1  # as faint as the faintest of the fit


def test_a_background_fainter_than_any_in_the_fit_makes_nothing_surer():
    bounded = replace(CALIBRATION, model=replace(MODEL, least=(0.5, 2.0)))
    faint, faintest = (bounded.confidence(evidence(math.e**4 - 1, math.e**rival - 1)) for rival in (2.0, 0.1))
    assert faint == pytest.approx(faintest)
    assert bounded.confidence(evidence(math.e**4 - 1, math.e**2.1 - 1)) < faint
    assert CALIBRATION.confidence(evidence(math.e**4 - 1, math.e**0.1 - 1)) > faint
    with pytest.raises(CalibrationError, match="expected a mean, a spread and a weight"):
        replace(MODEL, least=(0.5,))


def test_of_one_query_the_better_score_has_the_higher_confidence():
    scores = np.random.default_rng(0).pareto(0.5, 40)
    found = CALIBRATION.confidences(confidence.of_ranking(scores, seconds=20.0))
    assert (np.diff(found[np.argsort(scores)]) > 0).all()


def test_the_bar_is_exceeded_by_no_more_than_the_stated_share():
    # 300 queries with log odds 0 ... 299: three of them (1 %) exceed 296, fifteen (5 %) exceed 284
    assert confidence.bar(CALIBRATION.false, 0.01) == 296
    assert confidence.bar(CALIBRATION.false, 0.05) == 284
    assert confidence.bar([(1.0,), (3.0,), (3.0,), (3.0,)], 0.5) == 3.0  # equal ones exceed together or not at all
    # two versions of one query are half a vote each: above 1 are 5 (half of half) and 3 (half) of two queries
    assert confidence.bar([(5.0, 1.0), (3.0,)], 0.25) == 3.0
    assert confidence.bar([(5.0, 1.0), (3.0,)], 0.24) == 5.0
    assert confidence.bar([(5.0, 1.0), (3.0,)], 0.75) == 1.0
    assert confidence.bar([(NOTHING,), (NOTHING,)], 0.5) == NOTHING


def test_a_rate_that_the_queries_cannot_support_is_refused():
    few = replace(CALIBRATION, false=((-1.0,), (0.0,)) * 30)  # 60 queries: 3 / 60 = 5 %
    assert few.least_rate == pytest.approx(0.05)
    assert few.threshold(0.05) == pytest.approx(0.5)  # half of them have log odds 0, none exceeds it
    with pytest.raises(
        CalibrationError,
        match=r"0\.01 cannot be promised from 60 .* ask for 0\.05 or more, or calibrate with 300 queries",
    ):
        few.threshold(0.01)
    assert CALIBRATION.threshold(0.01) == pytest.approx(1.0)
    for impossible in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="false-alarm rate is"):
            CALIBRATION.threshold(impossible)


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": -1.0},
        {"score": math.nan},
        {"rival": math.inf},
        {"seconds": 0.0},
        {"listed": 0},
        {"listed": 1},
    ],
)
def test_impossible_evidence_is_refused(wrong):
    with pytest.raises(ValueError, match="evidence"):
        Evidence(**{"score": 1.0, "rival": 1.0, "seconds": 1.0, "listed": 2, **wrong})


def test_a_model_in_which_scores_tell_nothing_is_refused():
    for weights in ((0.0, -1.0), (1.0, 0.5)):
        with pytest.raises(CalibrationError, match="weights are"):
            replace(MODEL, weights=weights)
    with pytest.raises(CalibrationError, match="expected finite"):
        replace(MODEL, spreads=(1.0, 0.0))
    with pytest.raises(CalibrationError, match="features are"):
        replace(MODEL, features=("rival", "loudness"))
    with pytest.raises(CalibrationError, match="for each"):
        replace(MODEL, means=(1.0,))


def test_what_was_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "calibration.json"
    confidence.save(path, CALIBRATION)
    assert confidence.load(path) == CALIBRATION
    assert json.loads(path.read_text())["format"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["calibration.json"]


def test_a_file_that_is_no_calibration_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "calibration.json"
    with pytest.raises(CalibrationError, match=r"no such calibration; fit one with `asid calibrate`"):
        confidence.load(path)
    confidence.save(path, CALIBRATION)
    whole = json.loads(path.read_text())
    damaged = {
        "is no JSON": path.read_text()[:50],
        "format is 2": json.dumps(whole | {"format": 2}),
        "format is 'list'": "[]",
        "is no calibration": json.dumps(whole | {"model": {}}),
        "unexpected keyword": json.dumps(whole | {"colour": "red"}),
        "share of sampled queries is 1.5": json.dumps(whole | {"sampled": 1.5}),
        "holds no sample-free": json.dumps(whole | {"false": []}),
    }
    for words, text in damaged.items():
        path.write_text(text)
        with pytest.raises(CalibrationError, match=words) as refused:
            confidence.load(path)
        assert "asid calibrate" in str(refused.value)


def test_it_is_refused_for_another_encoder_or_another_ranking():
    mine = confidence.scoring(Ranking(), Correlation())
    fitted = replace(CALIBRATION, scoring=mine)
    fitted.require(encoder="abc", scoring=mine)
    with pytest.raises(CalibrationError, match="encoder abc, expected def"):
        fitted.require(encoder="def", scoring=mine)
    with pytest.raises(CalibrationError, match="with shortlist 20, expected 40"):
        fitted.require(encoder="abc", scoring=confidence.scoring(Ranking(shortlist=40), Correlation()))
    with pytest.raises(CalibrationError, match="with correlation surplus 3.0, expected 2.0; fit one"):
        fitted.require(encoder="abc", scoring=confidence.scoring(Ranking(), Correlation(surplus=2.0)))


def test_settings_that_change_no_score_change_nothing():
    assert confidence.scoring(Ranking(top=1), Correlation()) == confidence.scoring(Ranking(), Correlation())
    mine = confidence.scoring(Ranking(), Correlation())
    assert json.loads(json.dumps(mine)) == mine


def test_the_digest_changes_with_what_decides_and_with_nothing_else(tmp_path):
    confidence.save(tmp_path / "c.json", replace(CALIBRATION, false=((1 / 3,),)))
    assert confidence.load(tmp_path / "c.json").digest == replace(CALIBRATION, false=((1 / 3,),)).digest
    assert replace(CALIBRATION, provenance={"seeds": [1]}).digest == CALIBRATION.digest
    narrow = {"range": {"listed": (500.0, 900.0)}}  # under which the rival is at least the usual one
    for other in ({"encoder": "def"}, {"model": replace(MODEL, intercept=0.6)}, {"false": ((1.0,),)}, narrow):
        assert replace(CALIBRATION, **other).digest != CALIBRATION.digest


def test_the_shipped_one_is_taken_only_for_the_scores_it_was_fitted_on(tmp_path, monkeypatch):
    asked = dict(encoder="abc", scoring={"by": "correlation"})
    monkeypatch.setattr(confidence.resources, "files", lambda package: tmp_path / package)
    assert confidence.shipped_for(**asked) is None
    path = tmp_path / "reranker" / "weights" / "calibration.json"
    confidence.save(path, CALIBRATION)
    assert confidence.shipped_for(**asked) == CALIBRATION
    assert confidence.shipped_for(**asked | {"encoder": "def"}) is None
    path.write_text("damaged")
    with pytest.raises(CalibrationError):  # a damaged file is never passed over
        confidence.shipped_for(**asked)


def shipped_by_default():
    encoder = Encoder()
    correlation = Correlator(verifier=verify.shipped_for(contrast=encoder.contrast_digest)).correlation
    shipped = confidence.shipped_for(encoder=encoder.digest, scoring=confidence.scoring(Ranking(), correlation))
    assert shipped is not None
    return shipped


def test_the_shipped_calibration_is_of_the_shipped_weights_as_they_are_ranked_by_default():
    shipped = shipped_by_default()
    assert 0 < shipped.threshold(0.05) < shipped.threshold(Ranking().false_alarms) < 1
    assert shipped.provenance["command"].startswith("asid calibrate ")


def test_among_fewer_references_than_in_the_fit_a_faint_rival_proves_nothing():
    shipped = shipped_by_default()

    def sure(rival, listed):
        return shipped.confidence(Evidence(score=60.0, rival=rival, seconds=20.0, listed=listed))

    fitted = int(shipped.range["listed"][0])
    assert sure(6.0, 20) < sure(6.0, fitted)
    assert sure(6.0, 20) == pytest.approx(sure(8.0, 20))  # both count as the usual one
    assert sure(100.0, 20) == pytest.approx(sure(100.0, fitted))  # a strong one as it is

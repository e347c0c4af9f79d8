"""Searching by correlation: references compared as wholes, with a calibration, window by window."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr

from reranker import confidence
from reranker.confidence import Calibration, CalibrationError, Model
from reranker.correlate import Correlation, Correlator, Explanation
from reranker.rank import Ranking, within
from reranker.search import Searcher

RATE = 16_000


def titles(answer):
    return [match.reference.title for match in answer.matches]


def test_correlation_finds_a_sample_played_faster_under_other_music_and_tells_how(songs, music, tmp_path):
    encoder, store = songs(tmp_path, count=3, seconds=30)
    ratio = 2 ** (1 / 12)  # a semitone higher, as a record played too fast
    faster = soxr.resample(music(1, 30)[8 * RATE : 18 * RATE], RATE * ratio, RATE)
    query = 0.5 * music(7, 16)
    query[3 * RATE : 3 * RATE + len(faster)] += faster
    soundfile.write(tmp_path / "query.wav", 0.5 * query, RATE)

    found = Searcher(encoder, store, None, correlator=Correlator())(tmp_path / "query.wav")
    best = found.matches[0]
    assert best.reference.title == "song 1"
    assert best.score > 3 * store_wide_second(encoder, store, tmp_path / "query.wav")
    longest = max(best.occurrences, key=lambda place: place.query_span[1] - place.query_span[0])
    assert longest.tempo_ratio == pytest.approx(ratio, rel=0.02)
    assert longest.transposition == pytest.approx(1.0, abs=0.5)
    assert longest.query_span == pytest.approx((3.0, 3.0 + 10 / ratio), abs=1.0)
    assert longest.reference_span == pytest.approx((8.0, 18.0), abs=1.0)


def store_wide_second(encoder, store, query):
    """Score of the second best reference."""
    searcher = Searcher(encoder, store, None, correlator=Correlator())
    return searcher.matches(encoder.encode(query))[1].score


def test_a_short_query_is_correlated_with_more_of_the_references():
    ranking = Ranking(effort=8000.0)
    assert ranking.reach(10.0) == 800
    assert ranking.reach(20.0) == 400
    assert ranking.reach(0.3) == 8000


def test_the_best_quality_correlates_twice_as_many(contrasted, stored, excerpt):
    encoder, store, numbers = contrasted
    asked = []

    class Noting(Explains):
        def compare(self, query, references, *, asked=None):
            noted.append(asked)
            return super().compare(query, references, asked=asked)

    noted, query = asked, encoder.encode(excerpt(stored[0], 0, 20))
    for quality in ("fast", "best"):
        Searcher(
            encoder, store, None, Ranking(quality=quality), correlator=Noting(dict.fromkeys(numbers, 1.0))
        ).matches(query)
    assert noted == [len(query.features), round(len(query.features) / 2)]
    assert Ranking(effort=8000.0, quality="best").reach(10.0) == 1600
    with pytest.raises(ValueError, match="quality is 'slow', expected fast or best"):
        Ranking(quality="slow")


def test_a_query_is_whole_up_to_a_length_and_cut_into_shorter_windows_beyond(contrasted, stored, excerpt):
    encoder, store, _ = contrasted
    query = encoder.encode(excerpt(stored[0], 0, 20))
    hops = len(query.contrast)

    def cut(whole, window):
        ranking = Ranking(whole=whole, window=window, overlap=0.3)
        return Searcher(encoder, store, None, ranking, correlator=Explains({}))._windows(query)

    assert cut(hops * query.hop + 0.1, 2.0) == [slice(0, hops)]
    assert {w.stop - w.start for w in cut(hops * query.hop - 0.3, 2.0)} <= {6, 7, 8}  # 2 s are 8 hops of 0.256 s
    with pytest.raises(ValueError, match="are 5.0, 20.0, 10.0 s, expected 0 <= overlap < window <= whole"):
        Ranking(whole=10.0)


def test_long_references_leave_time_for_fewer():
    assert within([100.0, 100.0, 100.0], 250, least=1) == 2
    assert within([100.0, 150.0, 100.0], 250, least=1) == 2
    assert within([3600.0, 100.0, 100.0], 250, least=1) == 1
    assert within([3600.0, 100.0, 100.0], 250, least=5) == 3
    assert within([], 250, least=5) == 0


class Explains:
    """A correlator whose scores are stated by track number."""

    correlation = Correlation()

    def __init__(self, scores):
        self.scores = scores

    def compare(self, query, references, *, asked):
        ranked = sorted(references, key=lambda number: -self.scores[number])
        return {
            n: Explanation(score=self.scores[n], tempo_ratio=1.0, transposition=0.0, occurrences=()) for n in ranked
        }

    def explain(self, query, reference, found):
        return found


def calibrated(store, encoder, scores, *, queries=300, ranking=Ranking()):
    """log odds = log(1 + score) - log(1 + rival); best answers to sample-free queries have log odds up to 2."""
    model = Model(features=("score", "rival"), means=(0, 0), spreads=(1, 1), weights=(1, -1), intercept=0.0)
    scoring = confidence.scoring(Ranking(), Correlation())
    false = tuple((2.0 * n / queries,) for n in range(1, queries + 1))
    fitted = Calibration(encoder=encoder.digest, scoring=scoring, sampled=0.5, model=model, false=false)
    return Searcher(encoder, store, None, ranking, correlator=Explains(scores), calibration=fitted)


@pytest.fixture
def contrasted(encoder, store, stored):
    """The small encoder as if it had contrast features, and the store as if it held them; three tracks' numbers."""
    seen = SimpleNamespace(encode=encoder.encode, digest=encoder.digest, contrast=(4, 36), grid=encoder.grid)
    store.features = lambda listed: dict.fromkeys(listed)
    return seen, store, sorted(t.number for t in store.catalogue.tracks("stored"))


def test_a_calibration_gives_confidences_and_decides_what_is_told(contrasted, stored, excerpt):
    encoder, store, (one, two, three) = contrasted
    scores = {one: np.e**4 - 1, two: np.e**1 - 1, three: 0.0}
    searcher = calibrated(store, encoder, scores)
    query = excerpt(stored[0], 0, 20)
    answer = searcher(query)
    # log odds of the first: 4 - 0, over the bar of 2 x 297 / 300; of the second 1 - 0; of the third 0 - 1
    assert searcher.threshold == pytest.approx(1 / (1 + np.exp(-1.98)), abs=1e-3)
    (match,) = answer.matches
    assert match.reference.number == one
    assert match.confidence == pytest.approx(1 / (1 + np.exp(-4)))
    wrong = [1 - 1 / (1 + np.exp(-z)) for z in (4, 1, -1)]
    assert answer.sample_free == pytest.approx(np.prod(wrong))
    assert answer.false_alarms == pytest.approx(0.01)
    assert searcher.minimum is None
    nothing = calibrated(store, encoder, scores | {two: np.e**2.2 - 1, three: np.e**2.1 - 1})(query)  # 1.9 is under
    assert (nothing.matches, nothing.false_alarms) == ((), pytest.approx(0.01))


def test_silence_samples_nothing_whatever_is_like_it(contrasted, stored):
    encoder, store, (one, two, three) = contrasted
    silence = stored[0].with_name("silence.wav")
    soundfile.write(silence, np.zeros(5 * RATE), RATE)
    searcher = calibrated(store, encoder, {one: 900.0, two: 1.0, three: 0.0})
    assert searcher.matches(encoder.encode(silence)) == ()


def test_a_stated_score_is_the_bar_whatever_the_confidence(contrasted, stored, excerpt):
    encoder, store, (one, two, three) = contrasted
    searcher = calibrated(store, encoder, {one: 50.0, two: 49.0, three: 1.0}, ranking=Ranking(surplus=40.0))
    answer = searcher(excerpt(stored[0], 0, 20))
    assert [m.score for m in answer.matches] == [50.0, 49.0]
    assert all(m.confidence is not None for m in answer.matches)
    assert (answer.false_alarms, searcher.threshold, searcher.minimum) == (None, None, 40.0)


def test_a_calibration_of_other_scores_or_too_few_queries_is_refused(contrasted):
    encoder, store, numbers = contrasted
    scores = dict.fromkeys(numbers, 1.0)
    with pytest.raises(CalibrationError, match="with shortlist 20, expected 30"):
        calibrated(store, encoder, scores, ranking=Ranking(shortlist=30))
    with pytest.raises(CalibrationError, match="cannot be promised from 60"):
        calibrated(store, encoder, scores, queries=60)
    fitted = calibrated(store, encoder, scores).calibration
    with pytest.raises(CalibrationError, match="expected a correlator beside it"):
        Searcher(encoder, store, None, calibration=fitted)
    calibrated(store, encoder, scores, queries=60, ranking=Ranking(false_alarms=0.05))
    with pytest.raises(ValueError, match="false_alarms is 0"):
        Ranking(false_alarms=0)


def test_a_long_query_is_searched_window_by_window_and_each_sample_is_told_at_its_place(songs, music, tmp_path):
    encoder, store = songs(tmp_path, count=4, seconds=20)
    query = 0.4 * music(9, 100)
    for number, at in ((1, 10), (2, 35), (1, 80)):  # the second lies where the first two windows of 40 s meet
        query[at * RATE : (at + 8) * RATE] += music(number, 20)[6 * RATE : 14 * RATE]
    soundfile.write(tmp_path / "mix.wav", 0.5 * query, RATE)

    answer = Searcher(encoder, store, None, Ranking(surplus=150.0), correlator=Correlator())(tmp_path / "mix.wav")
    assert sorted(titles(answer)) == ["song 1", "song 2"]
    places = {
        match.reference.title: [o.query_span for o in match.occurrences if o.query_span[1] - o.query_span[0] > 4]
        for match in answer.matches
    }
    first, second = places["song 1"]
    assert first == (pytest.approx(10, abs=0.1), pytest.approx(18, abs=1.1))  # a second too long
    assert second == pytest.approx((80, 88), abs=0.1)
    assert places["song 2"] == [pytest.approx((35, 43), abs=0.1)]


def test_an_excerpt_and_nothing_else_is_the_same_recording_and_no_sample(songs, music, tmp_path):
    encoder, store = songs(tmp_path, count=3, seconds=30)
    searcher = Searcher(encoder, store, None, correlator=Correlator())
    between = round(7.072 * RATE)  # half-way between two frames of the features
    soundfile.write(tmp_path / "quiet.wav", 0.2 * music(1, 30)[between : between + 12 * RATE], RATE)
    answer = searcher(tmp_path / "quiet.wav")
    assert titles(answer) == []
    (same,) = answer.same
    assert same.reference.title == "song 1"
    assert same.occurrences[0].reference_span == pytest.approx((7.07, 18.85), abs=0.05)
    assert titles(searcher(tmp_path / "quiet.wav", include_self=True)) == ["song 1"]
    soundfile.write(tmp_path / "short.wav", 0.2 * music(1, 30)[7 * RATE : 10 * RATE], RATE)  # less than a segment
    answer = searcher(tmp_path / "short.wav")
    assert ([same.reference.title for same in answer.same], answer.matches, answer.duration) == (["song 1"], (), 3.0)
    over = 0.5 * music(1, 30)[7 * RATE : 19 * RATE] + 0.5 * music(8, 12)
    soundfile.write(tmp_path / "over.wav", over, RATE)
    assert titles(searcher(tmp_path / "over.wav")) == ["song 1"]

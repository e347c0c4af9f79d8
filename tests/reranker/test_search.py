"""Searching: what is stored is found again, window by window, and nothing is an answer too."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch

from encoder.audio import AudioError
from encoder.encode import Encoder
from encoder.encoding import Encoding
from reranker import confidence, search
from reranker.confidence import Calibration, CalibrationError, Model
from reranker.correlate import Correlation, Correlator, Explanation
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.rank import Ranking, Scored, shortlist
from reranker.search import Searcher
from store.memory import MemoryReferences
from store.references import MissingNodeMatrix
from store.segment_ids import index_of, segment_id, track_of

RATE = 16_000


class SameNodes:
    """A classifier that gives 0.9 where the node matrices are alike, else 0.1, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def scores(self, queries, references, *, similarities):
        self.asked.append((len(queries), len(references)))
        distance = torch.cdist(queries.flatten(1), references.flatten(1)) / references.flatten(1).norm(dim=1)
        return torch.where(distance < 0.05, 0.9, 0.1)


class FlatFingerprints:
    """A network whose fingerprint of a node matrix is the matrix itself, laid flat."""

    def fingerprints(self, node_matrices):
        return node_matrices.flatten(1)


@pytest.fixture
def store(encoder):
    """An empty store for what the small encoder makes."""
    return MemoryReferences(
        digest=encoder.digest,
        nodes=encoder.nodes,
        channels=encoder.channels,
        dimensions=encoder.dimensions,
        hop=encoder.grid.hop,
        segment_duration=encoder.grid.duration,
        contrast=encoder.contrast,
    )


@pytest.fixture
def stored(store, encoder, music, tmp_path):
    """Paths of three tracks of 12 s that are in the store."""
    paths = [tmp_path / f"song {number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, music(number, 12), RATE)
    for pending in store.plan(paths).pending:
        store.add(pending, encoder.blocks(pending.path), duration=12.0, title=pending.path.stem)
    return paths


def excerpt(path, start, end):
    """From the start of segment `start` to that of segment `end`, as a file of its own: 0.256 s a segment."""
    samples, _ = soundfile.read(path, dtype="float32")
    cut = path.with_name(f"excerpt {start} {end}.wav")
    soundfile.write(cut, samples[4096 * start : 4096 * end], RATE)
    return cut


def titles(answer):
    return [match.reference.title for match in answer.matches]


@pytest.mark.parametrize("rerank", [False, True])
def test_an_excerpt_finds_its_track_first_and_tells_where(encoder, store, stored, rerank):
    searcher = Searcher(encoder, store, SameNodes() if rerank else None, Ranking(candidates=1))
    query = excerpt(stored[1], 12, 32)  # 5.12 s: (160 + 1 - 32) // 8 + 1 = 17 segments
    answer = searcher(query)
    best = answer.matches[0]
    assert answer.query == query
    assert best.reference.title == "song 1"
    assert best.reference.path == stored[1]
    assert best.confidence is None
    # 17 hits at hop 0.256 s, the outermost perhaps lost to the edges of the excerpt
    assert best.score > 14 * (0.9 if rerank else 0.98)
    place = best.occurrences[0]
    assert place.query_span == pytest.approx((0, 5.12), abs=0.26)
    assert place.reference_span == pytest.approx((12 * 0.256, 32 * 0.256), abs=0.26)


def test_the_very_same_file_is_left_out_unless_asked_for(encoder, store, stored):
    searcher = Searcher(encoder, store, None, Ranking(threshold=0.0))
    copy = stored[2].with_name("copy.wav")
    copy.write_bytes(stored[2].read_bytes())
    for path in (stored[2], copy):
        assert "song 2" not in titles(searcher(path))
        assert len(searcher(path).matches) == 2
        assert titles(searcher(path, include_self=True))[0] == "song 2"


def test_a_real_classifier_scores_what_is_found(encoder, store, stored):
    config = CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes, heads=2, hidden=8)
    torch.manual_seed(0)
    classifier = CrossAttention(config).eval()
    searcher = Searcher(encoder, store, classifier, Ranking(candidates=2, threshold=0.0))
    query = encoder.encode(excerpt(stored[0], 0, 12))
    scored = searcher.score(query)
    nodes = torch.from_numpy(store.node_matrices(scored.segment_ids)).float()
    with torch.no_grad():
        for place, score in enumerate(scored.scores):
            every = classifier.score(
                torch.from_numpy(query.node_matrices).float(), nodes[place : place + 1].expand(len(query), -1, -1)
            )
            assert score == pytest.approx(every.max().item(), abs=1e-5)  # equation 11
            assert query.segment_indices[every.argmax()] == scored.query_indices[place]


def test_nothing_found_is_an_empty_answer(encoder, store, stored, music):
    class Refuses(SameNodes):
        def scores(self, queries, references, *, similarities):
            return torch.full((len(queries), len(references)), 0.49)

    unknown = stored[0].with_name("unknown.wav")
    soundfile.write(unknown, music(99, 6), RATE)
    answer = Searcher(encoder, store, Refuses())(unknown)
    assert answer.matches == ()
    assert answer.duration == pytest.approx(5.888)  # 20 segments: 19 x 0.256 + 1.024


def test_a_silent_query_has_no_matches(encoder, store, stored):
    silence = stored[0].with_name("silence.wav")
    soundfile.write(silence, np.zeros(5 * RATE), RATE)
    for classifier in (None, SameNodes()):
        answer = Searcher(encoder, store, classifier, Ranking(threshold=0.0))(silence)
        assert (answer.matches, answer.duration) == ((), 0.0)


def test_an_empty_catalogue_has_no_matches(encoder, store, music, tmp_path):
    soundfile.write(tmp_path / "a.wav", music(1, 3), RATE)
    for classifier in (None, SameNodes()):
        assert Searcher(encoder, store, classifier)(tmp_path / "a.wav").matches == ()


def test_a_query_that_cannot_be_read_is_an_error(encoder, store, tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        Searcher(encoder, store, None)(tmp_path / "nowhere.wav")


def test_top_and_minimum_shorten_the_answer(encoder, store, stored):
    query = excerpt(stored[0], 0, 20)
    everything = Searcher(encoder, store, None, Ranking(candidates=20, threshold=-1.0))(query)
    assert len(everything.matches) == 3
    assert [m.score for m in everything.matches] == sorted((m.score for m in everything.matches), reverse=True)
    one = Searcher(encoder, store, None, Ranking(candidates=20, threshold=-1.0, top=1))(query)
    assert one.matches == everything.matches[:1]
    second = everything.matches[1].score
    two = Searcher(encoder, store, None, Ranking(candidates=20, threshold=-1.0, minimum=second))(query)
    assert two.matches == everything.matches[:2]


# By hand: fingerprints of two values, node matrices of one value.


def encoding(*segments):
    """Segments as (index, angle in degrees, node value)."""
    indices, angles, values = np.array(segments, float).reshape(-1, 3).T
    return Encoding(
        segment_indices=indices.astype(np.int64),
        fingerprints=np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1).astype(np.float32),
        node_matrices=values.astype(np.float16).reshape(-1, 1, 1),
        hop=0.5,
        segment_duration=4.0,
    )


class Product:
    """Scores are products of node values."""

    def scores(self, queries, references, *, similarities):
        return queries.flatten(1) @ references.flatten(1).T


def by_hand(tmp_path, tracks, classifier, **ranking):
    store = MemoryReferences(
        digest="0123456789abcdef", nodes=1, channels=1, dimensions=2, hop=0.5, segment_duration=4.0
    )
    paths = [tmp_path / f"{number}.wav" for number in range(len(tracks))]
    for path in paths:
        path.write_text(path.name)
    for pending, track in zip(store.plan(paths).pending, tracks):
        store.add(pending, [encoding(*track)], duration=9.0)
    encoder = SimpleNamespace(device=torch.device("cpu"), network=FlatFingerprints())
    return Searcher(encoder, store, classifier, Ranking(**{"minimum": 0.0, **ranking})), store


def test_a_candidate_meets_the_query_segments_of_its_window_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_WINDOW", 2)
    searcher, store = by_hand(tmp_path, [[(0, 0, 1.0), (5, 90, 0.5)]], Product(), candidates=1)
    # Two windows of two query segments and one of one, the second with a gap in the grid. Angles choose candidates.
    query = encoding((0, 0, 0.25), (1, 10, 0.75), (4, 80, 0.5), (9, 100, 1.0), (10, 0, 0.125))
    found = searcher.score(query)
    # Window 1 finds segment 0 (value 1): best of 0.25, 0.75 is query segment 1. Window 2 finds segment 5 (value 0.5):
    # best of 0.25, 0.5 is query segment 9. Window 3 finds segment 0: 0.125 from query segment 10.
    assert found.query_indices.tolist() == [1, 9, 10]
    assert index_of(found.segment_ids).tolist() == [0, 5, 0]
    assert found.scores.tolist() == [0.75, 0.5, 0.125]
    (match,) = searcher.matches(query)
    assert match.score == pytest.approx(1.25)  # max(0.75, 0.125) + 0.5
    # Two hits are no line; the better one is told. It is that of query segment 1.
    assert [o.query_span for o in match.occurrences] == [(0.5, 4.5)]
    assert [o.reference_span for o in match.occurrences] == [(0.0, 4.0)]


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 100])
def test_every_query_segment_is_in_one_window(tmp_path, monkeypatch, window):
    monkeypatch.setattr(search, "_WINDOW", window)
    track = [(i, 36 * i, 1.0) for i in range(10)]
    searcher, _ = by_hand(tmp_path, [track], Product(), candidates=1)
    found = searcher.score(encoding(*[(i, 36 * i, 0.5) for i in range(10)]))
    assert sorted(index_of(found.segment_ids).tolist()) == list(range(10))


def test_without_a_classifier_the_similarity_is_the_score(tmp_path):
    searcher, store = by_hand(tmp_path, [[(0, 0, 1.0)], [(3, 60, 1.0)]], None, candidates=2, threshold=0.6)
    query = encoding((2, 0, 1.0))
    found = searcher.score(query)
    assert found.query_indices.tolist() == [2, 2]
    assert found.scores.tolist() == pytest.approx([1.0, 0.5], abs=1e-6)  # cos 60 degrees
    (match,) = searcher.matches(query)
    assert track_of(found.segment_ids)[0] == match.reference.number


def test_a_rejected_reference_is_no_match_however_many_candidates_it_has(tmp_path):
    many = [(i, 10 * i, 0.49) for i in range(8)]
    searcher, store = by_hand(tmp_path, [many, [(0, 45, 0.5)]], Product(), candidates=9)
    query = encoding(*[(i, 10 * i, 1.0) for i in range(8)])
    matches = searcher.matches(query)
    assert [(m.reference.path.name, m.score) for m in matches] == [("1.wav", 0.5)]


def test_a_candidate_without_node_matrix_is_named(tmp_path):
    searcher, store = by_hand(tmp_path, [[(0, 0, 1.0)]], Product(), candidates=1)
    store._nodes.clear(1)
    with pytest.raises(MissingNodeMatrix, match="1 of 1 node matrices are missing, first segment 0 of track"):
        searcher.score(encoding((0, 0, 1.0)))


def songs(folder, music, *, count, seconds):
    """The shipped encoder, whose front end has contrast features, and a store of so many songs."""
    encoder = Encoder()
    shapes = dict(nodes=encoder.nodes, channels=encoder.channels, dimensions=encoder.dimensions)
    grid = dict(hop=encoder.grid.hop, segment_duration=encoder.grid.duration)
    store = MemoryReferences(digest=encoder.digest, **shapes, **grid, contrast=encoder.contrast)
    paths = [folder / f"song {number}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        soundfile.write(path, music(number, seconds), RATE)
    for pending in store.plan(paths).pending:
        store.add(pending, encoder.blocks(pending.path), duration=float(seconds), title=pending.path.stem)
    return encoder, store


def test_correlation_finds_a_sample_played_faster_under_other_music_and_tells_how(music, tmp_path):
    encoder, store = songs(tmp_path, music, count=3, seconds=30)
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


def test_a_short_query_is_correlated_with_more_references():
    ranking = Ranking(shortlist=20, effort=800.0)
    assert ranking.size(10.0) == 80
    assert ranking.size(20.0) == 40
    assert ranking.size(180.0) == 20  # 800 / 180 would be 4


def test_the_short_list_begins_with_the_best_single_candidates():
    ids = segment_id(np.array([1, 1, 2, 3]), np.array([0, 5, 0, 9]))
    scored = Scored(
        query_indices=np.zeros(4, np.int64), segment_ids=ids, scores=np.array([0.5, 0.9, 0.8, 0.9], np.float32)
    )
    assert shortlist(scored, 2) == [1, 3]  # 0.9 and 0.9, by number; 2 has 0.8


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


def test_a_calibration_gives_confidences_and_decides_what_is_told(contrasted, stored):
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


def test_all_are_compared_where_those_that_may_be_found_are_few_enough(contrasted, stored, monkeypatch):
    encoder, store, (one, two, three) = contrasted
    ranking = Ranking(shortlist=2, effort=1.0)
    searcher = Searcher(encoder, store, None, ranking, correlator=Explains({one: 5.0, two: 4.0, three: 3.0}))
    query = encoder.encode(excerpt(stored[0], 0, 20))
    assert len(searcher.matches(query)) == 2  # three are too many, so candidates choose
    monkeypatch.setattr(store, "candidates", None)
    assert [m.reference.number for m in searcher.matches(query, exclude=[one])] == [two, three]


def test_silence_samples_nothing_whatever_is_like_it(contrasted, stored):
    encoder, store, (one, two, three) = contrasted
    silence = stored[0].with_name("silence.wav")
    soundfile.write(silence, np.zeros(5 * RATE), RATE)
    searcher = calibrated(store, encoder, {one: 900.0, two: 1.0, three: 0.0})
    assert searcher.matches(encoder.encode(silence)) == ()


def test_a_stated_score_is_the_bar_whatever_the_confidence(contrasted, stored):
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
    calibrated(store, encoder, scores, queries=60, ranking=Ranking(false_alarms=0.05))
    with pytest.raises(ValueError, match="false_alarms is 0"):
        Ranking(false_alarms=0)


def test_a_long_query_is_searched_window_by_window_and_each_sample_is_told_at_its_place(music, tmp_path):
    encoder, store = songs(tmp_path, music, count=4, seconds=20)
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
    assert places["song 1"] == [pytest.approx((10, 18), abs=1.0), pytest.approx((80, 88), abs=1.0)]
    assert places["song 2"] == [pytest.approx((35, 43), abs=1.0)]


def test_an_excerpt_and_nothing_else_is_the_same_recording_and_no_sample(music, tmp_path):
    encoder, store = songs(tmp_path, music, count=3, seconds=30)
    searcher = Searcher(encoder, store, None, correlator=Correlator())
    soundfile.write(tmp_path / "quiet.wav", 0.2 * music(1, 30)[7 * RATE : 19 * RATE], RATE)
    answer = searcher(tmp_path / "quiet.wav")
    assert titles(answer) == []
    (same,) = answer.same
    assert same.reference.title == "song 1"
    assert same.occurrences[0].reference_span == pytest.approx((7, 19), abs=0.5)
    assert titles(searcher(tmp_path / "quiet.wav", include_self=True)) == ["song 1"]
    over = 0.5 * music(1, 30)[7 * RATE : 19 * RATE] + 0.5 * music(8, 12)
    soundfile.write(tmp_path / "over.wav", over, RATE)
    assert titles(searcher(tmp_path / "over.wav")) == ["song 1"]

"""Searching: what is stored is found again, window by window, and nothing is an answer too."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from encoder.audio import AudioError
from encoder.encoding import Encoding
from reranker import search
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.rank import Ranking
from reranker.search import Searcher
from store.identity import Identity
from store.memory import MemoryReferences
from store.references import MissingNodeMatrix
from store.segment_ids import index_of, track_of

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


def titles(answer):
    return [match.reference.title for match in answer.matches]


@pytest.mark.parametrize("rerank", [False, True])
def test_an_excerpt_finds_its_track_first_and_tells_where(encoder, store, stored, rerank, excerpt):
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


@pytest.mark.parametrize(("classifier", "needed"), [(None, False), (SameNodes(), True)])
def test_only_a_classifier_has_node_matrices_kept(encoder, store, stored, excerpt, monkeypatch, classifier, needed):
    encode, kept = encoder.encode, []
    monkeypatch.setattr(encoder, "encode", lambda path, node_matrices: (kept.append(node_matrices), encode(path))[1])
    Searcher(encoder, store, classifier, Ranking(candidates=1))(excerpt(stored[0], 0, 12))
    assert kept == [needed]


def test_a_real_classifier_scores_what_is_found(encoder, store, stored, excerpt):
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


def test_top_and_minimum_shorten_the_answer(encoder, store, stored, excerpt):
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
    shapes = dict(nodes=1, channels=1, dimensions=2, hop=0.5, segment_duration=4.0)
    store = MemoryReferences(Identity(digest="0123456789abcdef", **shapes))
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

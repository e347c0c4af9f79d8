"""Ranking versions: references are compared whole, by the embeddings themselves, whatever the index found of them."""

import numpy as np
import pytest

from encoder.encoding import Encoding
from reranker.versions import VersionRanker, between
from store.candidates import Candidates
from store.catalogue import Track
from store.segment_ids import index_of, segment_id, track_of


class FakeReferences:
    """Raw embeddings (segments, dimensions) of tracks by number; rows of zeros are silence."""

    def __init__(self, tracks):
        self.kept = tracks

    def node_matrices(self, ids):
        rows = [self.kept[int(track_of(i))][int(index_of(i))] for i in ids]
        return np.array(rows, np.float16)[:, None]

    def fingerprints(self, ids):
        return self.node_matrices(ids)[:, 0].astype(np.float32)

    def tracks(self, numbers):
        facts = dict.fromkeys(Track.__dataclass_fields__)
        return {n: Track(**facts | {"number": n, "rows": len(self.kept[n]), "duration": 23.0}) for n in numbers}


def encoding(vectors, nodes=1):
    return Encoding(
        segment_indices=np.arange(len(vectors)),
        fingerprints=np.array(vectors, np.float32),
        node_matrices=np.repeat(np.array(vectors, np.float16)[:, None], nodes, axis=1),
        hop=5.0,
        segment_duration=20.0,
    )


def found(*tracks):
    ids = segment_id(np.array(tracks), 0)
    return Candidates(
        query_rows=np.zeros(len(ids), np.int64), segment_ids=ids, similarities=np.ones(len(ids), np.float32)
    )


REFERENCES = FakeReferences(
    {
        1: [[4.0, 4.0], [4.0, 6.0]],
        2: [[1.0, 5.0], [0.0, 0.0], [3.0, 1.0]],  # its second segment is silent
        3: [[1.0, 1.0]],
    }
)


def test_references_are_ranked_by_their_reduced_distance():
    matches = VersionRanker()(encoding([[1.0, 1.0], [1.0, 3.0]]), found(1, 2, 3), REFERENCES)
    # 3: its one segment and the query's first: 0. 2: 4/2 (second with [3, 1]: 8/2, first: 4/2 the least; then second
    # with [1, 5]: 4/2). 1: (3, 1): 10/2 the least, then (3, 5): 34/2
    assert [(m.reference.number, m.score) for m in matches] == [(3, 0), (2, -2), (1, -11)]
    assert matches[2].occurrences[0].query_span == (5.0, 25.0)
    assert matches[1].occurrences[0].reference_span in ((0.0, 20.0), (10.0, 23.0))


def test_the_reduction_can_be_chosen_and_only_candidates_count():
    matches = VersionRanker(reduction="min")(encoding([[1.0, 1.0], [1.0, 3.0]]), found(1, 2), REFERENCES)
    assert [(m.reference.number, m.score) for m in matches] == [(2, -2), (1, -5)]
    assert matches[1].occurrences[0].reference_span == (0.0, 20.0)
    empty = Candidates(query_rows=np.zeros(0, int), segment_ids=np.zeros(0, int), similarities=np.zeros(0, np.float32))
    assert VersionRanker()(encoding([[1.0, 1.0]]), empty, REFERENCES) == ()


def test_other_encoders_and_other_reductions_are_refused():
    with pytest.raises(ValueError, match="node matrices have 32 nodes, expected the one embedding of a clews encoder"):
        VersionRanker()(encoding([[1.0, 1.0]], nodes=32), found(1), REFERENCES)
    with pytest.raises(ValueError, match="no reduction is called 'median'"):
        VersionRanker(reduction="median")


@pytest.mark.parametrize("reduction", ["bpwr-10", "bpwr-2", "min", "meanmin"])
def test_padding_changes_no_distance(reduction, monkeypatch):
    monkeypatch.setattr("reranker.versions._TRACKS", 3)
    rng = np.random.default_rng(0)
    tracks = [rng.normal(size=(length, 8)).astype(np.float32) for length in (4, 1, 9, 0, 12, 3, 5)]
    together = between(tracks, tracks, reduction)
    for i, query in enumerate(tracks):
        for j, candidate in enumerate(tracks):
            alone = between([query], [candidate], reduction)[0, 0]
            assert together[i, j] == pytest.approx(alone, abs=1e-6)
    assert np.isinf(together[3]).all()
    assert np.isinf(together[:, 3]).all()
    assert np.isfinite(np.delete(np.delete(together, 3, 0), 3, 1)).all()

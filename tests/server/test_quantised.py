"""A real server whose index quantises: what it blurs, exact re-scoring gives back."""

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.walks import walks
from store.candidates import Candidates
from store.rescore import rescore


@pytest.fixture
def grown(milvus, tmp_path):
    """Two thousand segments on the server, indexed: above 1024, below which Milvus builds no index."""
    with scale.Grown.open(tmp_path, milvus, walks(), 2000) as grown:
        while grown.size < 2000:
            grown.add_track()
        scale.settle(grown.references)
        yield grown


def test_candidates_of_a_quantised_index_are_as_good_as_exact_ones(grown):
    (query, *_) = scale.asked(grown, seed=3)
    exact = scale.exactly(grown, query)
    fingerprints = grown.references._fingerprints
    assert fingerprints.kind == "IVF_PQ"
    bare: Candidates = fingerprints.search(query, limit=scale.LIMIT)
    wide = fingerprints.search(query, limit=scale.LIMIT * fingerprints.overfetch)
    ours = rescore(wide, query, grown.references._nodes.fingerprints_of, limit=scale.LIMIT)
    assert scale.recall(ours, exact) > 0.99 > scale.recall(bare, exact)
    by_id = dict(zip(grown.ids[: grown.size].tolist(), grown.vectors))  # what lies behind is not filled yet
    true = [query[row] @ by_id[number] for row, number in zip(ours.query_rows, ours.segment_ids.tolist())]
    np.testing.assert_allclose(ours.similarities, true, atol=2e-3)  # kept as float16

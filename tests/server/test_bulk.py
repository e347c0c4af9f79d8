"""Bulk import into a real server: the same answers as by upsert, and what becomes of files and failures."""

import os

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.walks import walks
from store import bulk
from store.connection import IndexUnavailable
from store.index import IndexSettings

pytest.importorskip("obstore", reason="obstore is not installed; pip install 'asid[cluster]'")


@pytest.fixture
def shared(tmp_path):
    """A folder that the server reads too."""
    if not os.environ.get("ASID_TEST_MILVUS_LOCAL"):
        pytest.skip("the Milvus server is not of this machine; `make test-server` starts one that is")
    folder = tmp_path / "bulk"
    folder.mkdir()
    return folder


@pytest.fixture
def grown(milvus, tmp_path, shared):
    """Two thousand segments, and settings by which a thousand are enough for a bulk import."""
    index = IndexSettings(bulk_url=f"file://{shared}", bulk_from=1000)
    with scale.Grown.open(tmp_path, milvus, walks(), 2000, index) as grown:
        while grown.size < 2000:
            grown.add_track()
        yield grown


def test_a_rebuilt_index_answers_as_before_and_leaves_no_file(grown, shared, monkeypatch):
    used = []
    load = bulk.load
    monkeypatch.setattr(bulk, "load", lambda *a, **k: used.append(load(*a, **k, rows_per_file=900)))
    assert grown.references.rebuild() == grown.size
    assert used == [grown.size]
    scale.settle(grown.references)
    (query, *_) = scale.asked(grown, seed=3)
    found = grown.references.candidates(query, limit=scale.LIMIT)
    assert scale.recall(found, scale.exactly(grown, query)) > 0.99
    assert not list(shared.iterdir())


def test_few_segments_are_written_without_files(grown, monkeypatch):
    grown.references._fingerprints._settings = IndexSettings(bulk_url="file:///nowhere", bulk_from=10_000)
    monkeypatch.setattr(bulk, "load", lambda *_: pytest.fail("imported"))
    assert grown.references.rebuild() == grown.size


def test_what_milvus_cannot_import_is_told_in_one_line_and_no_file_is_left(grown, shared):
    fingerprints = grown.references._fingerprints
    wrong = [(np.arange(10), np.zeros((10, 64), np.float32))]  # of another size than the collection's
    with pytest.raises(IndexUnavailable, match="could not import") as error:
        bulk.load(fingerprints._client, fingerprints._collection, wrong, f"file://{shared}")
    assert "\n" not in str(error.value)
    assert not list(shared.iterdir())

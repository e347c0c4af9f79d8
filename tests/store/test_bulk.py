"""Bulk import without a server: how rows are grouped and written."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from store import bulk
from store.index import IndexSettings


def rows(first, count):
    ids = np.arange(first, first + count)
    return ids, np.repeat(ids[:, None], 4, 1).astype(np.float32)


def test_batches_are_joined_until_a_file_is_full_and_nothing_is_lost():
    batches = [rows(0, 3), rows(3, 4), rows(7, 1), rows(8, 6), rows(14, 2)]
    files = list(bulk.grouped(iter(batches), 7))
    assert [len(ids) for ids, _ in files] == [7, 7, 2]
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in files]), np.arange(16))
    for ids, fingerprints in files:
        np.testing.assert_array_equal(fingerprints[:, 0], ids)


def test_files_hold_the_columns_that_milvus_reads():
    ids, fingerprints = rows(5, 3)
    table = pq.read_table(io.BytesIO(bulk.parquet(ids, fingerprints.astype(np.float64))))
    assert table.schema.names == ["id", "fingerprint"]
    assert [str(field.type) for field in table.schema] == ["int64", "list<element: float>"]
    assert table.to_pydict() == {"id": [5, 6, 7], "fingerprint": [[5.0] * 4, [6.0] * 4, [7.0] * 4]}


class Server:
    """What stands for a server's import: it reads the files of a folder, and gives up on the n-th."""

    def __init__(self, fails=None):
        self.seen, self.fails = [], fails

    def _get_connection(self):
        return self

    def do_bulk_insert(self, collection, partition, files):
        self.seen.append(pq.read_table(files[0]).num_rows)
        return len(self.seen) - 1

    def get_bulk_insert_state(self, task):
        state = bulk.BulkInsertState.ImportFailed if task == self.fails else bulk.BulkInsertState.ImportCompleted
        return type("State", (), {"state": state, "state_name": "?", "infos": {"failed_reason": "no such field"}})


def test_each_file_is_seen_by_the_server_and_deleted_when_it_is_in(tmp_path):
    pytest.importorskip("obstore", reason="obstore is not installed; pip install 'asid[cluster]'")
    server, batches = Server(), [rows(10 * n, 10) for n in range(7)]
    assert bulk.load(server, "c", batches, f"file://{tmp_path}/deep", rows_per_file=10) == 70
    assert server.seen == [10] * 7
    assert not list((tmp_path / "deep").iterdir())


def test_a_failed_import_ends_all_and_leaves_no_file(tmp_path):
    pytest.importorskip("obstore", reason="obstore is not installed; pip install 'asid[cluster]'")
    server, batches = Server(fails=1), [rows(10 * n, 10) for n in range(9)]
    with pytest.raises(bulk.IndexUnavailable, match="no such field; check that bulk_url lies where the server reads"):
        bulk.load(server, "c", batches, f"file://{tmp_path}", rows_per_file=10)
    assert len(server.seen) < 9
    assert not list(tmp_path.iterdir())


def test_the_size_from_which_files_are_used_is_positive():
    with pytest.raises(ValueError, match="bulk_from must lie in 1.."):
        IndexSettings(bulk_from=0)

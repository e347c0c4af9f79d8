"""Bulk import: fingerprints -> Parquet files where the Milvus server reads -> its collection.

`upsert` writes 1,700 to 7,500 rows a second (docs/scale.md): up to an hour and a half for ten million, since each row
goes by gRPC and Milvus' log into segments that grow, are sealed and compacted. Import writes sealed segments straight
from files in the object store that the server itself keeps its data in, so whoever calls needs write access there. It
keeps rows of equal ids, so only an empty collection is filled this way (`References.rebuild`). Files are a few
hundred megabytes, some are under way at a time, and each is deleted once it is in.
"""

import io
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient
from pymilvus.client.types import BulkInsertState

from store import objects
from store.connection import IndexUnavailable

Rows = tuple[NDArray[np.int64], NDArray[np.float32]]  # ids (rows,) and fingerprints (rows, dimensions)
_ROWS_PER_FILE = 500_000  # 256 MB at 128 dimensions; Milvus holds a whole file in memory
_UNDER_WAY = 4  # files that the server is at
_LOOK_AGAIN = 1.0  # seconds
_FAILED = (BulkInsertState.ImportFailed, BulkInsertState.ImportFailedAndCleaned)


def load(
    client: MilvusClient, collection: str, batches: Iterable[Rows], url: str, *, rows_per_file: int = _ROWS_PER_FILE,
    patience: float = 3600.0,
) -> int:  # fmt: skip
    """Import all batches into an empty collection by way of files below `url`; returns the number of rows.

    `url` is that of the server's own bucket and a prefix in it (``s3://bucket/prefix``), or a folder that a standalone
    server reads (``file:///folder``). IndexUnavailable where an import fails or takes longer than `patience` seconds.
    """
    folder = _Folder(url)
    under_way: deque[tuple[int, str]] = deque()
    rows = 0
    try:
        for ids, fingerprints in grouped(batches, rows_per_file):
            if len(under_way) == _UNDER_WAY:
                _finish(client, folder, *under_way.popleft(), patience)
            name = folder.put(ids, fingerprints)
            under_way.append((_begin(client, collection, folder, name), name))
            rows += len(ids)
        while under_way:
            _finish(client, folder, *under_way.popleft(), patience)
    finally:
        for _, name in under_way:  # of an import that was given up
            folder.delete(name)
    return rows


def grouped(batches: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The same rows in portions of at least `size`, but for the last one."""
    held: list[Rows] = []
    for batch in batches:
        held.append(batch)
        if sum(len(ids) for ids, _ in held) >= size:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[Rows]) -> Rows:
    ids, fingerprints = zip(*held, strict=True)
    return np.concatenate(ids), np.concatenate(fingerprints)


class _Folder:
    """Where files lie for the server, and what it calls them."""

    def __init__(self, url: str) -> None:
        self._store = objects.opened(url, **({"mkdir": True} if url.startswith("file://") else {}))
        # A server with local storage opens the path as it is; one with an object store looks in its own bucket.
        path = urlsplit(url).path.rstrip("/")
        self._prefix = path if url.startswith("file://") else path.lstrip("/")

    def put(self, ids: NDArray[np.int64], fingerprints: NDArray[np.float32]) -> str:
        """Write one file; returns its name in the folder."""
        name = f"asid-{uuid.uuid4().hex}.parquet"
        self._store.put(name, parquet(ids, fingerprints))
        return name

    def seen_by_server(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def delete(self, name: str) -> None:
        self._store.delete(name)


def parquet(ids: NDArray[np.int64], fingerprints: NDArray[np.float32]) -> bytes:
    """Rows as Milvus reads them: columns `id` (int64) and `fingerprint` (list of float)."""
    import pyarrow as pa  # only here: a tenth of a second that no other command needs
    import pyarrow.parquet as pq

    offsets = np.arange(len(ids) + 1, dtype=np.int32) * fingerprints.shape[1]
    lists = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(fingerprints, np.float32).reshape(-1)))
    content = io.BytesIO()
    # Random numbers do not compress; dictionaries and statistics of them are a waste.
    table = pa.table({"id": np.asarray(ids, np.int64), "fingerprint": lists})
    pq.write_table(table, content, compression="none", use_dictionary=False, write_statistics=False)
    return content.getvalue()


def _begin(client: MilvusClient, collection: str, folder: _Folder, name: str) -> int:
    # MilvusClient has no method for it; its REST counterpart needs a server of 2.4 or newer.
    return client._get_connection().do_bulk_insert(collection, "", [folder.seen_by_server(name)])


def _finish(client: MilvusClient, folder: _Folder, task: int, name: str, patience: float) -> None:
    """Wait until a file is in, then delete it."""
    ends = time.monotonic() + patience
    try:
        while (now := client._get_connection().get_bulk_insert_state(task)).state != BulkInsertState.ImportCompleted:
            if now.state in _FAILED:
                raise IndexUnavailable(
                    f"Milvus could not import {folder.seen_by_server(name)}: {now.infos.get('failed_reason')}; "
                    "check that bulk_url lies where the server reads, or leave it out"
                )
            if time.monotonic() > ends:
                raise IndexUnavailable(
                    f"Milvus has not imported {folder.seen_by_server(name)} in {patience:.0f} s ({now.state_name}); "
                    "look at its log, then `asid reindex` again"
                )
            time.sleep(_LOOK_AGAIN)
    finally:
        folder.delete(name)

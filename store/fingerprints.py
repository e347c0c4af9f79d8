"""Milvus: the fingerprints of all stored segments, searched by inner product.

One collection per checkpoint, ``fingerprints_<digest[:12]>``, with the fields ``id`` (int64) and ``fingerprint``. An
alias names the one in use, for others who look; the ledger decides which that is, and the alias follows. The same code
serves Milvus Lite and any server (store/connection.py); ``store.index`` tells which index each gets.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.milvus_client import IndexParams

from store import bulk
from store import index as indexes
from store.bulk import Rows
from store.candidates import Candidates
from store.connection import connect, is_local, reaching, release_lite
from store.identity import Identity, IndexMismatch
from store.index import MOST_CANDIDATES, IndexSettings
from store.nodes import bytes_under

_HITS_PER_CALL = 2_000_000  # keeps an answer well below gRPC's 64 MB
_BYTES_PER_QUESTION = 32 << 20
_BYTES_PER_UPSERT = 8 << 20
_IDS_PER_DELETE = 10_000
_SECONDS_TO_LOAD = 3600  # many segments, from the server's object store
_LITE_FLUSH_ROWS = 10_000  # Lite searches rows it has not flushed one by one, in Python
LITE_SEGMENTS = 200_000  # the size to which Milvus Lite suits: a query takes seconds beyond (docs/scale.md)

logger = logging.getLogger(__name__)


class IndexIncomplete(LookupError):
    """Milvus lacks segments that the ledger calls stored."""


class Fingerprints:
    """The collection of one checkpoint in Milvus; safe to use from several threads."""

    def __init__(self, client: MilvusClient, uri: str, identity: Identity, index: IndexSettings, alias: str) -> None:
        self._client, self._uri, self._identity = client, uri, identity
        self._settings = self._index = index  # what is wanted, and, once open, what the collection has
        self._alias, self._collection = alias, f"fingerprints_{identity.short}"
        self._unflushed, self._advised = 0, False
        self.version = ""

    @classmethod
    def open(
        cls, uri: str, identity: Identity, *, catalogue: str, token: str = "", alias: str = "asid",
        index: IndexSettings | None = None, read_only: bool = False, beside: bool = False,
    ) -> Self:  # fmt: skip
        """Open the checkpoint's collection, or create it; ``catalogue`` is the name of the ledger it belongs to.

        ``beside`` leaves the alias where it is. IndexUnavailable, IndexMismatch; IndexIncomplete where there is no
        collection and ``read_only``.
        """
        store = cls(connect(uri, token), uri, identity, index or IndexSettings(), alias)
        try:
            store._prepare(catalogue, read_only, beside)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def is_lite(self) -> bool:
        """Whether this is Milvus Lite, in this process or served by another."""
        return indexes.is_lite(self.version)

    @property
    def kind(self) -> str:
        """Kind of the index that the collection has: FLAT, IVF_FLAT, IVF_PQ or GPU_IVF_PQ."""
        return self._index.kind

    @property
    def overfetch(self) -> int:
        """Candidates to search for each one wanted, before they are re-scored; 1 where the index is exact enough."""
        return self._index.overfetch if self._index.quantised else 1

    @property
    def most_candidates(self) -> int:
        """The largest ``limit`` of a search."""
        return self._index.most_candidates

    def upsert(self, ids: NDArray[np.int64], fingerprints: NDArray[np.float32]) -> None:
        """Write segments; those that are there already are replaced."""
        batch = min(10_000, max(1, _BYTES_PER_UPSERT // (4 * self._identity.dimensions)))
        with self._reaching("write"):
            for start in range(0, len(ids), batch):
                pairs = zip(ids[start : start + batch].tolist(), fingerprints[start : start + batch])
                rows = [{"id": number, "fingerprint": fingerprint} for number, fingerprint in pairs]
                self._client.upsert(self._collection, rows, timeout=self._settings.timeout)
        self._unflushed += len(ids)
        if self._unflushed >= _LITE_FLUSH_ROWS:
            self.flush()

    def fill(self, batches: Iterable[Rows], *, rows: int) -> None:
        """Write all segments of an empty collection, ``rows`` of them; many by bulk import where that is set up."""
        if self._settings.bulk_url and rows >= self._settings.bulk_from and not self.is_lite:
            with self._reaching("import"):
                # Loaded anew, since a server looks for imported segments only then.
                self._client.release_collection(self._collection)
                bulk.load(self._client, self._collection, batches, self._settings.bulk_url)
                self._client.load_collection(self._collection, timeout=_SECONDS_TO_LOAD)
            return
        for ids, fingerprints in batches:
            self.upsert(ids, fingerprints)
        self.flush()

    def delete(self, ids: Sequence[int]) -> None:
        """Take segments out; ids that are not there are no error."""
        with self._reaching("delete"):
            for start in range(0, len(ids), _IDS_PER_DELETE):
                batch = list(ids[start : start + _IDS_PER_DELETE])
                self._client.delete(self._collection, ids=batch, timeout=self._settings.timeout)

    def search(self, fingerprints: NDArray[np.float32], *, limit: int) -> Candidates:
        """The ``limit`` nearest segments of each fingerprint (queries, dimensions), in one call where Milvus allows.

        ValueError for more than ``most_candidates``. Where ``overfetch`` is above 1, similarities are approximate.
        """
        if not 1 <= limit <= self.most_candidates:
            raise ValueError(f"an index of kind {self.kind} gives 1..{self.most_candidates} candidates, not {limit}")
        largest = _BYTES_PER_QUESTION // (4 * self._identity.dimensions)
        queries = max(1, min(MOST_CANDIDATES, _HITS_PER_CALL // limit, largest))
        rows, ids, similarities = [], [], []
        for start in range(0, len(fingerprints), queries):
            for row, hits in enumerate(self._ask(fingerprints[start : start + queries], limit), start):
                rows += [row] * len(hits)
                ids += hits.ids
                similarities += hits.distances
        return Candidates(
            query_rows=np.array(rows, np.int64),
            segment_ids=np.array(ids, np.int64),
            similarities=np.array(similarities, np.float32),
        ).ordered()

    def count(self) -> int:
        """Segments in the collection, exactly."""
        with self._reaching("count"):
            answer = self._client.query(
                self._collection,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=self._settings.timeout,
            )
        return int(answer[0]["count(*)"])

    def recreate(self, catalogue: str) -> None:
        """Drop the collection and begin an empty one."""
        pointed = self._target()
        self.drop()
        self._prepare(catalogue, read_only=False, beside=pointed not in (None, self._collection))

    def drop(self) -> None:
        """Drop the collection, and the alias where it names this one."""
        with self._reaching("drop the collection"):
            if self._target() == self._collection:
                self._client.drop_alias(self._alias)
            self._client.drop_collection(self._collection)
        self._unflushed = 0

    def switch(self, catalogue: str) -> None:
        """Let the alias name this collection; IndexMismatch where it names that of another catalogue."""
        with self._reaching("switch the alias"):
            target = self._target()
            if target is None:
                self._client.create_alias(self._collection, self._alias)
            elif target != self._collection:
                self._require_catalogue(self._client.describe_collection(target), catalogue)
                self._client.alter_alias(self._collection, self._alias)

    def flush(self) -> None:
        """Let Milvus Lite sort what was written into its index; servers do so by themselves."""
        if self.is_lite and self._unflushed:
            with self._reaching("flush"):
                self._client.flush(self._collection, timeout=self._settings.timeout)
            self._advise()
        self._unflushed = 0

    def size(self) -> int | None:
        """Bytes on disk of a Milvus Lite folder, None for a server."""
        return bytes_under(Path(self._uri)) if is_local(self._uri) else None

    def close(self) -> None:
        """Flush and disconnect; the last one to leave a Milvus Lite folder opens it for other processes."""
        try:
            self.flush()
        finally:
            self._client.close()
            if is_local(self._uri):
                release_lite(self._uri)

    def _advise(self) -> None:
        if not self._advised and (held := self.count()) > LITE_SEGMENTS:
            self._advised = True
            logger.warning(
                "Milvus Lite holds %d segments and gets slow beyond %d: move to a Milvus server, give its address as "
                "milvus_uri, and run `asid reindex`",
                held,
                LITE_SEGMENTS,
            )

    def _ask(self, fingerprints: NDArray[np.float32], limit: int) -> list:
        with self._reaching("search"):
            return self._client.search(
                self._collection,  # not the alias: it may be switched, and pymilvus' sessions do not see through it
                data=np.ascontiguousarray(fingerprints, np.float32),
                limit=limit,
                output_fields=["id"] if self.is_lite else [],  # with none, Lite sends every fingerprint back
                search_params={} if self.is_lite else {"metric_type": "IP", "params": self._index.search()},
                timeout=self._settings.timeout,
            )

    def _prepare(self, catalogue: str, read_only: bool, beside: bool) -> None:
        with self._reaching("open the collection"):
            self.version = self._client.get_server_version()
            there = self._client.has_collection(self._collection)
            indexed = there and bool(self._client.list_indexes(self._collection))  # not where its maker was killed
            if read_only and not indexed:
                raise IndexIncomplete(f"Milvus at {self._uri} has no {self._collection}; run `asid reindex`")
            wanted = None if indexed else self._index_params()
            if not there:
                self._create(catalogue)
            found = self._client.describe_collection(self._collection)
            self._identity.require({"digest": found["properties"].get("asid.digest")}, self._where(found))
            self._require_catalogue(found, catalogue)
            if wanted is not None:
                # Lite has its index at once and knows nothing of waiting for one.
                timeout = self._settings.timeout
                self._client.create_index(self._collection, wanted, timeout=timeout, sync=not self.is_lite)
            if not (read_only or beside):
                self.switch(catalogue)
            self._index = indexes.kept(self._client, self._collection, self._settings)
            self._client.load_collection(self._collection, timeout=self._settings.timeout)

    def _create(self, catalogue: str) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("fingerprint", DataType.FLOAT_VECTOR, dim=self._identity.dimensions)
        # "Session": one sees what one wrote oneself, without the wait that "Strong" costs each search.
        self._client.create_collection(
            self._collection,
            schema=schema,
            consistency_level="Session",
            properties={"asid.digest": self._identity.digest, "asid.catalogue": catalogue},
            timeout=self._settings.timeout,
        )

    def _index_params(self) -> IndexParams:
        """What to build; ValueError where this Milvus or this fingerprint cannot have it."""
        index = indexes.chosen(self._client, self.version, self._settings)
        params = self._client.prepare_index_params()
        build = index.build(self._identity.dimensions)
        params.add_index("fingerprint", index_type=index.kind, metric_type="IP", params=build)
        return params

    def _target(self) -> str | None:
        """The collection that the alias names; None where there is no alias."""
        if not self._client.has_collection(self._alias):
            return None
        return self._client.describe_collection(self._alias)["collection_name"]

    def _require_catalogue(self, found: dict, catalogue: str) -> None:
        owner = found["properties"].get("asid.catalogue")
        if owner != catalogue:
            raise IndexMismatch(
                f"{self._where(found)} belongs to catalogue {owner}, this is {catalogue}; "
                "name another alias and database, or give the data directory it was filled from"
            )

    def _where(self, found: dict) -> str:
        return f"the collection {found['collection_name']} in Milvus at {self._uri}"

    def _reaching(self, purpose: str) -> AbstractContextManager[None]:
        return reaching(self._uri, purpose)

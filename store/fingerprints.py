"""Milvus: the fingerprints of all stored segments, searched by inner product.

One collection per checkpoint, ``fingerprints_<digest[:12]>``, with the fields ``id`` (int64) and ``fingerprint``,
opened through an alias: what the alias means at that moment is used until it is closed. The same code serves Milvus
Lite (a folder ``x.db`` that one process may hold) and any server. Lite gets a FLAT index whatever the settings say: it
accepts IVF_PQ and GPU indexes on an empty collection and can never load them again, so what it is must be read from
its version, not tried out.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException, ParamError

from store.candidates import Candidates
from store.identity import Identity, IndexMismatch
from store.nodes import bytes_under

MOST_CANDIDATES = 16_384  # Milvus' limit on results per query, and on queries per call
_HITS_PER_CALL = 2_000_000  # keeps an answer well below gRPC's 64 MB
_BYTES_PER_UPSERT = 8 << 20
_IDS_PER_DELETE = 10_000
_LITE_FLUSH_ROWS = 10_000  # Lite searches rows it has not flushed one by one, in Python
_CONNECT_TIMEOUT = 10.0  # seconds

_lite_holders: Counter[str] = Counter()  # Lite's server is one per path and process, whoever opened it
_lite_lock = threading.Lock()


class IndexUnavailable(ConnectionError):
    """Milvus does not answer, or another process holds the Milvus Lite folder."""


class IndexIncomplete(LookupError):
    """Milvus lacks segments that the ledger calls stored."""


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """The index on a Milvus server; Milvus Lite always searches exactly.

    The published recipe is IVF_PQ with m=64, nbits=8, nprobe=20. IVF_FLAT keeps the 5 points of recall that product
    quantisation costs, for 8 times the memory.
    """

    kind: Literal["FLAT", "IVF_FLAT", "IVF_PQ"] = "IVF_FLAT"
    nlist: int = 1024  # cells; about 4 * sqrt(rows per Milvus segment)
    m: int = 64  # subvectors of a fingerprint; divides its dimensions
    nbits: int = 8  # per subvector
    nprobe: int = 20  # cells visited per query
    timeout: int = 60  # seconds per call; pymilvus waits for an index for ever when this is no int

    def __post_init__(self) -> None:
        if self.kind not in ("FLAT", "IVF_FLAT", "IVF_PQ"):
            raise ValueError(f"index kind {self.kind!r} is unknown; choose FLAT, IVF_FLAT or IVF_PQ")
        ranges = {"nlist": (1, 65_536), "m": (1, 65_536), "nbits": (4, 8), "nprobe": (1, self.nlist)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low}..{high}, got {getattr(self, name)}")
        if not isinstance(self.timeout, int) or self.timeout < 1:
            raise ValueError(f"timeout must be a whole number of seconds, 1 or more, got {self.timeout}")

    def build(self, dimensions: int) -> dict[str, int]:
        """Build parameters for fingerprints of this size."""
        if self.kind != "IVF_PQ":
            return {"nlist": self.nlist} if self.kind == "IVF_FLAT" else {}
        if dimensions % self.m:
            raise ValueError(
                f"m={self.m} does not divide the {dimensions} dimensions of a fingerprint; choose one that does"
            )
        return {"nlist": self.nlist, "m": self.m, "nbits": self.nbits}

    def search(self) -> dict[str, int]:
        """Search parameters."""
        return {} if self.kind == "FLAT" else {"nprobe": self.nprobe}


class Fingerprints:
    """The collection of one checkpoint in Milvus; safe to use from several threads."""

    def __init__(self, client: MilvusClient, uri: str, identity: Identity, index: IndexSettings, alias: str) -> None:
        self._client, self._uri, self._identity, self._index = client, uri, identity, index
        self._alias, self._collection = alias, f"fingerprints_{identity.short}"
        self._unflushed = 0
        self.version = ""

    @classmethod
    def open(
        cls, uri: str, identity: Identity, *, catalogue: str, token: str = "", alias: str = "asid",
        index: IndexSettings | None = None, read_only: bool = False,
    ) -> Self:  # fmt: skip
        """Open the collection behind ``alias``, or create it; ``catalogue`` is the name of the ledger it belongs to.

        IndexUnavailable, IndexMismatch; IndexIncomplete where there is no collection and ``read_only``.
        """
        store = cls(_connect(uri, token), uri, identity, index or IndexSettings(), alias)
        try:
            store._prepare(catalogue, read_only)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def is_lite(self) -> bool:
        """Whether this is Milvus Lite, in this process or served by another."""
        # Only the prefix tells: the standalone server of the milvus package says "v2.3.5-lite".
        return self.version.startswith("milvus_lite")

    def upsert(self, ids: NDArray[np.int64], fingerprints: NDArray[np.float32]) -> None:
        """Write segments; those that are there already are replaced."""
        batch = min(10_000, max(1, _BYTES_PER_UPSERT // (4 * self._identity.dimensions)))
        with self._reaching("write"):
            for start in range(0, len(ids), batch):
                pairs = zip(ids[start : start + batch].tolist(), fingerprints[start : start + batch])
                rows = [{"id": number, "fingerprint": fingerprint} for number, fingerprint in pairs]
                self._client.upsert(self._collection, rows, timeout=self._index.timeout)
        self._unflushed += len(ids)
        if self._unflushed >= _LITE_FLUSH_ROWS:
            self.flush()

    def delete(self, ids: Sequence[int]) -> None:
        """Take segments out; ids that are not there are no error."""
        with self._reaching("delete"):
            for start in range(0, len(ids), _IDS_PER_DELETE):
                batch = list(ids[start : start + _IDS_PER_DELETE])
                self._client.delete(self._collection, ids=batch, timeout=self._index.timeout)

    def search(self, fingerprints: NDArray[np.float32], *, limit: int) -> Candidates:
        """The ``limit`` nearest segments of each fingerprint (queries, dimensions), in one call where Milvus allows."""
        queries = min(MOST_CANDIDATES, max(1, _HITS_PER_CALL // limit))
        rows, ids, similarities = [], [], []
        for start in range(0, len(fingerprints), queries):
            for row, hits in enumerate(self._ask(fingerprints[start : start + queries], limit), start):
                rows += [row] * len(hits)
                ids += [hit["id"] for hit in hits]
                similarities += [hit["distance"] for hit in hits]
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
                timeout=self._index.timeout,
            )
        return int(answer[0]["count(*)"])

    def recreate(self, catalogue: str) -> None:
        """Drop the collection and begin an empty one."""
        self.drop()
        self._prepare(catalogue, read_only=False)

    def drop(self) -> None:
        """Drop the collection and its alias."""
        with self._reaching("drop the collection"):
            if self._client.has_collection(self._alias):
                self._client.drop_alias(self._alias)
            self._client.drop_collection(self._collection)
        self._unflushed = 0

    def flush(self) -> None:
        """Let Milvus Lite sort what was written into its index; servers do so by themselves."""
        if self.is_lite and self._unflushed:
            with self._reaching("flush"):
                self._client.flush(self._collection, timeout=self._index.timeout)
        self._unflushed = 0

    def size(self) -> int | None:
        """Bytes on disk of a Milvus Lite folder, None for a server."""
        return bytes_under(Path(self._uri)) if _is_local(self._uri) else None

    def close(self) -> None:
        """Flush and disconnect; the last one to leave a Milvus Lite folder opens it for other processes."""
        try:
            self.flush()
        finally:
            self._client.close()
            if _is_local(self._uri):
                _release_lite(self._uri)

    def _ask(self, fingerprints: NDArray[np.float32], limit: int) -> list:
        with self._reaching("search"):
            return self._client.search(
                self._collection,  # not the alias: it may be switched, and pymilvus' sessions do not see through it
                data=np.ascontiguousarray(fingerprints, np.float32),
                limit=limit,
                output_fields=["id"],  # without it Lite sends every fingerprint back
                search_params={} if self.is_lite else {"metric_type": "IP", "params": self._index.search()},
                timeout=self._index.timeout,
            )

    def _prepare(self, catalogue: str, read_only: bool) -> None:
        with self._reaching("open the collection"):
            self.version = self._client.get_server_version()
            if not self._client.has_collection(self._alias):
                if read_only:
                    raise IndexIncomplete(f"Milvus at {self._uri} has no {self._alias!r}; run `asid reindex`")
                if not self._client.has_collection(self._collection):
                    self._create(catalogue)
                self._client.create_alias(self._collection, self._alias)
            found = self._client.describe_collection(self._alias)
            self._require_ours(found, catalogue)
            self._client.load_collection(self._collection, timeout=self._index.timeout)

    def _create(self, catalogue: str) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("fingerprint", DataType.FLOAT_VECTOR, dim=self._identity.dimensions)
        kind, build = ("FLAT", {}) if self.is_lite else (self._index.kind, self._index.build(self._identity.dimensions))
        params = self._client.prepare_index_params()
        params.add_index("fingerprint", index_type=kind, metric_type="IP", params=build)
        # "Session": one sees what one wrote oneself, without the wait that "Strong" costs each search.
        self._client.create_collection(
            self._collection,
            schema=schema,
            consistency_level="Session",
            properties={"asid.digest": self._identity.digest, "asid.catalogue": catalogue},
            timeout=self._index.timeout,
        )
        # Lite has its index at once and knows nothing of waiting for one.
        self._client.create_index(self._collection, params, timeout=self._index.timeout, sync=not self.is_lite)

    def _require_ours(self, found: dict, catalogue: str) -> None:
        kept = found["properties"]
        where = f"the collection behind {self._alias!r} in Milvus at {self._uri}"
        self._identity.require({"digest": kept.get("asid.digest", found["collection_name"])}, where)
        if kept.get("asid.catalogue") != catalogue:
            raise IndexMismatch(
                f"{where} belongs to catalogue {kept.get('asid.catalogue')}, this is {catalogue}; "
                "name another alias and database, or give the data directory it was filled from"
            )

    @contextmanager
    def _reaching(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except ParamError:
            raise
        except MilvusException as error:
            reason = error.message.partition("\n")[0]
            raise IndexUnavailable(
                f"Milvus at {self._uri} could not {purpose}: {reason}; check that it runs and try again"
            ) from error


def _is_local(uri: str) -> bool:
    return uri.endswith(".db")  # pymilvus' own rule for Milvus Lite in this process


def _connect(uri: str, token: str) -> MilvusClient:
    # Both packages log a traceback for each error that is then raised and told in one line here.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _lite_lock:
            client = MilvusClient(uri, token=token, timeout=_CONNECT_TIMEOUT)
            if _is_local(uri):
                _lite_holders[uri] += 1
    except MilvusException as error:
        held = _is_local(uri) and Path(uri).parent.is_dir()
        cure = (
            "another process holds it: wait for that one, or serve it with `milvus-lite server` and give its address"
            if held
            else "start Milvus there, or correct the address and token"
        )
        raise IndexUnavailable(f"Milvus at {uri} cannot be opened ({error.message}); {cure}") from error
    return client


def _release_lite(uri: str) -> None:
    # Closing a client leaves the folder locked until the process ends.
    from milvus_lite.server_manager import server_manager_instance

    with _lite_lock:
        _lite_holders[uri] -= 1
        if _lite_holders[uri] <= 0:
            server_manager_instance.release_server(uri)

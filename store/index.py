"""The index of a Milvus collection: its settings, and the kind that suits the Milvus at hand.

"auto" means FLAT on Milvus Lite, which searches exactly in any case; GPU_IVF_PQ on a server that has a GPU; IVF_PQ on
one that has none. The last two quantise, as in the paper; ``store.rescore`` gives back the accuracy that this costs.

No error tells whether a server has a GPU: servers without one accept GPU_IVF_PQ, and then refuse, fail or never finish
the build, by version. So a server whose version ends in "-gpu" is given a scratch collection to build and search.
"""

import logging
import time
import uuid
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

Kind = Literal["auto", "FLAT", "IVF_FLAT", "IVF_PQ", "GPU_IVF_PQ"]
QUANTISED = ("IVF_PQ", "GPU_IVF_PQ")
MOST_CANDIDATES = 16_384  # Milvus' limit on results per query, and on queries per call
MOST_GPU_CANDIDATES = 1024  # per query, with GPU_IVF_PQ
_PROBE_ROWS = 2048  # below 1024, servers call any index finished without building it
_PROBE_DIMENSIONS, _PROBE_BUILD = 16, {"nlist": 8, "m": 8, "nbits": 8}
_PROBE_SECONDS = 60

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How a Milvus server indexes fingerprints; the defaults are the published recipe. Milvus Lite searches exactly."""

    kind: Kind = "auto"
    nlist: int = 1024  # cells; about 4 * sqrt(rows per Milvus segment)
    m: int = 64  # subvectors of a fingerprint; divides its dimensions
    nbits: int = 8  # per subvector
    nprobe: int = 20  # cells visited per query
    overfetch: int = 2  # candidates asked of a quantised index for each one wanted; docs/scale.md has the figures
    bulk_url: str | None = None  # where the server reads files, for `asid reindex` of many segments (store/bulk.py)
    bulk_from: int = 10_000_000  # segments from which that way is taken
    timeout: int = 60  # seconds per call; pymilvus waits for an index for ever when this is no int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"index kind {self.kind!r} is unknown; choose one of {', '.join(get_args(Kind))}")
        ranges = {
            "nlist": (1, 65_536), "m": (1, 65_536), "nbits": (4, 8), "nprobe": (1, self.nlist), "overfetch": (1, 1000),
            "bulk_from": (1, 2**63 - 1),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low}..{high}, got {getattr(self, name)}")
        if not isinstance(self.timeout, int) or self.timeout < 1:
            raise ValueError(f"timeout must be a whole number of seconds, 1 or more, got {self.timeout}")

    @property
    def quantised(self) -> bool:
        """Whether similarities come from quantised fingerprints, so that candidates need re-scoring."""
        return self.kind in QUANTISED

    @property
    def most_candidates(self) -> int:
        """Milvus' limit on results per query."""
        return MOST_GPU_CANDIDATES if self.kind == "GPU_IVF_PQ" else MOST_CANDIDATES

    def build(self, dimensions: int) -> dict[str, int | str]:
        """Build parameters for fingerprints of this size; ValueError where m does not divide it."""
        if not self.quantised:
            return {"nlist": self.nlist} if self.kind == "IVF_FLAT" else {}
        if dimensions % self.m:
            raise ValueError(
                f"m={self.m} does not divide the {dimensions} dimensions of a fingerprint; choose one that does"
            )
        # Zarr keeps the fingerprints as they are; a copy of them has no place on the GPU.
        cache = {"cache_dataset_on_device": "false"} if self.kind == "GPU_IVF_PQ" else {}
        return {"nlist": self.nlist, "m": self.m, "nbits": self.nbits, **cache}

    def search(self) -> dict[str, int]:
        """Search parameters."""
        return {} if self.kind == "FLAT" else {"nprobe": self.nprobe}


def is_lite(version: str) -> bool:
    """Whether this is the version of Milvus Lite, in this process or served by another."""
    # Only the prefix tells: the standalone server of the milvus package says "v2.3.5-lite".
    return version.startswith("milvus_lite")


def chosen(client: MilvusClient, version: str, settings: IndexSettings) -> IndexSettings:
    """The settings with the kind that a new collection gets from this Milvus.

    ValueError where GPU_IVF_PQ is asked of a server without a GPU. Milvus Lite gets FLAT whatever is asked: it accepts
    the other kinds on an empty collection, never builds them and cannot load them again.
    """
    if is_lite(version):
        return replace(settings, kind="FLAT")
    if settings.kind == "auto":
        gpu = version.endswith("-gpu") and gpu_works(client)
        return replace(settings, kind="GPU_IVF_PQ" if gpu else "IVF_PQ")
    if settings.kind == "GPU_IVF_PQ" and not gpu_works(client):
        raise ValueError(f"index kind GPU_IVF_PQ needs a GPU, which Milvus {version} could not use; choose auto")
    return settings


def kept(client: MilvusClient, collection: str, settings: IndexSettings) -> IndexSettings:
    """The settings with the kind that an existing collection has."""
    (name,) = client.list_indexes(collection)
    kind = client.describe_index(collection, name)["index_type"]
    if settings.kind not in ("auto", kind):
        logger.warning("%s has an index of kind %s, not %s; `asid reindex` builds it", collection, kind, settings.kind)
    return replace(settings, kind=kind)


def gpu_works(client: MilvusClient, *, timeout: int = _PROBE_SECONDS) -> bool:
    """Whether the server builds and searches a GPU index, seen on a scratch collection; never ask Milvus Lite.

    A refusal, a failed build and one that is not done after ``timeout`` seconds all mean no.
    """
    scratch, ends = f"asid_probe_{uuid.uuid4().hex}", time.monotonic() + timeout
    try:
        return _build_and_search(client, scratch, ends)
    except MilvusException as error:
        logger.info("Milvus has no use of a GPU: %s", error.message)
        return False
    finally:
        client.drop_collection(scratch, timeout=_PROBE_SECONDS)


def _build_and_search(client: MilvusClient, scratch: str, ends: float) -> bool:
    def left() -> int:
        return max(1, round(ends - time.monotonic()))

    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("fingerprint", DataType.FLOAT_VECTOR, dim=_PROBE_DIMENSIONS)
    client.create_collection(scratch, schema=schema, timeout=left())
    values = np.random.default_rng(0).standard_normal((_PROBE_ROWS, _PROBE_DIMENSIONS)).astype(np.float32)
    rows = [{"id": number, "fingerprint": value} for number, value in enumerate(values)]
    client.insert(scratch, rows, timeout=left())
    client.flush(scratch, timeout=left())
    params = client.prepare_index_params()
    params.add_index("fingerprint", index_type="GPU_IVF_PQ", metric_type="IP", params=_PROBE_BUILD)
    client.create_index(scratch, params, timeout=left())
    client.load_collection(scratch, timeout=left())
    search = {"metric_type": "IP", "params": {"nprobe": _PROBE_BUILD["nlist"]}}
    found = client.search(scratch, data=values[:1], limit=1, search_params=search, timeout=left())
    return len(found[0]) == 1

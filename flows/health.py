"""Health: is everything there that ingestion and queries need? One record a part, none of them raises.

    encoder   loads, and its digest                    ledger   reachable, with this version's schema; counts
    milvus    reachable; version, index kind, count    segment  a stored segment found in Milvus is read back from Zarr
    disk      bytes left where the data directory is   prefect  its API answers, where PREFECT_API_URL is set

What cannot be looked at because something before it failed is left out.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from encoder.encode import Encoder
from flows import assembly
from flows.settings import Settings
from store.connection import IndexUnavailable
from store.fingerprints import Fingerprints
from store.references import References
from store.segment_ids import track_of

LEAST_FREE = 1 << 30  # bytes
# What a part that is away, damaged or of another version surfaces as.
_FAILURES = (ValueError, LookupError, OSError, RuntimeError, ArithmeticError, ImportError)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part: whether it is well, and a line that says what was seen."""

    part: str
    well: bool
    seen: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.well else 'FAIL'}  {self.part:<8} {self.seen}"


def check(settings: Settings) -> tuple[Check, ...]:
    """Look at every part of an installation; the first failure of a chain ends that chain, not the others."""
    return (*_catalogue(settings), *_looked("disk", lambda: _disk(settings)), *_prefect())


def _catalogue(settings: Settings) -> Iterator[Check]:
    """Encoder, ledger, Milvus and Zarr, each of which needs the one before it."""
    opened: dict[str, Encoder | References] = {}
    with ExitStack() as parts:

        def load() -> str:
            opened["encoder"] = assembly.encoder(settings)
            return f"{opened['encoder'].system.name}, digest {opened['encoder'].digest[:12]}"

        def open_references() -> str:
            references = assembly.references(settings, opened["encoder"], read_only=True, verify=False)
            opened["references"] = parts.enter_context(references)
            counts = references.counts()
            return f"{counts.stored} tracks stored, {counts.pending} pending, {counts.failed} failed"

        steps = (
            ("encoder", load),
            ("ledger", open_references),
            ("milvus", lambda: _milvus(settings, opened["references"])),
            ("segment", lambda: _segment(opened["references"])),
        )
        for part, look in steps:
            (found,) = _looked(part, look)
            yield found
            if not found.well:
                return


def _milvus(settings: Settings, references: References) -> str:
    """Version and index; IndexIncomplete where Milvus has fewer segments than the ledger calls stored."""
    uri = settings.milvus_uri or str(settings.data.absolute() / "fingerprints.db")
    token, name = os.environ.get("ASID_MILVUS_TOKEN", ""), references.catalogue.name()
    index = Fingerprints.open(
        uri, references.identity, catalogue=name, token=token, index=settings.index, read_only=True
    )
    try:
        found, kind, version = references.require_complete(), index.kind, index.version
    finally:
        index.close()
    return f"{version}, {kind}, {found} segments, {references.counts().segments} in the ledger"


def _segment(references: References) -> str:
    """The stored segment that is nearest to a random direction: in Milvus, in the ledger, in Zarr and not zero."""
    if not references.counts().segments:
        return "nothing is stored yet"
    direction = np.random.default_rng().normal(size=(1, references.identity.dimensions)).astype(np.float32)
    found = references.candidates(direction / np.linalg.norm(direction), limit=1)
    if not len(found.segment_ids):
        raise LookupError("Milvus returns no stored segment; run `asid reindex`")
    references.node_matrices(found.segment_ids)  # raises where one is missing, or nothing but zeros
    references.features(track_of(found.segment_ids).tolist())  # so do the contrast features of its track
    return f"segment {found.segment_ids[0]} read back"


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(settings.data).free
    if free < LEAST_FREE:
        raise OSError(f"{free >> 20} MiB left in {settings.data}, expected 1 GiB or more; make room")
    return f"{free / 2**30:.1f} GiB left in {settings.data}"


def _prefect() -> tuple[Check, ...]:
    if "PREFECT_API_URL" not in os.environ:
        return ()

    def ask() -> str:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            if (error := client.api_healthcheck()) is not None:
                raise ConnectionError(
                    f"{os.environ['PREFECT_API_URL']} does not answer ({error or type(error).__name__})"
                )
            return f"{os.environ['PREFECT_API_URL']}, server {client.api_version()}"

    return _looked("prefect", ask)


def _looked(part: str, look: Callable[[], str]) -> tuple[Check]:
    try:
        return (Check(part=part, well=True, seen=look()),)
    except _FAILURES as error:
        if isinstance(error, IndexUnavailable):
            part = "milvus"  # whatever was looked at when it was found to be away
        seen = next(filter(None, (line.strip() for line in str(error).splitlines())), type(error).__name__)
        return (Check(part=part, well=False, seen=seen),)

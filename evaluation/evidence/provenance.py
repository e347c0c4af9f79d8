"""Provenance: what an answer rests on: program, versions, encoder, settings and catalogue, as a record that is kept."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from encoder import checkpoint
from reranker.search import Searcher

_PACKAGES = ("asid", "torch", "numpy", "scipy", "pymilvus", "milvus-lite", "zarr", "soundfile", "soxr")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Whatever must be the same for an answer to come out the same."""

    created: str  # ISO 8601, UTC
    command: str
    versions: Mapping[str, str]
    system: str  # name of the encoder's recipe
    encoder: str  # digest of its checkpoint
    reranker: str | None  # digest of its weights; None where candidates are not scored by one
    verifier: str | None  # digest of its checkpoint; None where none has a say in the scores
    ranking: Mapping[str, Any]  # fields of reranker.rank.Ranking
    include_self: bool
    tracks: int  # stored references
    segments: int
    seconds: float  # of all references
    minimum: float | None  # score from which a match is returned; None where its confidence decides
    calibration: str | None  # digest; None without


def of(searcher: Searcher, *, command: str, include_self: bool = False) -> Provenance:
    """What the searcher's answers rest on at this moment."""
    counts = searcher.references.counts()
    classifier = searcher.classifier
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        versions={name: metadata.version(name) for name in _PACKAGES},
        system=searcher.encoder.system.name,
        encoder=searcher.encoder.digest,
        reranker=None if classifier is None else checkpoint.digest({}, classifier.state_dict()),
        verifier=(searcher.correlator and searcher.correlator.correlation.verifier) or None,
        ranking=asdict(searcher.ranking),
        include_self=include_self,
        tracks=counts.stored,
        segments=counts.segments,
        seconds=counts.duration,
        minimum=searcher.minimum,
        calibration=None if searcher.calibration is None else searcher.calibration.digest,
    )

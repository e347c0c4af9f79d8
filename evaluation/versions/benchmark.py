"""Version identification, evaluated: every recording of a split looks for the other versions of its work.

Protocol (Serrà et al., ICML 2025, section 4): all recordings of the split are queries and candidates. Track level: all
windows of both, every 5 s, reduced by bpwr-10. Segment level: of all windows of the query of 5 to 90 s, the one that
comes nearest to any window of the candidate (reduction min). Recordings are cut at ten minutes. Intervals are 95 %
bootstrap intervals over works. A recording that is silent has no embedding and is infinitely far from everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder import reductions
from encoder.encode import Encoder
from encoder.training.version_set import Version
from evaluation.bootstrap import Estimate
from evaluation.versions import embeddings, measures
from reranker.versions import between

LENGTHS = (5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 90.0)  # seconds, as published
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class VersionProtocol:
    """How versions are looked for."""

    reduction: str = "bpwr-10"  # of track-level distances
    lengths: tuple[float, ...] = LENGTHS  # seconds of the queries at segment level; none: track level alone
    longest: float = 600.0  # seconds of a recording
    seed: int = 1  # of the bootstrap

    def __post_init__(self) -> None:
        reductions.parsed(self.reduction)
        if self.longest <= 0 or any(length <= 0 for length in self.lengths):
            raise ValueError(
                f"version protocol: lengths {self.lengths} of at most {self.longest} s, expected more than 0"
            )


def evaluate(
    encoder: Encoder, versions: Sequence[Version], protocol: VersionProtocol, *, progress: Progress | None = None
) -> dict[str, dict[str, Estimate]]:
    """Measures with their bootstrap draws, for "track" and for each query length such as "20 s"."""
    told = progress or (lambda _: None)
    tracks = []
    for version in versions:
        told(version.track)
        tracks.append(embeddings.whole_track(encoder, version.path, longest=protocol.longest))
    results = {"track": _measured(between(tracks, tracks, protocol.reduction), versions, protocol)}
    for seconds in protocol.lengths if encoder.grid.shingled else ():
        queries = []
        for version in versions:
            told(f"{version.track}, {seconds:g} s")
            queries.append(embeddings.windows(encoder, version.path, seconds=seconds, longest=protocol.longest))
        results[f"{seconds:g} s"] = _measured(between(queries, tracks, "min"), versions, protocol)
    return results


def to_json(results: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """Value and interval of every measure."""
    return {
        level: {name: _interval(estimate) for name, estimate in values.items()} for level, values in results.items()
    }


def differences(
    results: dict[str, dict[str, Estimate]], baseline: dict[str, dict[str, Estimate]]
) -> dict[str, dict[str, Estimate]]:
    """Measures of one system less another's, on the same draws of the same queries."""
    return {
        level: {name: estimate - baseline[level][name] for name, estimate in values.items()}
        for level, values in results.items()
        if level in baseline
    }


def _measured(
    distances: NDArray[np.float32], versions: Sequence[Version], protocol: VersionProtocol
) -> dict[str, Estimate]:
    works = np.array([version.work for version in versions])
    itself = np.eye(len(versions), dtype=bool)
    values = measures.evaluate(distances, (works[:, None] == works) & ~itself, itself)
    return measures.estimates(values, works, seed=protocol.seed)


def _interval(estimate: Estimate) -> dict[str, float]:
    interval = estimate.interval
    return {"value": interval.value, "low": interval.low, "high": interval.high}

"""Rank: scored candidates of a query -> matches, one per reference, best first (NeuralSampleID, equations 11 and 12).

A candidate (a reference segment) counts with its best score over the query segments; what scores under the threshold
is rejected and leaves the ranking, so a reference without surviving candidates is no match and a query may have none.
A reference's score is the sum over its surviving candidates. Where references are correlated (reranker/correlate.py),
candidates only make the short list.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from store.catalogue import Track
from store.segment_ids import index_of, track_of

Span = tuple[float, float]  # start and end in seconds
UNCALIBRATED = 120.0  # score from which a correlated reference is returned without calibration
_GAP = 2.0  # seconds between hits, in query and in reference, up to which they belong to one occurrence


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Pairs of a query segment and a candidate with their scores; rows belong together."""

    query_indices: NDArray[np.int64]  # (pairs,) position of the query segment on the hop grid
    segment_ids: NDArray[np.int64]  # (pairs,) of the references
    scores: NDArray[np.float32]  # (pairs,)

    def where(self, kept: NDArray[np.bool_]) -> "Scored":
        """Only the pairs under the mask."""
        return Scored(
            query_indices=self.query_indices[kept], segment_ids=self.segment_ids[kept], scores=self.scores[kept]
        )


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One place in the query and the place in the reference that it reuses."""

    query_span: Span
    reference_span: Span
    tempo_ratio: float | None = None  # query tempo / reference tempo; None until aligned
    transposition: float | None = None  # semitones; None until aligned


@dataclass(frozen=True, kw_only=True)
class Match:
    """A reference that the query samples."""

    reference: Track
    score: float
    confidence: float | None  # probability of being right; None without a calibration
    occurrences: tuple[Occurrence, ...]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a query asks of the index and what survives."""

    by: Literal["correlation", "reranker", "similarity"] = "correlation"
    candidates: int = 5  # per query segment
    wide: int = 50  # the same where they only make the short list that is correlated
    threshold: float = 0.5  # score under which a candidate is rejected
    # Score under which a match is not returned. Neighbouring segments overlap by seven eighths, so what is really there
    # survives more than once; a lone candidate is no match.
    minimum: float = 1.0
    shortlist: int = 20  # references that are correlated with the query, at least
    effort: float = 6000.0  # seconds of query times references up to which more of them are; under 1 ms CPU each
    false_alarms: float = 0.01  # share of sample-free queries that may be answered; needs a calibration
    surplus: float | None = None  # score from which a correlated reference is returned, whatever its confidence
    top: int = 5  # matches returned

    def __post_init__(self) -> None:
        if self.by not in get_args(Ranking.__annotations__["by"]):
            raise ValueError(f"ranking: by is {self.by!r}, expected correlation, reranker or similarity")
        if not 0 < self.false_alarms < 1:
            raise ValueError(f"ranking: false_alarms is {self.false_alarms}, expected between 0 and 1; 1 % is 0.01")
        for name in ("candidates", "wide", "shortlist", "top"):
            if getattr(self, name) < 1:
                raise ValueError(f"ranking: {name} is {getattr(self, name)}, expected 1 or more")

    def size(self, seconds: float) -> int:
        """How many references are correlated with a query that long."""
        return max(self.shortlist, int(self.effort / max(seconds, 1.0)))


def by_reference(scored: Scored, *, threshold: float) -> dict[int, float]:
    """Track number -> score of every reference with a surviving candidate, best first; ties by track number."""
    survivors = scored.where(scored.scores >= threshold)
    ids, inverse = np.unique(survivors.segment_ids, return_inverse=True)
    best = np.full(len(ids), -np.inf)
    np.maximum.at(best, inverse, survivors.scores)  # equation 11: the best query segment counts
    tracks, owner = np.unique(track_of(ids), return_inverse=True)
    totals = np.bincount(owner, weights=best, minlength=len(tracks))  # equation 12
    order = np.lexsort((tracks, -totals))
    return {int(tracks[i]): float(totals[i]) for i in order}


def shortlist(scored: Scored, size: int) -> list[int]:
    """Track numbers of the references with the best single candidates, best first; ties by track number."""
    tracks, owner = np.unique(track_of(scored.segment_ids), return_inverse=True)
    best = np.full(len(tracks), -np.inf)
    np.maximum.at(best, owner, scored.scores)
    return tracks[np.lexsort((tracks, -best))][:size].tolist()


def occurrences(scored: Scored, *, hop: float, duration: float) -> tuple[Occurrence, ...]:
    """Hits of one reference that lie close together in both tracks, as one pair of spans each, strongest first."""
    starts = np.stack([scored.query_indices * hop, index_of(scored.segment_ids) * hop], axis=1)  # (hits, 2) seconds
    # Near pairs by a tree: a matrix of all pairs would fill the memory for a query of an hour.
    near = KDTree(starts).query_pairs(_GAP, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(near), bool), tuple(near.T)), shape=(len(starts), len(starts)))
    groups, label = connected_components(graph, directed=False)
    strength = np.bincount(label, weights=scored.scores, minlength=groups)
    low, high = np.full((groups, 2), np.inf), np.full((groups, 2), -np.inf)
    np.minimum.at(low, label, starts)
    np.maximum.at(high, label, starts + duration)
    spans = np.stack([low, high], axis=2)[np.argsort(-strength, kind="stable")]  # (groups, 2, 2): side, end
    return tuple(Occurrence(query_span=tuple(q), reference_span=tuple(r)) for q, r in spans.tolist())

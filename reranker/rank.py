"""Rank: scored candidates of a query -> matches, one per reference, best first (NeuralSampleID, equations 11 and 12).

A candidate (a reference segment) counts with its best score over the query segments; what scores under the threshold
is rejected and leaves the ranking, so a reference without surviving candidates is no match and a query may have none.
A reference's score is the sum over its surviving candidates. Where references are correlated (reranker/correlate.py),
candidates only make the short list. Where the survivors of a reference lie is for reranker/align.py to say; with
`Ranking.consistent` those on a line count more than scattered ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store.catalogue import Track
from store.index import MOST_CANDIDATES
from store.segment_ids import track_of

Span = tuple[float, float]  # start and end in seconds
PATIENCE = {"fast": 1, "best": 2}  # by quality, how many times as many candidates and references are looked through


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

    def within(self, hops: slice) -> "Scored":
        """Only the pairs whose query segment begins in these hops."""
        return self.where((self.query_indices >= hops.start) & (self.query_indices < hops.stop))


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One place in the query and the place in the reference that it reuses."""

    query_span: Span
    reference_span: Span
    tempo_ratio: float | None = None  # query tempo / reference tempo; None until aligned
    transposition: float | None = None  # semitones; None until aligned
    likeness: float | None = None  # cosine of the features of both spans, -1 to 1; None where they were not compared
    evidence: float | None = None  # sum of the scores it rests on; comparable within one ranking; None: not counted


@dataclass(frozen=True, kw_only=True)
class Carried:
    """How much of a match each stem of the query carries."""

    shares: Mapping[str, float]  # by stem, in the order of the stems; of sum 1, or all 0 where none is like the match
    stem: str | None  # the one that carries most; None where that cannot be told

    def __post_init__(self) -> None:
        total = sum(self.shares.values())
        if min(self.shares.values(), default=0) < 0 or not (np.isclose(total, 1) or total == 0):
            raise ValueError(f"carried: shares are {dict(self.shares)}, expected 0 or more with a sum of 1, or all 0")
        if self.stem is not None and self.stem not in self.shares:
            raise ValueError(f"carried: stem is {self.stem!r}, expected one of {', '.join(self.shares)}, or None")


@dataclass(frozen=True, kw_only=True)
class Match:
    """A reference that the query samples."""

    reference: Track
    score: float
    confidence: float | None  # probability of being right; None without a calibration
    occurrences: tuple[Occurrence, ...]
    carried: Carried | None = None  # by which stem of the query; None where that was not asked

    @property
    def longest(self) -> Occurrence | None:
        """The occurrence with the longest query span, the first of equals; None where no place is told."""
        return max(self.occurrences, key=lambda o: o.query_span[1] - o.query_span[0], default=None)

    @property
    def covered(self) -> float:
        """Seconds of the query that the occurrences cover; what several cover counts once."""
        return covered([o.query_span for o in self.occurrences])


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a query asks of the index and what survives."""

    by: Literal["auto", "correlation", "reranker", "similarity", "own"] = "auto"  # reranker/rankers.py
    candidates: int = 5  # per query segment
    wide: int = 50  # the same where a system ranks in a way of its own
    every: int = 4  # of so many query segments one asks for a short list: neighbours hear nearly the same
    listing: int = 30_000  # candidates that make a short list, those of all query segments together
    threshold: float = 0.5  # score under which a candidate is rejected
    consistent: bool = False  # whether candidates on a line count more than scattered ones (reranker/align.py)
    # Score under which a match is not returned. Neighbouring segments overlap by seven eighths, so what is really there
    # survives more than once; a lone candidate is no match.
    minimum: float = 1.0
    shortlist: int = 20  # references up to which a catalogue is correlated whole, however little time there is
    stretch: float = 24.0  # seconds of a reference that are correlated where there is no time for all of all
    # Seconds of query times seconds of references that "best" then looks through for the stretches, with coarse frames.
    rough: float = 5_000_000.0
    local: float = 200_000.0  # seconds of query times seconds of such stretches up to which more of them are
    whole: float = 40.0  # seconds up to which a query is correlated at once; a longer one is cut into windows
    # Seconds of each, at most. Every window has a short list of its own: the shorter, the more references in all.
    window: float = 20.0
    overlap: float = 5.0  # seconds that neighbouring windows share, at least
    effort: float = 700_000.0  # seconds of query times seconds of references up to which more of them are
    verify: bool = True  # whether a verifier, where there is one, has a say in the scores (reranker/verify.py)
    quality: Literal["fast", "best"] = "fast"  # PATIENCE, and how stretches are found (reranker/shortlist.py)
    false_alarms: float = 0.01  # share of sample-free queries that may be answered; needs a calibration
    surplus: float | None = None  # score from which a correlated reference is returned, whatever its confidence
    top: int | None = None  # matches returned, at most; None: 5 for each window

    def __post_init__(self) -> None:
        if self.by not in (ways := get_args(Ranking.__annotations__["by"])):
            raise ValueError(f"ranking: by is {self.by!r}, expected {' or '.join(ways)}")
        if self.quality not in PATIENCE:
            raise ValueError(f"ranking: quality is {self.quality!r}, expected {' or '.join(PATIENCE)}")
        if not 0 < self.false_alarms < 1:
            raise ValueError(f"ranking: false_alarms is {self.false_alarms}, expected between 0 and 1; 1 % is 0.01")
        if not 0 <= self.overlap < self.window <= self.whole:
            raise ValueError(
                f"ranking: overlap, window, whole are {self.overlap}, {self.window}, {self.whole} s, expected "
                "0 <= overlap < window <= whole"
            )
        if min(self.stretch, self.rough, self.local) <= 0:
            raise ValueError(
                f"ranking: stretch, rough, local are {self.stretch}, {self.rough}, {self.local}, "
                "expected more than 0 s each"
            )
        for name in ("candidates", "wide", "every", "listing", "shortlist", "top"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"ranking: {name} is {getattr(self, name)}, expected 1 or more")

    def limit(self, segments: int) -> int:
        """How many candidates each of so many query segments gives for a short list."""
        return min(MOST_CANDIDATES, max(self.candidates, self.patience * self.listing // max(segments, 1)))

    def reach(self, seconds: float) -> float:
        """Seconds of references that are correlated with a query that long."""
        return self.effort * self.patience / max(seconds, 1.0)

    @property
    def patience(self) -> int:
        """How many times as many references are correlated, coarsely and finely, as in a hurry."""
        return PATIENCE[self.quality]


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


def by_best(scored: Scored) -> dict[int, int]:
    """Track number -> its best candidate, of all references with candidates, the best first; ties by segment id."""
    ids = scored.segment_ids[np.lexsort((scored.segment_ids, -scored.scores))]
    _, first = np.unique(track_of(ids), return_index=True)
    best = ids[np.sort(first)]
    return dict(zip(track_of(best).tolist(), best.tolist(), strict=True))


def within(lengths: Sequence[float], reach: float, *, least: int) -> int:
    """How many of the references, from the first on, are together no longer than `reach`; `least` in any case."""
    fit = int(np.searchsorted(np.cumsum(lengths), reach, side="right"))
    return min(max(fit, least), len(lengths))


def covered(spans: Sequence[Span]) -> float:
    """Seconds under the union of the spans; ValueError for a span that does not end after its start."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        if not (np.isfinite(end - start) and end > start):
            raise ValueError(f"span ({start}, {end}): expected an end after the start, in seconds")
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total

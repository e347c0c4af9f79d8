"""Sequence: candidates of consecutive query segments -> references, and where in them the query lies, to a few ms.

For the same recording heard again (GraFPrint), reference time less query time is one number throughout. Candidates vote
for it: each adds what its similarity exceeds the worst candidate of its query segment by to its diagonal (reference,
offset). The best diagonals are then scored exactly: the mean similarity of all query segments with the stored reference
segments on the diagonal, candidates or not, 0 where the reference is silent or at its end (as the released code, and
Chang et al., 2021, do). Around the best diagonal of a reference similarity falls off smoothly, so that the vertex of a
parabola through three neighbours gives the offset between segments.

The query may be encoded with a finer hop than the references, a whole number of times finer; offsets then lie on the
finer grid. Tempo and transposition are those of the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.encoding import Encoding
from reranker.rank import Match, Occurrence
from store.candidates import Candidates
from store.references import References
from store.segment_ids import LAST_INDEX, index_of, segment_id, track_of

_AROUND = 3  # neighbours of the best diagonal that are scored, on both sides
_HELD = 100_000  # similarities that are reckoned at once, 50 MB of stored fingerprints: a query may last an hour


@dataclass(frozen=True, kw_only=True)
class Diagonals:
    """Hypotheses: this reference, so many query hops later than the query; rows belong together."""

    tracks: NDArray[np.int64]  # (diagonals,) track numbers
    offsets: NDArray[np.int64]  # (diagonals,) reference time less query time, in hops of the query

    def some(self, rows: slice) -> "Diagonals":
        """Those rows alone."""
        return Diagonals(tracks=self.tracks[rows], offsets=self.offsets[rows])


@dataclass(frozen=True, kw_only=True)
class SequenceRanker:
    """Ranks references by their best diagonal."""

    diagonals: int = 40  # scored exactly

    def __post_init__(self) -> None:
        if self.diagonals < 1:
            raise ValueError(f"sequence: diagonals is {self.diagonals}, expected 1 or more")

    def __call__(self, query: Encoding, candidates: Candidates, references: References) -> tuple[Match, ...]:
        """One match a reference, best first, with the one place where it fits best; score: mean similarity, -1 to 1.

        ValueError where the query's hop does not divide that of the references.
        """
        ratio = finer(query.hop, references.identity.hop)
        if not len(candidates):
            return ()
        found = most_voted(query, candidates, ratio=ratio, size=self.diagonals)
        best = _best(found, agreement(query, found, references, ratio=ratio).scores)
        tracks = references.tracks(best.tracks.tolist())
        matches = []
        for number, offset in zip(best.tracks.tolist(), best.offsets.tolist(), strict=True):
            score, exact = self._refined(query, number, offset, references, ratio)
            place = _occurrence(query, exact * query.hop, tracks[number].duration)
            matches.append(Match(reference=tracks[number], score=score, confidence=None, occurrences=place))
        return tuple(sorted(matches, key=lambda match: -match.score))

    def _refined(
        self, query: Encoding, number: int, offset: int, references: References, ratio: int
    ) -> tuple[float, float]:
        """Score at the best diagonal near that offset, and the offset between diagonals, in hops."""
        spacing = _spacing(query, ratio)
        near = offset + spacing * np.arange(-_AROUND, _AROUND + 1)
        diagonals = Diagonals(tracks=np.full(len(near), number), offsets=near)
        agreed = agreement(query, diagonals, references, ratio=ratio)
        peak = 1 + int(np.nanargmax(agreed.scores[1:-1]))
        return float(agreed.scores[peak]), near[peak] + spacing * vertex(agreed.shape[peak - 1 : peak + 2])


def finer(query_hop: float, reference_hop: float) -> int:
    """How many times finer the query's hop is; ValueError where that is no whole number."""
    ratio = round(reference_hop / query_hop)
    if ratio < 1 or abs(ratio * query_hop - reference_hop) > 1e-6:
        raise ValueError(
            f"query segments start every {query_hop:g} s, those of the references every {reference_hop:g} s; "
            "expected a whole number of the former in the latter, encode the query with such a hop"
        )
    return ratio


def most_voted(query: Encoding, candidates: Candidates, *, ratio: int, size: int) -> Diagonals:
    """The diagonals that most similarity speaks for, best first; ties by track number, then offset."""
    rows, position = np.unique(candidates.query_rows, return_inverse=True)
    floor = np.full(len(rows), np.inf)
    np.minimum.at(floor, position, candidates.similarities)
    tracks = track_of(candidates.segment_ids)
    offsets = index_of(candidates.segment_ids) * ratio - query.segment_indices[candidates.query_rows]
    # A query segment's only candidate still counts.
    votes = candidates.similarities - floor[position] + 1e-3
    both, owner = np.unique(np.stack([tracks, offsets]), axis=1, return_inverse=True)
    order = np.argsort(-np.bincount(owner.ravel(), weights=votes, minlength=both.shape[1]), kind="stable")[:size]
    return Diagonals(tracks=both[0, order], offsets=both[1, order])


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well query and references agree on some diagonals; rows belong together."""

    totals: NDArray[np.float64]  # (diagonals,) sum of similarities
    expected: NDArray[np.int64]  # (diagonals,) query segments that fall on segments of the reference's grid
    present: NDArray[np.int64]  # (diagonals,) those of them where the reference is neither silent nor at its end

    @property
    def scores(self) -> NDArray[np.float64]:
        """Mean similarity of what is expected, 0 where the reference has nothing; NaN where nothing is expected."""
        return np.where(self.expected > 0, self.totals / np.maximum(self.expected, 1), np.nan)

    @property
    def shape(self) -> NDArray[np.float64]:
        """Mean similarity of what is present: how it falls off around a diagonal, whatever the reference's end."""
        return np.where(self.present > 0, self.totals / np.maximum(self.present, 1), np.nan)


def agreement(query: Encoding, diagonals: Diagonals, references: References, *, ratio: int) -> Agreement:
    """Similarities of the query's segments with the stored ones on each diagonal, candidates or not."""
    size, step = len(diagonals.tracks), max(_HELD // max(len(query), 1), 1)
    parts = [_agreement(query, diagonals.some(slice(n, n + step)), references, ratio) for n in range(0, size, step)]
    return Agreement(
        totals=np.concatenate([part.totals for part in parts]),
        expected=np.concatenate([part.expected for part in parts]),
        present=np.concatenate([part.present for part in parts]),
    )


def _agreement(query: Encoding, diagonals: Diagonals, references: References, ratio: int) -> Agreement:
    places = query.segment_indices + diagonals.offsets[:, None]  # (diagonals, query segments), in hops of the query
    hits, rows = np.nonzero(places % ratio == 0)
    indices, tracks = places[hits, rows] // ratio, diagonals.tracks[hits]
    inside = (indices >= 0) & (indices <= LAST_INDEX)
    ids, position = np.unique(segment_id(tracks[inside], indices[inside]), return_inverse=True)
    stored, similarities, present = references.fingerprints(ids), np.zeros(len(hits)), np.zeros(len(hits), bool)
    similarities[inside] = np.einsum("ij,ij->i", query.fingerprints[rows[inside]], stored[position])
    present[inside] = stored.any(axis=1)[position]
    size = len(diagonals.tracks)
    return Agreement(
        totals=np.bincount(hits, weights=similarities, minlength=size),
        expected=np.bincount(hits, minlength=size),
        present=np.bincount(hits[present], minlength=size),
    )


def vertex(values: Sequence[float] | NDArray) -> float:
    """Where between three neighbouring values the parabola through them is highest, -0.5 to 0.5 from the middle.

    0 where it is not highest there, or a neighbour is not known (NaN).
    """
    left, middle, right = (float(value) for value in values)
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _best(found: Diagonals, values: NDArray[np.float64]) -> Diagonals:
    """The best diagonal of each reference."""
    order = np.argsort(-values, kind="stable")
    _, first = np.unique(found.tracks[order], return_index=True)
    return Diagonals(tracks=found.tracks[order[first]], offsets=found.offsets[order[first]])


def _spacing(query: Encoding, ratio: int) -> int:
    """Hops between diagonals that hold segments: a short query has none on some."""
    return 1 if len(np.unique(query.segment_indices % ratio)) == ratio else ratio


def _occurrence(query: Encoding, offset: float, duration: float) -> tuple[Occurrence, ...]:
    start, end = float(query.starts[0]), float(query.starts[-1] + query.segment_duration)
    start, end = max(start, -offset), min(end, duration - offset)  # what lies beyond the reference is not in it
    if end <= start:
        return ()
    spans = {"query_span": (start, end), "reference_span": (start + offset, end + offset)}
    return (Occurrence(**spans, tempo_ratio=1.0, transposition=0.0),)

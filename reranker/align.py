"""Align: scored pairs of segments of a query and references -> the occurrences that they speak for, and a ranking.

What is sampled keeps its time: hits of one occurrence lie on a line, reference time = intercept + tempo ratio * query
time (reranker/lines.py). A loop in the query gives parallel lines, chops several short ones; each is an occurrence of
its own, and the query is shared out among them.

A pair is evidence by what it is worth: a reranker's score by what it says, a similarity by what it is above the least
similar of the query's pairs, as unrelated music is alike too.
"""

from collections.abc import Mapping

import numpy as np

from reranker import lines
from reranker.lines import Alignment, Line, Points
from reranker.rank import Occurrence, Scored, Span
from store.segment_ids import index_of, track_of

_SCATTERED = 1 / 3  # of what a pair on a line counts in a ranking, counts one beside all lines
_OVERHANG = 1.5  # segments: three quarters of one on either side hold nothing of the sample, at most
_SHORTEST = 0.25  # of a segment that is left of an occurrence where others claim the rest


def worth(scored: Scored, *, threshold: float | None) -> Scored:
    """What the pairs of a query with all references are worth as evidence.

    With a threshold (for a reranker's scores): the score, of pairs from the threshold on. Without (for similarities):
    how far a pair is above the least similar one, 0 for that one.
    """
    if threshold is not None:
        return scored.where(scored.scores >= threshold)
    over = scored.scores - scored.scores.min(initial=np.inf)
    return Scored(query_indices=scored.query_indices, segment_ids=scored.segment_ids, scores=over)


def by_reference(
    worthy: Scored, *, hop: float, duration: float, config: Alignment = Alignment()
) -> dict[int, tuple[Occurrence, ...]]:
    """Track number -> occurrences, of every reference with a pair, by track number; pairs as `worth` gives them.

    A reference without a line has one: the place of its best pair, the first in the query of equals.
    """
    tracks = track_of(worthy.segment_ids)
    found = {}
    for track in np.unique(tracks).tolist():
        mine = worthy.where(tracks == track)
        found[track] = occurrences(mine, hop=hop, duration=duration, config=config)
        found[track] = found[track] or (_lone(mine, hop=hop, duration=duration),)
    return found


def consistent(worthy: Scored, places: Mapping[int, tuple[Occurrence, ...]]) -> dict[int, float]:
    """Track number -> what its pairs on lines are worth and a third of the rest, best first, ties by track number.

    A query segment counts with its best pair; `places` as `by_reference` finds them in the same pairs.
    """
    tracks = track_of(worthy.segment_ids)
    totals = {}
    for track, found in places.items():
        mine = worthy.where(tracks == track)
        segments, at = np.unique(mine.query_indices, return_inverse=True)
        best = np.zeros(len(segments))
        np.maximum.at(best, at, mine.scores)
        on_lines = sum(occurrence.evidence for occurrence in found)
        totals[track] = on_lines + _SCATTERED * max(0.0, float(best.sum()) - on_lines)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def occurrences(
    scored: Scored, *, hop: float, duration: float, config: Alignment = Alignment()
) -> tuple[Occurrence, ...]:
    """Occurrences of one reference, strongest first; their query spans share no time.

    `scored` are pairs of a query and that one reference; a score is what the pair is worth, and 0 or less is nothing.
    Under 3 query segments, and as many as chance would bring about, are no occurrence. The tempo ratio is None where
    the first and the last are less than 10 hops apart: a hop at one end would change it by a tenth or more.
    `evidence` is the sum over the run's query segments of the best pair on the line.
    """
    points = _points(scored, hop=hop, duration=duration)
    found = sorted(lines.find(points, config), key=lambda line: -line.evidence)
    claims = [_claim(line, points, duration) for line in found]
    shares = _shared(claims, overhang=_OVERHANG * duration, shortest=_SHORTEST * duration)
    return tuple(_occurrence(found[i], share, points, config) for i, share in shares.items())


def _lone(scored: Scored, *, hop: float, duration: float) -> Occurrence:
    """The two segments of the best pair."""
    best = np.lexsort((scored.segment_ids, scored.query_indices, -scored.scores))[0]
    query, reference = scored.query_indices[best] * hop, index_of(scored.segment_ids[best]) * hop
    return Occurrence(
        query_span=(float(query), float(query + duration)),
        reference_span=(float(reference), float(reference + duration)),
        evidence=float(scored.scores[best]),
    )


def _points(scored: Scored, *, hop: float, duration: float) -> Points:
    """The middles of the segments: at other tempi than 1, starts are not on the line that the music is on."""
    scored = scored.where(scored.scores > 0)
    positions = index_of(scored.segment_ids)
    order = np.lexsort((positions, -scored.scores, scored.query_indices))
    return Points(
        steps=scored.query_indices[order],
        query=scored.query_indices[order] * hop + duration / 2,
        reference=positions[order] * hop + duration / 2,
        scores=scored.scores[order].astype(np.float64),
        hop=hop,
    )


def _claim(line: Line, points: Points, duration: float) -> Span:
    """What the segments of the run cover in the query, as far as the line is within the reference."""
    first, last = points.query[line.points[[0, -1]]]
    half, held = duration / 2, (0.0, points.reference.max() + duration / 2)
    start, end = ((time - line.intercept) / line.ratio for time in held)
    return float(max(first - half, start)), float(min(last + half, end))


def _shared(claims: list[Span], *, overhang: float, shortest: float) -> dict[int, Span]:
    """Position of a claim -> its share of the query; claims are given strongest first, shares have no common time.

    An overlap of up to `overhang` seconds is halved: segments reach into the neighbouring repetition or chop. Of a
    longer one the stronger keeps all; what lies inside a stronger claim is explained already, and of what a stronger
    one lies inside, the longer end is left. Nobody is left with less than `shortest`.
    """
    shares: dict[int, Span] = {}
    for i, claim in enumerate(claims):
        divided = {**shares, i: claim}
        for j in shares:
            _divide(divided, claims, i, j, overhang=overhang)
        if all(end - start >= shortest for start, end in divided.values()):
            shares = divided
    return shares


def _divide(shares: dict[int, Span], claims: list[Span], i: int, j: int, *, overhang: float) -> None:
    """Divide between claim i and the stronger claim j, in place."""
    (start, end), (first, last), (low, high) = claims[i], claims[j], shares[i]
    overlap = min(end, last) - max(start, first)
    half = overlap / 2 if overlap <= overhang else 0.0
    if overlap <= 0:
        return
    if first <= start and end <= last:
        shares[i] = (low, low)
    elif start <= first and last <= end:
        shares[i] = (low, min(high, first)) if first - start >= end - last else (max(low, last), high)
    elif start < first:
        shares[i], shares[j] = (low, min(high, first + half)), (max(shares[j][0], first + half), shares[j][1])
    else:
        shares[i], shares[j] = (max(low, last - half), high), (shares[j][0], min(shares[j][1], last - half))


def _occurrence(line: Line, share: Span, points: Points, config: Alignment) -> Occurrence:
    query = points.query[line.points]
    told = query[-1] - query[0] >= (config.told - 1e-6) * points.hop
    start, end = (line.intercept + line.ratio * time for time in share)
    return Occurrence(
        query_span=share,
        reference_span=(max(0.0, start), end),  # rounding leaves a start a hair under 0
        tempo_ratio=line.ratio if told else None,
        evidence=line.evidence,
    )

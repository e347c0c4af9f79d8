"""Windows: a long query -> parts that are searched apart -> one match per reference.

A sample lasts seconds. In a window it stands out against the background of that window; over an hour it would drown in
what chance finds there, and two samples in different places would be each other's rivals.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from reranker.rank import Match, Occurrence, Span

_ONE_LINE = 1.0  # seconds of the reference between two occurrences where they overlap, up to which they are one


def cut(hops: int, *, longest: int, overlap: int) -> list[slice]:
    """Equally long windows over so many hops, as few as may be; neighbours share `overlap` hops or more.

    None is longer than `longest`; ValueError unless that is more than `overlap`.
    """
    if not 0 <= overlap < longest:
        raise ValueError(f"windows of {longest} hops overlap by {overlap}, expected 0 or more and less than a window")
    count = max(1, math.ceil((hops - overlap) / (longest - overlap)))
    length = math.ceil((hops + (count - 1) * overlap) / count)
    return [slice(first, first + length) for first in np.linspace(0, hops - length, count).round().astype(int).tolist()]


def later(match: Match, seconds: float) -> Match:
    """The match as it lies in a query that begins so many seconds before the window it was found in."""
    moved = (replace(o, query_span=(o.query_span[0] + seconds, o.query_span[1] + seconds)) for o in match.occurrences)
    return replace(match, occurrences=tuple(moved))


def united(parts: Iterable[Sequence[Match]], *, enough: Callable[[Match], bool]) -> tuple[Match, ...]:
    """Each reference once, with what the window says of it that is surest, and the occurrences of that window.

    And of other windows where it is `enough` for an answer: what is placed in a window where it is not heard is
    placed by chance. The surest first; ties by the order of the windows.
    """
    of: dict[int, list[Match]] = {}
    for part in parts:
        for match in part:
            of.setdefault(match.reference.number, []).append(match)
    found = []
    for matches in of.values():
        best = max(matches, key=sureness)
        found.append(replace(best, occurrences=resolved([m for m in matches if m is best or enough(m)])))
    return tuple(sorted(found, key=sureness, reverse=True))


def resolved(matches: Sequence[Match]) -> tuple[Occurrence, ...]:
    """The occurrences of one reference in overlapping windows, by place in the query.

    What two windows saw of one line is put together; where they saw different lines, the longer one stays.
    """
    kept: list[Occurrence] = []
    for occurrence in sorted((o for match in matches for o in match.occurrences), key=lambda o: o.query_span):
        before = kept[-1] if kept else None
        if before is None or _shared(before.query_span, occurrence.query_span) <= 0:
            kept.append(occurrence)
        elif _on_one_line(before, occurrence):
            kept[-1] = _whole(before, occurrence)
        elif _shared(before.query_span, occurrence.query_span) < 0.5 * min(_seconds(before), _seconds(occurrence)):
            kept.append(occurrence)
        else:
            kept[-1] = max(before, occurrence, key=_seconds)
    return tuple(kept)


def sureness(match: Match) -> tuple[float, float]:
    """What matches of several windows are ordered by: their scores are not of one scale."""
    return (0.0 if match.confidence is None else match.confidence, match.score)


def _seconds(occurrence: Occurrence) -> float:
    return occurrence.query_span[1] - occurrence.query_span[0]


def _shared(one: Span, other: Span) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


def _on_one_line(first: Occurrence, second: Occurrence) -> bool:
    """Whether the first, prolonged, is at the second's reference time where the second begins."""
    ratio = 1.0 if first.tempo_ratio is None else first.tempo_ratio
    there = first.reference_span[0] + (second.query_span[0] - first.query_span[0]) * ratio
    return abs(there - second.reference_span[0]) <= _ONE_LINE


def _whole(first: Occurrence, second: Occurrence) -> Occurrence:
    """One occurrence from the first's start to the later end; tempo and transposition of the longer."""
    last = max(first, second, key=lambda o: o.query_span[1])
    return replace(
        max(first, second, key=_seconds),
        query_span=(first.query_span[0], last.query_span[1]),
        reference_span=(first.reference_span[0], last.reference_span[1]),
    )

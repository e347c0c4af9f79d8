"""Relation: whether a query samples a reference or is the same recording, whole or in part.

The same recording goes at the same tempo and pitch and has next to nothing over it. Frames of re-encoded, quieter and
equalised copies have cosines of 0.82 to 0.95 with their originals, transposed and stretched ones 0.71 to 0.89, under
other music at 6 dB and 0 dB 0.54 to 0.72 and 0.41 to 0.52.
"""

from typing import Literal

from reranker.rank import Match, Occurrence, covered

Relation = Literal["sample", "same recording"]
_LIKENESS = 0.8
_TEMPO = 0.01  # of the ratio
_SEMITONES = 0.25
_WHOLE = 0.9  # of the query, from which on it is that recording and nothing else


def relation(match: Match) -> Relation | None:
    """What the longest occurrence says; None where the reference was not correlated."""
    if match.longest is None or match.longest.likeness is None:
        return None
    return "same recording" if is_same(match.longest) else "sample"


def is_same(occurrence: Occurrence) -> bool:
    """Whether the reference's own sound is heard there, unchanged."""
    ratio, semitones, likeness = occurrence.tempo_ratio, occurrence.transposition, occurrence.likeness
    if ratio is None or semitones is None or likeness is None:
        return False
    return likeness >= _LIKENESS and abs(ratio - 1) <= _TEMPO and abs(semitones) <= _SEMITONES


def is_whole(match: Match, seconds: float) -> bool:
    """Whether a query that long is that recording, or a part of it, and nothing else."""
    return covered([o.query_span for o in match.occurrences if is_same(o)]) >= _WHOLE * seconds > 0

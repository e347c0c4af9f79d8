"""Localisation: the places, tempo and transposition found for a reference, against the annotated ones.

A span is (start, end) in seconds. Several spans of one side count as their union, so a loop that is found as one long
span or in pieces is the same. Definitions:
    intersection over union  seconds in both unions / seconds in either, for the query and for the reference apart.
    start error              of the strongest found occurrence: distance of its start to an annotated one's, in seconds,
                             the larger of query and reference side; the nearest annotated occurrence counts.
    tempo error              |estimate / truth - 1| of the query's tempo over the reference's.
    transposition error      |estimate - truth| in semitones.
    repetitions              of a sample that sounds twice or more in the query: its soundings (distinct annotated query
                             spans) longer than 2 s.
    repetitions listed       how many of these have a found occurrence to themselves: their query spans have an IoU of
                             0.5 or more, and it covers less than half of every other repetition. So no found
                             occurrence lists two, and a second one for the same repetition adds nothing.
Tempo and transposition are those of the strongest found occurrence that has an estimate, against the annotation nearest
to it. What either side does not say is NaN. A part that repeats elsewhere in the recording is annotated where it was
taken from: finding its repetition is counted as an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.benchmark import Sampled
from reranker.rank import Occurrence, Span, covered

_LONG = 2.0  # seconds beyond which a sounding counts as a repetition
_OWN = 0.5  # IoU from which, and share of another one up to which, a found occurrence is a repetition's own


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """How well one relevant reference was located; NaN where found or annotated occurrences do not say."""

    query_iou: float = np.nan
    reference_iou: float = np.nan
    start_error: float = np.nan  # seconds
    tempo_error: float = np.nan  # ratio
    transposition_error: float = np.nan  # semitones
    repetitions: float = np.nan  # how many are annotated
    repetitions_listed: float = np.nan  # how many of these were found each as an occurrence of its own


def evaluate(found: Sequence[Occurrence], annotated: Sequence[Sampled]) -> Localisation:
    """Found occurrences of one reference, strongest first, against what is annotated for that same reference."""
    true = [occurrence for sampled in annotated for occurrence in sampled.occurrences]
    tempo = next((o for o in found if o.tempo_ratio is not None), None)
    pitch = next((o for o in found if o.transposition is not None), None)
    places = found and true
    repeated = repetitions([o.query_span for o in true])
    return Localisation(
        query_iou=intersection_over_union(*([o.query_span for o in side] for side in (found, true))),
        reference_iou=intersection_over_union(*([o.reference_span for o in side] for side in (found, true))),
        start_error=min(start_error(found[0], o) for o in true) if places else np.nan,
        tempo_error=tempo_error(tempo.tempo_ratio, _truth(tempo, annotated, "tempo_ratio")) if tempo else np.nan,
        transposition_error=transposition_error(pitch.transposition, _truth(pitch, annotated, "transposition"))
        if pitch
        else np.nan,
        repetitions=len(repeated) if true else np.nan,
        repetitions_listed=listed([o.query_span for o in found], repeated) if places else np.nan,
    )


def intersection_over_union(found: Sequence[Span], annotated: Sequence[Span]) -> float:
    """Of the unions of two sets of spans; NaN where a set is empty."""
    if not found or not annotated:
        return np.nan
    either = covered([*found, *annotated])
    both = covered(found) + covered(annotated) - either
    return max(0.0, both / either)  # rounding leaves apart spans a hair under 0


def repetitions(annotated: Sequence[Span]) -> tuple[Span, ...]:
    """The soundings longer than 2 s of a sample that sounds twice or more, in the query; none of another."""
    soundings = sorted(set(annotated))
    return tuple(span for span in soundings if span[1] - span[0] > _LONG) if len(soundings) > 1 else ()


def listed(found: Sequence[Span], repeated: Sequence[Span]) -> int:
    """How many of the repetitions have a found span to themselves."""
    return sum(any(_has_to_itself(span, one, repeated) for span in found) for one in repeated)


def _has_to_itself(found: Span, repetition: Span, repeated: Sequence[Span]) -> bool:
    """Whether a found span is a repetition's, and of no other one."""
    if intersection_over_union([found], [repetition]) < _OWN:
        return False
    others = (other for other in repeated if other != repetition)
    return all(min(found[1], end) - max(found[0], start) < _OWN * (end - start) for start, end in others)


def start_error(found: Occurrence, annotated: Occurrence) -> float:
    """Seconds between the starts, the larger of query and reference side."""
    return max(
        abs(found.query_span[0] - annotated.query_span[0]), abs(found.reference_span[0] - annotated.reference_span[0])
    )


def tempo_error(estimate: float, truth: float | None) -> float:
    """|estimate / truth - 1|; NaN without a truth; ValueError for a truth that is not above 0."""
    if truth is None:
        return np.nan
    if truth <= 0:
        raise ValueError(f"tempo ratio is {truth}, expected a number above 0 (query tempo / reference tempo)")
    return abs(estimate / truth - 1)


def transposition_error(estimate: float, truth: float | None) -> float:
    """|estimate - truth| in semitones; NaN without a truth."""
    return np.nan if truth is None else abs(estimate - truth)


def _truth(found: Occurrence, annotated: Sequence[Sampled], name: str) -> float | None:
    """The annotated value nearest to the found place; an occurrence's own value goes before that of its sample."""
    known = [
        (start_error(found, occurrence), value)
        for sampled in annotated
        for occurrence in sampled.occurrences
        if (value := _first(getattr(occurrence, name), getattr(sampled, name))) is not None
    ]
    if known:
        return min(known, key=lambda pair: pair[0])[1]
    return _first(*(getattr(sampled, name) for sampled in annotated))  # annotated without places


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)

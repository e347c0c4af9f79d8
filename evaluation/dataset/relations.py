"""Relations: which query samples which reference, and the places an annotator marked in both, in Sample100-ext's terms.

An annotator marks spans with labels (`id` in the files): L1, L2 ... and says once per label what it means (`kind`).
In some queries all that sounds is marked; in others one or two occurrences and every *absence* is marked, and what lies
between is presence. `sounding` reads both conventions; `paired` joins the spans of query and reference.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reranker.rank import Occurrence

KINDS_OF_SAMPLE = ("riff", "beat", "1-note")
INTERPOLATION = ("no", "probably not", "maybe", "probably", "yes")
_SHORTEST = 0.01  # seconds; what is marked shorter is a slip of the mouse (the dataset has one of 0.05 ms)
_SHORTEST_GAP = 1.0  # seconds, as in the released index


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One annotated span of a track."""

    start: float  # seconds
    end: float  # seconds
    label: int = 1  # the dataset's `id`
    kind: str = "occurrence"  # occurrence, partial occurrence, presence, absence ...; "" where nothing says

    def __post_init__(self) -> None:
        if not (math.isfinite(self.end) and 0.0 <= self.start <= self.end):
            raise ValueError(f"annotation from {self.start} to {self.end} s, expected 0 <= start <= end")

    @property
    def absent(self) -> bool:
        """Whether it says that the sample does not sound here."""
        return "absence" in self.kind

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One row of samples.csv with its annotation file: a query samples a reference."""

    sample_id: str  # S001
    query: str  # track id
    reference: str  # track id
    query_start: float = 0.0  # seconds; first occurrence as in the original dataset
    reference_start: float = 0.0  # seconds
    repetitions: int = 1
    tempo_ratio: float = 1.0  # query tempo / reference tempo
    reference_stems: tuple[str, ...] = ()  # what plays in the reference while the sampled material does
    interfering_stems: tuple[str, ...] = ()  # what is laid over it in the query; a name may end in "?"
    sample_type: str = "riff"
    interpolation: str = "no"  # whether it was played anew
    comment: str = ""
    description: str = ""
    in_query: tuple[Annotation, ...] = ()
    in_reference: tuple[Annotation, ...] = ()
    transposition: float | None = None  # semitones, query above reference; additional column
    level: float | None = None  # dB RMS of the sample over what is laid over it; additional column
    sample_stems: tuple[str, ...] = field(default=())  # stems of the reference that were taken; additional column

    def __post_init__(self) -> None:
        _expect(bool(self.sample_id and self.query and self.reference), "needs sample id, query and reference", self)
        _expect(self.query != self.reference, f"{self.query} samples itself, expected two tracks", self)
        _expect(
            self.sample_type in KINDS_OF_SAMPLE, f"sample_type {self.sample_type!r} is none of {KINDS_OF_SAMPLE}", self
        )
        known = self.interpolation in INTERPOLATION
        _expect(known, f"interpolation {self.interpolation!r} is none of {INTERPOLATION}", self)
        ratio = math.isfinite(self.tempo_ratio) and self.tempo_ratio > 0
        _expect(ratio, f"estimated_tempo_ratio is {self.tempo_ratio}, expected a number above 0", self)
        numbers = (self.query_start, self.reference_start, float(self.repetitions))
        _expect(all(math.isfinite(n) and n >= 0 for n in numbers), "starts and repetitions must not be negative", self)

    @property
    def stretched(self) -> bool:
        """Whether the tempo differs by 5 % or more (the classes of the paper: 44 above, 62 below)."""
        return abs(self.tempo_ratio - 1.0) > 0.05 - 1e-9  # 1.05 and 0.95 are stretched

    @property
    def interpolated(self) -> bool:
        """Whether it was probably or possibly played anew, as the released subsets class it."""
        return self.interpolation in ("maybe", "probably", "yes")


def _expect(right: bool, expectation: str, relation: Relation) -> None:
    if not right:
        raise ValueError(f"relation {relation.sample_id or '?'}: {expectation}")


def sounding(relation: Relation, *, duration: float | None = None) -> tuple[Annotation, ...]:
    """The spans of the query in which the sample sounds, by start: what is marked, then what lies between absences.

    Where the annotator marked absences, every gap of at least 1 s between annotations (of either kind) is presence; it
    carries the label -1. What follows the last annotation is included only where the query's `duration` is given: the
    dataset's own index leaves it out.
    """
    marked = sorted(relation.in_query, key=lambda a: a.start)
    present = [a for a in marked if not a.absent]
    if len(present) < len(marked):
        present += _gaps(marked, duration)
    return tuple(sorted((a for a in present if a.seconds >= _SHORTEST), key=lambda a: a.start))


def _gaps(marked: Sequence[Annotation], duration: float | None) -> list[Annotation]:
    gaps, reached = [], 0.0
    starts = [a.start for a in marked] + ([] if duration is None else [duration])
    ends = [a.end for a in marked] + [0.0]
    for start, end in zip(starts, ends, strict=False):
        if start - reached >= _SHORTEST_GAP:
            gaps.append(Annotation(start=reached, end=start, label=-1, kind="presence"))
        reached = max(reached, end)
    return gaps


def paired(relation: Relation, *, duration: float | None = None) -> tuple[Occurrence, ...]:
    """The sounding spans of the query, each with the span or spans of the reference it reuses.

    By label. The files number the two sides apart (where L1 is absence, the query's L2 is the reference's L1), so:
    equally many labels on both sides pair in their order; otherwise a label pairs with its namesake where the query
    has several; whatever has no partner (a gap, the only label) pairs with every span of the reference.
    """
    references = [a for a in relation.in_reference if a.seconds >= _SHORTEST and not a.absent]
    spans = sounding(relation, duration=duration)
    partners = _partners({a.label for a in spans if a.label >= 0}, {a.label for a in references})
    return tuple(
        Occurrence(
            query_span=(span.start, span.end),
            reference_span=(reference.start, reference.end),
            tempo_ratio=relation.tempo_ratio,
            transposition=relation.transposition,
        )
        for span in spans
        for reference in references
        if partners.get(span.label, reference.label) == reference.label
    )


def _partners(query: set[int], reference: set[int]) -> dict[int, int]:
    if len(query) == len(reference):
        return dict(zip(sorted(query), sorted(reference), strict=True))
    return {label: label for label in query & reference} if len(query) > 1 else {}


def longest_occurrence(relation: Relation) -> float | None:
    """Seconds of the longest span marked as one occurrence in the query, else in the reference; None unannotated."""
    for side in (relation.in_query, relation.in_reference):
        marked = [a.seconds for a in side if "occurrence" in a.kind and a.seconds >= _SHORTEST]
        if marked:
            return max(marked)
    return None


def merged(spans: Iterable[tuple[float, float]], *, gap: float) -> list[tuple[float, float]]:
    """Runs of spans (seconds) that lie less than `gap` apart, by start."""
    runs: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if runs and start - runs[-1][1] < gap:
            runs[-1] = (runs[-1][0], max(runs[-1][1], end))
        else:
            runs.append((start, end))
    return runs

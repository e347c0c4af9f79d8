"""Query index: the annotations -> the segments of Sample100-ext that hit rates by query length are measured on.

Every span of at least 1 s in which a sample sounds (`relations.sounding`) is an entry: 971 for the dataset, equal to
the index released with NeuralSampleID. Of entries long enough for a length, the first so many seconds are the query.
"Long enough" is counted in the windows of the released framing (4.08 s, every 0.512 s): an entry serves as a 5 s query
if it holds as many windows as 5 s do (2; 6, 12, 22, 32 for 7, 10, 15, 20 s). It may thus be up to half a second shorter
than the query, which then goes on past the annotated end. This gives the paper's denominators, 561/464/371/230/163.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from encoder.segments import SegmentGrid
from evaluation.cuts import LENGTHS
from evaluation.dataset.relations import Relation, sounding

PUBLISHED = dict(zip(LENGTHS, (561, 464, 371, 230, 163), strict=True))  # entries per query length (NeuralSampleID)
_SHORTEST = 1.0  # seconds of an entry
_RELEASED = SegmentGrid()  # the framing that the published counts rest on
# Their rows in the table behind the released subsets have commas too many, so those subsets lack them.
_UNCLASSED = frozenset({"S084", "S123"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One span of a query in which one relation's sample sounds."""

    sample_id: str
    query: str
    reference: str
    start: float  # seconds
    end: float  # seconds

    @property
    def windows(self) -> int:
        """Windows of the released framing that the span holds, at least 1."""
        return windows(self.end - self.start)


def windows(seconds: float) -> int:
    """Windows of the released framing in so much audio; what is shorter than one counts as one."""
    return _RELEASED.count(int(seconds * _RELEASED.sample_rate))


def build(relations: Iterable[Relation]) -> tuple[Entry, ...]:
    """The entries of all relations, by sample id, then start.

    The released file holds the same rows in the same order, but for S028, which it has last.
    """
    return tuple(
        Entry(sample_id=r.sample_id, query=r.query, reference=r.reference, start=span.start, end=span.end)
        for r in sorted(relations, key=lambda r: r.sample_id)
        for span in sounding(r)
        if span.seconds >= _SHORTEST
    )


def as_released(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The entries under the names of the released JSON file."""
    return [
        {
            "sample_id": e.sample_id,
            "query_file": e.query,
            "ref_file": e.reference,
            "start_time": e.start,
            "end_time": e.end,
        }
        for e in entries
    ]


def long_enough(entries: Iterable[Entry], seconds: float) -> tuple[Entry, ...]:
    """The entries that serve as queries of this length: the denominators of the hit rates."""
    return tuple(e for e in entries if e.windows >= windows(seconds))


def by_class(
    entries: Sequence[Entry], relations: Iterable[Relation], *, released: bool = True
) -> dict[str, tuple[Entry, ...]]:
    """Entries by class: riff, beat, "interpolation no" ("no", "probably not") and "interpolation yes" (the others).

    With `released`, as the released subset files: without S084 and S123 (728, 216, 798 and 157 entries of 67, 31, 87
    and 13 samples); else with them.
    """
    left_out = _UNCLASSED if released else frozenset()
    classed = {r.sample_id: r for r in relations if r.sample_id not in left_out}
    known = [(e, classed[e.sample_id]) for e in entries if e.sample_id in classed]
    return {
        "riff": tuple(e for e, r in known if r.sample_type == "riff"),
        "beat": tuple(e for e, r in known if r.sample_type == "beat"),
        "interpolation no": tuple(e for e, r in known if not r.interpolated),
        "interpolation yes": tuple(e for e, r in known if r.interpolated),
    }

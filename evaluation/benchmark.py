"""Benchmark: references, distractors, queries and the truth about them; the one form in which peers are given a task.

Every benchmark (`own`, `sample100`) is read or rendered into this record; every peer is asked the same queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reranker.rank import Occurrence


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One reference that a query samples, as annotated; None where the annotation does not say."""

    sample_id: str  # S001, as in Sample100
    reference: str  # track id
    occurrences: tuple[Occurrence, ...] = ()
    tempo_ratio: float | None = None  # query tempo / reference tempo
    transposition: float | None = None  # semitones, query above reference
    sample_type: str = ""  # riff, beat, 1-note
    length: float | None = None  # seconds of the sampled material in the query (its longest occurrence)
    level: float | None = None  # dB RMS of the sample over what is mixed over it while it sounds


@dataclass(frozen=True, kw_only=True)
class Query:
    """One audio file to ask about; without `sampled` it is sample-free: the right answer is "no sample found"."""

    id: str
    path: Path
    sampled: tuple[Sampled, ...] = ()
    excerpt: float | None = None  # seconds, where the file is an excerpt cut for a hit rate; None: the full query
    aliases: frozenset[str] = frozenset()  # track ids that are this very recording and no answer to it

    @property
    def relevant(self) -> frozenset[str]:
        """Track ids of the references it samples."""
        return frozenset(sampled.reference for sampled in self.sampled)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Queries against a catalogue of references and distractors; ids are unique over both."""

    name: str
    references: Mapping[str, Path]  # sampled by some query
    distractors: Mapping[str, Path]  # "noise tracks": sampled by none
    queries: tuple[Query, ...]
    excerpts: tuple[Query, ...] = ()  # of the queries, for hit rates by query length
    facts: Mapping[str, Any] = field(default_factory=dict)  # what reproduces it: seed, settings, versions, counts
    artists: Mapping[str, str] = field(default_factory=dict)  # by track id, where known

    @property
    def catalogue(self) -> dict[str, Path]:
        """Everything a peer stores: references and distractors."""
        return {**self.references, **self.distractors}

    def relatives(self, query: Query) -> frozenset[str]:
        """Tracks by an artist of what the query samples, these among them: they may be versions of the same piece."""
        whose = {self.artists.get(reference, "").casefold() for reference in query.relevant} - {""}
        others = {track for track, artist in self.artists.items() if artist.casefold() in whose}
        return query.relevant | (others & self.catalogue.keys())

    def __post_init__(self) -> None:
        both = set(self.references) & set(self.distractors)
        if both:
            raise ValueError(
                f"benchmark {self.name}: {sorted(both)[0]!r} is a reference and a distractor, expected one"
            )
        unknown = {r for q in self.queries for r in q.relevant} - set(self.references)
        if unknown:
            raise ValueError(f"benchmark {self.name}: {sorted(unknown)[0]!r} is sampled, but is no reference")

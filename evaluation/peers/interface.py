"""Interface: what a system must do to stand in the table; one file with a function `open` adds one.

    def open(folder: Path) -> Peer      # in mine.py; `folder` is the peer's own, to keep what it computed

    asid evaluate own DIR --system asid --system ./mine.py

A peer is prepared once with the catalogue (references and distractors, told apart by nobody) and then asked query by
query. It answers with the ids of the catalogue it was given, best first. docs/peers.md holds a complete example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from evaluation.benchmark import Query
from reranker.rank import Occurrence
from reranker.windows import sureness

Progress = Callable[[str, int, int], None]  # what was done last (a track or query id), how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Found:
    """One reference that a peer takes to be sampled."""

    reference: str  # track id, a key of the catalogue
    score: float  # higher is better; compared only with scores of the same peer
    occurrences: tuple[Occurrence, ...] = ()  # strongest first; empty where the peer cannot tell
    confidence: float | None = None  # probability of being right, 0 to 1; None where the peer is not calibrated

    def __post_init__(self) -> None:
        if not isfinite(self.score):
            raise ValueError(f"found {self.reference!r}: score is {self.score}, expected a finite number")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise ValueError(f"found {self.reference!r}: confidence is {self.confidence}, expected 0 to 1, or None")


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a peer says of one query.

    `found` may go on below the peer's operating point, so that curves can be drawn: every reference that was not
    rejected, best first. `answered` is what a user would see: whether the peer reports a sample at all.
    """

    found: tuple[Found, ...]  # by confidence where stated, then by score; each reference once; empty: nothing is left
    candidates: frozenset[str] | None = None  # track ids the index returned before scoring; None: no such stage
    answered: bool  # at the peer's own operating point
    seconds: float | None = None  # wall time of this query; None: it is measured from outside

    def __post_init__(self) -> None:
        order = list(map(sureness, self.found))
        if order != sorted(order, reverse=True):
            told = f"response: (confidence, score) {order[:5]} are not falling"
            raise ValueError(f"{told}; list what was found best first")
        names = [found.reference for found in self.found]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"response: {twice!r} was found twice; join its hits into one Found")
        if self.answered and not self.found:
            raise ValueError("response: answered, but nothing was found; expected a reference or answered=False")


class Peer(Protocol):
    """A system of the table.

    `facts` is JSON: versions, settings, and under "digest" a text that changes whenever answers may change (a
    checkpoint's digest, a program's version with its options). Answers kept by an earlier run are used again only
    under the same digest. It is read after `prepare`. A method `close()`, if there is one, is called after the last
    query.
    """

    name: str  # as in the table
    about: str  # one sentence
    facts: Mapping[str, Any]

    def prepare(self, catalogue: Mapping[str, Path], progress: Progress) -> None:
        """Store the catalogue, track id -> audio file; done already, it returns at once.

        A track that cannot be used is left out and named with its reason under facts["failed"].
        """

    def ask(self, query: Query) -> Response:
        """What this query samples; `query.aliases` are never found. ValueError or OSError where it cannot be used."""

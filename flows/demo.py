"""The demo: renders music of its own, ingests it, asks, and prints what was planted beside what was found."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.pieces.planted import Planted, render_catalogue, render_queries
from flows import assembly, ingest
from flows.answers import Reply, clock, tally
from flows.find import find_samples
from flows.settings import Settings
from reranker.rank import Match


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was planted, and what came back for it; rows belong together."""

    planted: tuple[Planted, ...]
    replies: tuple[Reply, ...]
    seconds: float

    @property
    def found_first(self) -> int:
        """Planted samples whose reference stands first."""
        return sum(p.reference is not None and _first(r) == p.reference.resolve() for p, r in self._rows())

    @property
    def answered_none(self) -> int:
        """Sample-free queries answered "no sample found"."""
        return sum(p.reference is None and not r.answer.matches for p, r in self._rows())

    def to_json(self) -> dict[str, Any]:
        """The counts, and each query with both sides."""
        return {
            "planted": sum(p.reference is not None for p in self.planted),
            "found_first": self.found_first,
            "sample_free": sum(p.reference is None for p in self.planted),
            "answered_none": self.answered_none,
            "seconds": round(self.seconds, 1),
            "queries": [_row_json(p, r) for p, r in self._rows()],
        }

    def to_text(self) -> str:
        """A table for people."""
        counts = self.to_json()
        rows = [line for p, r in self._rows() for line in _row_text(p, r)]
        return "\n".join([
            *rows,
            f"{counts['found_first']} of {counts['planted']} planted samples first in their ranking, "
            f"{counts['answered_none']} of {counts['sample_free']} sample-free queries answered \"no sample found\"; "
            f"{self.seconds:.0f} s",
        ])  # fmt: skip

    def _rows(self):
        return zip(self.planted, self.replies, strict=True)


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much is rendered, and from which seed."""

    references: int = 20
    queries: int = 10
    sample_free: int = 3
    seed: int = 0


def run_demo(out: Path, *, size: DemoSize, progress: ingest.Progress | None = None) -> Report:
    """Render under `out` (once), ingest, find; the catalogue stays there for further tries."""
    began = time.perf_counter()
    folder = out / f"seed-{size.seed}"
    references = render_catalogue(folder / "catalogue", seed=size.seed, references=size.references)
    planted = render_queries(
        folder / "queries", references, seed=size.seed, queries=size.queries, sample_free=size.sample_free
    )
    # What one encoder stored, another cannot read: after an update of the weights the demo ingests anew.
    settings = Settings(data=folder / f"data-{assembly.encoder(Settings()).digest[:12]}")
    ingest.ingest_catalogue([folder / "catalogue"], settings, progress=progress)
    replies = find_samples([p.query for p in planted], settings)
    return Report(planted=planted, replies=tuple(replies), seconds=time.perf_counter() - began)


def _first(reply: Reply) -> Path | None:
    return reply.answer.matches[0].reference.path.resolve() if reply.answer.matches else None


def _row_text(planted: Planted, reply: Reply) -> list[str]:
    truth = f"{planted.reference.stem} ({planted.how})" if planted.reference else "nothing"
    found = [_match_text(m) for m in reply.answer.matches[:1]] or ["no sample found"]
    sure = planted.reference is not None and _first(reply) == planted.reference.resolve()
    right = sure if planted.reference else not reply.answer.matches
    return [
        f"{'right' if right else 'WRONG'}  {planted.query.name}",
        f"    planted  {truth}",
        f"    found    {found[0]}",
    ]


def _match_text(match: Match) -> str:
    place = match.occurrences[0]
    spans = " from ".join(f"{clock(s)}-{clock(e)}" for s, e in (place.query_span, place.reference_span))
    return f"{match.reference.path.stem}  score {tally(match.score)}  at {spans}"


def _row_json(planted: Planted, reply: Reply) -> dict[str, Any]:
    return {
        "query": str(planted.query),
        "planted": str(planted.reference) if planted.reference else None,
        "how": planted.how,
        "found": [str(m.reference.path) for m in reply.answer.matches],
        "scores": [m.score for m in reply.answer.matches],
    }

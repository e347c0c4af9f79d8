"""The ingestion flow: audio files -> Zarr, Milvus, ledger.

1. Discover the audio files under the given paths.
2. Plan: compare them with the ledger; what is stored unchanged is skipped.
3. Encode and store batch by batch (flows/workers.py); a bad file becomes a failed row and never stops the rest.
4. Summarise.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows import assembly
from flows.discover import Found, discover
from flows.settings import Settings
from flows.workers import Ingestion, Outcome
from store.plan import Plan

Progress = Callable[[Outcome, int, int], None]  # outcome, bytes of its file, bytes of all files to do


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One ingestion."""

    outcomes: tuple[Outcome, ...]
    seconds: float  # wall time

    def having(self, state: str) -> list[Outcome]:
        """Outcomes in that state."""
        return [o for o in self.outcomes if o.state == state]

    @property
    def audio_seconds(self) -> float:
        """Audio stored in this run."""
        return sum(o.seconds for o in self.having("stored"))


def _silent(_outcome: Outcome, _size: int, _total: int) -> None:
    pass


@flow(name="ingest-catalogue")
def ingest_catalogue(
    paths: list[Path], settings: Settings, *, retry: bool = False, beside: bool = False,
    progress: Progress | None = None,
) -> Summary:  # fmt: skip
    """Store every audio file under `paths` that is not stored yet; running it again goes on where it stopped.

    `beside` fills what the settings' encoder keeps beside the one in use.
    """
    began = time.perf_counter()
    found = discover(paths)
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder, beside=beside) as references:
        todo = references.plan(found.files, retry=retry)
        sizes = {one.path: one.size for one in todo.pending}
        total, told = sum(sizes.values()), progress or _silent
        ingestion = Ingestion(
            references, encoder, settings, beside=beside, tell=lambda outcome: told(outcome, sizes[outcome.path], total)
        )
        outcomes = (*_settled(found, todo), *ingestion(todo.pending))
    summary = Summary(outcomes=outcomes, seconds=time.perf_counter() - began)
    publish(summary)
    return summary


def _settled(found: Found, todo: Plan) -> list[Outcome]:
    """Outcomes of the files of which nothing is to be done."""
    return [
        *(Outcome(path=one.path, state="skipped") for one in todo.unchanged),
        *(Outcome(path=one.path, state="skipped", reason="removed earlier") for one in todo.removed),
        *(Outcome(path=one.path, state="failed", reason=one.reason) for one in (*todo.failed, *found.refused)),
    ]


def publish(summary: Summary) -> None:
    """The run's table in the Prefect UI."""
    rows = [{"file": str(o.path), "state": o.state, "reason": o.reason} for o in summary.having("failed")]
    counts = {state: len(summary.having(state)) for state in ("stored", "skipped", "failed")}
    create_table_artifact(key="ingestion", table=rows or [counts], description=f"{counts}, {summary.seconds:.0f} s")

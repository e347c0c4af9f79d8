"""The preparation flow: a folder of music -> a stem cache that encoders and rerankers are trained from."""

from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from encoder.training import stems
from encoder.training.stems import Prepared, StemSettings
from flows import assembly


@flow(name="prepare-stems")
def prepare_stems(
    directory: Path,
    out: Path,
    *,
    settings: StemSettings,
    manifest: Path | None = None,
    splits: set[str] | None = None,
    progress: Callable[[Prepared], None] | None = None,
) -> list[Prepared]:
    """Decode, render or separate every source once; running it again goes on where it stopped."""
    assembly.usable(settings.device)
    records = []
    for record in stems.prepare(directory, out, manifest=manifest, splits=splits, settings=settings):
        records.append(record)
        if progress:
            progress(record)
    create_table_artifact(key="stems", table=[_row(r) for r in records if r.status == "failed"] or [_counts(records)])
    return records


def _row(record: Prepared) -> dict[str, str]:
    return {"track": record.track, "status": record.status, "reason": record.reason}


def _counts(records: list[Prepared]) -> dict[str, int]:
    return {status: sum(r.status == status for r in records) for status in sorted({r.status for r in records})}

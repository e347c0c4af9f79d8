"""Show: progress on stderr, and summaries as text or JSON."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from encoder import systems as recipes
from encoder.limits import printable
from evaluation.pages import tables
from flows import assembly
from flows.settings import Settings
from store import models

if TYPE_CHECKING:  # flows.ingest imports prefect, which `asid info` can do without
    from encoder.training.stems import Prepared
    from evaluation.pages.tables import Table
    from evaluation.run import Step
    from flows.ingest import Outcome, Summary
    from flows.ingest import Progress as IngestProgress
    from store.capacity import Need

_PACKAGES = ("asid", "torch", "pymilvus", "milvus-lite", "zarr", "prefect", "dgl", "soundfile", "soxr")


@contextmanager
def ingestion() -> Iterator["IngestProgress"]:
    """A bar over the bytes to be read, with files done and the rate as a multiple of real time."""
    with _bar(TextColumn("{task.fields[files]} files  {task.fields[rate]}")) as bar:
        task = bar.add_task("ingest", total=None, files=0, rate="")
        heard = 0.0

        def progress(outcome: "Outcome", size: int, total: int) -> None:
            nonlocal heard
            heard += outcome.seconds
            row = bar.tasks[0]
            rate = f"{heard / max(row.elapsed or 0, 1e-3):.0f} x real time"
            bar.update(task, total=total, advance=size, files=row.fields["files"] + 1, rate=rate)

        yield progress


@contextmanager
def preparation() -> Iterator[Callable[["Prepared"], None]]:
    """A bar over the sources of a stem cache."""
    with _bar(TextColumn("{task.fields[track]}")) as bar:
        task = bar.add_task("prepare", total=None, track="")

        def progress(record: "Prepared") -> None:
            bar.update(task, total=record.total, completed=record.position, track=record.track)

        yield progress


@contextmanager
def evaluation() -> Iterator[Callable[["Step"], None]]:
    """A bar for each thing done for each system: rendering, storing, asking ..."""
    with _bar(TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[what]}")) as bar:
        tasks = {}

        def progress(step: "Step") -> None:
            key = f"{step.system}: {step.doing}"
            if key not in tasks:
                tasks[key] = bar.add_task(key, total=step.total, what="")
            bar.update(tasks[key], total=step.total, completed=step.done, what=step.what)

        yield progress


def evaluation_text(summary: dict[str, Any], out: Path) -> str:
    """Protocol, systems side by side with intervals, and where the report lies."""
    shown = [
        tables.of_metrics(summary),
        tables.of_differences(summary),
        tables.of_lengths(summary),
        tables.of_places(summary),
    ]
    parts = [summary["protocol"]["about"], *(_table_text(table) for table in shown if table.rows)]
    return "\n\n".join([*parts, f"report: {out / 'report.html'}"])


def _table_text(table: "Table") -> str:
    rows = [table.head, *((row.name, *(cell.text for cell in row.cells)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    parts = [table.title, lines.pop(0)]
    for group, members in table.grouped.items():
        parts += [f"- {group}"] if group else []
        parts += [lines.pop(0) for _ in members]
    return "\n".join(parts)


def epoch(record: Any) -> None:
    """One line per epoch on stderr."""
    shown = (f"{f.name} {_short(getattr(record, f.name))}" for f in fields(record))
    click.echo("  ".join(shown), err=True)


def summary_text(summary: "Summary") -> str:
    """The counts and rate of an ingestion, then every failure with its reason."""
    counts = ", ".join(f"{len(summary.having(state))} {state}" for state in ("stored", "skipped", "failed"))
    rate = summary.audio_seconds / max(summary.seconds, 1e-9)
    spent = f"{summary.audio_seconds / 60:.1f} min of audio in {summary.seconds:.1f} s"
    failures = [f"  failed  {printable(str(o.path))}: {o.reason}" for o in summary.having("failed")]
    return "\n".join([f"{counts}; {spent} ({rate:.0f} x real time)" if summary.audio_seconds else counts, *failures])


def summary_json(summary: "Summary") -> dict[str, Any]:
    """The same as JSON values."""
    return {
        **{state: len(summary.having(state)) for state in ("stored", "skipped", "failed")},
        "audio_seconds": summary.audio_seconds,
        "seconds": summary.seconds,
        "failures": [{"path": str(o.path), "reason": o.reason} for o in summary.having("failed")],
    }


def preparation_text(records: Sequence["Prepared"]) -> str:
    """How many sources came to what, then every failure with its reason."""
    states = sorted({r.status for r in records})
    counts = ", ".join(f"{sum(r.status == s for r in records)} {s}" for s in states)
    return "\n".join([counts, *(f"  failed  {r.track}: {r.reason}" for r in records if r.status == "failed")])


def systems() -> dict[str, str]:
    """The named recipes and what they are."""
    return {name: system.about for name, system in recipes.SYSTEMS.items()}


def info(settings: Settings) -> dict[str, Any]:
    """Versions, the encoder in use and, where there is a catalogue, its counts and sizes."""
    encoder = assembly.encoder(settings)
    facts = {
        "data": str(settings.data),
        "system": encoder.system.name,
        "encoder_digest": encoder.digest,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
    try:
        with assembly.references(settings, encoder, read_only=True) as references:
            facts |= {"catalogue": asdict(references.counts()), "bytes": asdict(references.sizes())}
            facts |= {"index": references.index, "node_form": references.identity.node_form}
        beside = [model for model in models.models(assembly.place(settings)) if not model.in_use]
        return facts | {"beside": {model.digest[:12]: f"{model.counts.stored} tracks" for model in beside}}
    except FileNotFoundError:
        return facts | {"catalogue": None}


def need_text(need: "Need") -> str:
    """What a catalogue needs, a line each."""
    expected, low, high = (f"{100 * share:.0f} %" for share in need.recall)
    beyond = "" if need.measured else "; drawn on beyond what was measured"
    rows = {
        "audio": f"{need.tracks:,} tracks, {need.hours:,.0f} h",
        "segments": f"{need.segments:,}",
        "Milvus": f"{_bytes(need.milvus_quantised)} quantised (CPU or GPU), {_bytes(need.milvus_raw)} as they are",
        "Zarr": f"{_bytes(need.zarr_compact)} with compact node matrices, {_bytes(need.zarr_full)} with whole ones",
        "ledger": _bytes(need.ledger),
        "ingestion": f"{need.worker_hours:,.1f} h on one core; n workers need an n-th; not measured on a GPU",
        "topology": need.topology,
        "on the list": f"{expected} of right references ({low} to {high}{beyond})",
    }
    return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def facts_text(facts: dict[str, Any], indent: str = "") -> str:
    """Nested facts as indented lines."""
    lines = []
    for key, value in facts.items():
        nested = isinstance(value, dict)
        lines.append(f"{indent}{key}" if nested else f"{indent}{key:<16} {value}")
        lines += [facts_text(value, indent + "  ")] if nested else []
    return "\n".join(lines)


def _bar(*columns: TextColumn) -> Progress:
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*shown, console=Console(stderr=True))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

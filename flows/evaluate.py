"""The evaluation flows: a benchmark, the peers that are asked, the table they make.

1. Render the benchmark from a folder of music, or read the annotated one.
2. Cut the excerpts that hit rates are measured on.
3. Ask every peer every query; answers are kept, so a killed run goes on where it stopped.
4. Sum up with intervals; write results.parquet, summary.json and the report.
5. Publish tables and figures as Prefect artifacts.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from encoder import allocator
from evaluation import cuts, joined, protocols, rejection, results, run
from evaluation.benchmark import Benchmark
from evaluation.dataset import sample100
from evaluation.own import own
from evaluation.own.own import OwnSettings, OwnSources
from evaluation.pages import report, tables
from evaluation.peers import registry
from evaluation.peers.interface import Peer
from evaluation.run import Step
from flows import assembly

Progress = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Who is compared by which protocol, and where the table goes."""

    out: Path
    cache: Path  # of rendered audio and of what peers store; shared by all runs
    systems: tuple[str, ...]  # see evaluation/peers/registry.py
    baseline: str | None = None  # what the others are compared with; None: the first
    protocol: str = "strict"
    lengths: tuple[float, ...] = cuts.LENGTHS  # seconds of the excerpts for hit rates; none: no excerpts
    seed: int = 1  # of the bootstrap
    device: str = "cpu"
    command: str = ""  # printed with the tables

    def __post_init__(self) -> None:
        protocols.named(self.protocol)
        if not self.systems:
            raise ValueError("no system to evaluate, expected at least one; see `asid evaluate own --help`")


@flow(name="evaluate-own")
def evaluate_own(
    settings: OwnSettings,
    sources: OwnSources,
    how: Comparison,
    *,
    export: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a benchmark out of a folder of music and compare systems on it; returns the summary."""
    peers = opened(how)
    report_step = progress or _silent
    benchmark = own.render(settings, sources, how.cache, progress=_steps("benchmark", "rendering", report_step))
    if export is not None:
        own.export(benchmark, export, progress=_steps("benchmark", "exporting", report_step))
    folder = how.cache / f"excerpts-{run.identity(benchmark)[:16]}"
    excerpts = cuts.excerpts(
        benchmark, folder, lengths=how.lengths, progress=_steps("benchmark", "cutting", report_step)
    )
    return _compared(replace(benchmark, excerpts=excerpts), peers, how, report_step)


@flow(name="evaluate-sample100")
def evaluate_sample100(
    annotations: Path,
    audio: Path,
    how: Comparison,
    *,
    allow_missing: bool = False,
    rejection_pairs: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare systems on Sample100-ext, or on anything annotated in its format; returns the summary.

    `rejection_pairs` of either kind are compared in the rejection study, by peers that can compare two tracks.
    """
    peers = opened(how)
    report_step = progress or _silent
    benchmark = sample100.load(annotations, audio, allow_missing=allow_missing)
    excerpts = sample100.excerpts(
        benchmark,
        how.cache / f"excerpts-{run.identity(benchmark)[:16]}",
        annotations_dir=annotations,
        lengths=how.lengths,
        truth="track" if how.protocol == "published" else "excerpt",
        progress=_steps("benchmark", "cutting", report_step),
    )
    benchmark = replace(benchmark, excerpts=excerpts)
    studies = _rejections(benchmark, peers, how, rejection_pairs, report_step) if rejection_pairs else {}
    return _compared(benchmark, peers, how, report_step, studies)


@flow(name="join-runs")
def join(
    runs: Sequence[Path], out: Path, *, baseline: str | None = None, seed: int = 1, command: str = ""
) -> dict[str, Any]:
    """Sum up finished runs of the same systems as one run over all their queries; returns the summary."""
    found = joined.load(runs)
    out.mkdir(parents=True, exist_ok=True)
    summary = results.summary(
        found.frame,
        protocol=protocols.named(found.protocol),
        seed=seed,
        benchmark=found.benchmark,
        peers=found.peers,
        command=command,
        created=_now(),
        baseline=baseline,
    )
    _written(out, found.frame, summary)
    _publish(out, summary)
    return summary


def opened(how: Comparison) -> list[Peer]:
    """The peers, before anything slow is begun.

    Raises what the registry raises for a system it cannot open, and OSError where nothing can be written.
    """
    allocator.keep_memory()
    for folder in (how.out, how.cache):
        folder.mkdir(parents=True, exist_ok=True)
    device = assembly.usable(how.device)
    protocol = protocols.named(how.protocol)
    return [registry.named(name)(how.cache / "peers", protocol=protocol, device=device) for name in how.systems]


def _compared(
    benchmark: Benchmark,
    peers: Sequence[Peer],
    how: Comparison,
    progress: Progress,
    studies: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    frame = _asked(benchmark, peers, how, progress)
    facts = frame.attrs["peers"]
    for name, study in (studies or {}).items():
        facts[name]["rejection_study"] = study
    summary = results.summary(
        frame,
        protocol=protocols.named(how.protocol),
        seed=how.seed,
        benchmark={"name": benchmark.name, **benchmark.facts},
        peers=facts,
        command=how.command,
        created=_now(),
        baseline=how.baseline,
    )
    _written(how.out, frame, summary)
    _publish(how.out, summary)
    return summary


@task(name="ask-peers", cache_policy=NO_CACHE, persist_result=False)
def _asked(benchmark: Benchmark, peers: Sequence[Peer], how: Comparison, progress: Progress) -> pd.DataFrame:
    return run.run(benchmark, peers, protocols.named(how.protocol), how.out, progress=progress)


@task(name="write-report", cache_policy=NO_CACHE, persist_result=False)
def _written(out: Path, frame: pd.DataFrame, summary: dict[str, Any]) -> None:
    frame = frame.copy()
    frame.attrs = {}  # they are in the summary, and parquet would hold them as text
    frame.to_parquet(out / "results.parquet")
    (out / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    report.write(out, frame, summary)


def _publish(out: Path, summary: Mapping[str, Any]) -> None:
    """The report, its tables and figures and a link to its page in the Prefect UI."""
    for key, table in (("metrics", tables.of_metrics(summary)), ("differences", tables.of_differences(summary))):
        rows = [dict(zip(table.head, (row.name, *(c.text for c in row.cells)), strict=True)) for row in table.rows]
        create_table_artifact(key=f"evaluation-{key}", table=rows, description=f"{table.title}. {table.about}")
    create_markdown_artifact(key="evaluation", markdown=(out / "report.md").read_text(encoding="utf-8"))
    page = (out / "report.html").absolute().as_uri()
    create_link_artifact(key="evaluation-report", link=page, link_text=f"{summary['benchmark']['name']}, {out.name}")
    for picture in sorted((out / "figures").glob("*.png")):
        url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
        create_image_artifact(key=f"evaluation-{picture.stem.replace('_', '-')}", image_url=url)


def _rejections(
    benchmark: Benchmark, peers: Sequence[Peer], how: Comparison, count: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """The rejection study of every peer that ranks by comparing segments of a query with those of one reference."""
    able = {peer.name: peer for peer in peers if getattr(peer, "comparison", None)}
    folder = how.cache / f"rejection-{run.identity(benchmark)[:16]}"
    pairs = rejection.pairs(benchmark, benchmark.excerpts, folder, count=count, seed=how.seed)
    return {
        name: rejection.study(
            pairs,
            peer.comparison(benchmark.references),
            count=count,
            seed=how.seed,
            progress=_steps(name, "comparing", progress),
        ).facts()
        for name, peer in able.items()
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _steps(system: str, doing: str, progress: Progress) -> Callable[[str, int, int], None]:
    return lambda what, done, total: progress(Step(system=system, doing=doing, what=what, done=done, total=total))


def _silent(step: Step) -> None:
    """Progress that nobody watches."""

"""Dashboard: a folder of finished runs -> one self-contained page that shows them side by side.

A run is a folder with summary.json and results.parquet, however deep. Metrics and their intervals are those of the
summaries. Differences are computed here from the rows, paired, for all systems that were asked the same queries of the
same benchmark under the same protocol; between others the page says why there is none. A folder that cannot be read is
a line on the page. The same runs give the same page.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from evaluation import bootstrap, metrics
from evaluation.bootstrap import Estimate
from evaluation.metrics import Columns
from evaluation.pages import drawing
from evaluation.pages.drawing import DARK, LIGHT
from evaluation.pages.measures import MEASURES
from evaluation.pages.report import render

# What has to agree before two systems are compared, and what a cell says where it does not; looked at in this order.
REASONS = (("protocol_id", "other protocol"), ("benchmark_id", "other benchmark"), ("queries_id", "other queries"))
_TRUTH = ["query", "relevant", "sample_type", "sample_length", "tempo_ratio", "transposition", "level"]
Numbers = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One system of one run, as a line of the page."""

    run: str
    system: str
    protocol: str
    benchmark: str
    seed: str
    created: str
    metrics: Mapping[str, Numbers]  # without what cannot be computed
    protocol_id: str  # the three are equal where two systems may be compared
    benchmark_id: str
    queries_id: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run: its folder, and its name as seen from the folder of all."""

    name: str
    folder: Path
    protocol: Mapping[str, str]  # name and about
    seed: int  # of the bootstrap, as are the draws
    draws: int
    entries: tuple[Entry, ...]
    columns: Mapping[str, Columns]  # system -> its full queries, ordered by query


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A folder that looks like a run and cannot be read as one."""

    name: str
    reason: str


def write(results_dir: Path, out_html: Path) -> Path:
    """Write the page of all runs below `results_dir`; returns `out_html`.

    NotADirectoryError where there is no such folder; a folder without runs gives a page that says so.
    """
    if not results_dir.is_dir():
        raise NotADirectoryError(f"{results_dir} is no folder, expected one with runs of asid evaluate")
    found = list(scan(results_dir))
    runs = [run for run in found if isinstance(run, Run)]
    entries = [entry for run in runs for entry in run.entries]
    data = {
        "entries": [asdict(entry) for entry in entries],
        "differences": differences(runs),
        "reasons": REASONS,
        "measures": [asdict(measure) for measure in MEASURES.values()],
        "colours": _colours(entries),
        "protocols": {run.protocol["name"]: run.protocol["about"] for run in runs},
        "reports": {run.name: _address(run, out_html) for run in runs},
    }
    broken = [one for one in found if isinstance(one, Broken)]
    out_html.parent.mkdir(parents=True, exist_ok=True)
    out_html.write_text(render("dashboard.html", title="Evaluation runs", data=data, broken=broken, runs=runs), "utf-8")
    return out_html


def scan(results_dir: Path) -> Iterator[Run | Broken]:
    """Every folder with a summary.json or a results.parquet, by name: as a run, or with the reason why it is none."""
    files = (file for name in ("summary.json", "results.parquet") for file in results_dir.rglob(name))
    for folder in sorted({file.parent for file in files}):
        name = folder.relative_to(results_dir).as_posix()
        name = results_dir.resolve().name if name == "." else name
        try:
            yield _read(folder, name)
        except (OSError, ValueError) as error:  # damaged JSON and Parquet are ValueErrors
            yield Broken(name=name, reason=" ".join(str(error).replace(str(folder), name).split()))
        except (AttributeError, KeyError, TypeError) as error:
            reason = f"summary.json is not in the form that asid evaluate writes ({error!r}); run it again"
            yield Broken(name=name, reason=reason)


def differences(runs: Sequence[Run]) -> dict[str, dict[str, Numbers]]:
    """ "i j" -> metric -> entry i less entry j with its paired interval, i before j, for all that may be compared."""
    entries = [(run, entry) for run in runs for entry in run.entries]
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, (_, entry) in enumerate(entries):
        alike.setdefault(tuple(getattr(entry, field) for field, _ in REASONS), []).append(place)
    result = {}
    for places in alike.values():
        drawn = _drawn([(run, entry.system) for run, entry in (entries[place] for place in places)])
        for (i, mine), (j, other) in combinations(zip(places, drawn), 2):
            intervals = {key: (mine[key] - other[key]).interval for key in mine}
            result[f"{i} {j}"] = {key: _numbers(vars(of)) for key, of in intervals.items() if of is not None}
    return result


def _read(folder: Path, name: str) -> Run:
    for file in ("summary.json", "results.parquet"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{file} is missing: the run did not finish, or was not copied whole")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    frame = pd.read_parquet(folder / "results.parquet")
    lacking = sorted({*_TRUTH, "system", "excerpt", "full_query"} - set(frame))
    if lacking:
        raise ValueError(f"results.parquet has no column {lacking[0]!r}; run asid evaluate again")
    full = frame[frame["excerpt"].isna()].sort_values("query", kind="stable")
    rows = {system: full[full["system"] == system] for system in summary["systems"]}
    columns = {system: {column: own[column].to_numpy() for column in own} for system, own in rows.items()}
    for system, own in columns.items():
        if not len(own["query"]):
            raise ValueError(f"results.parquet has no full query of {system}, which summary.json has")
        metrics.validate(own)
    return Run(
        name=name,
        folder=folder,
        protocol={"name": summary["protocol"]["name"], "about": summary["protocol"]["about"]},
        seed=int(summary["seed"]),
        draws=int(summary["counts"]["bootstrap_draws"]),
        entries=tuple(_entry(name, system, summary, own) for system, own in rows.items()),
        columns=columns,
    )


def _entry(run: str, system: str, summary: Mapping[str, Any], rows: pd.DataFrame) -> Entry:
    values, benchmark = summary["systems"][system], summary["benchmark"]
    return Entry(
        run=run,
        system=system,
        protocol=summary["protocol"]["name"],
        benchmark=str(benchmark.get("name", "unnamed")),
        seed=str(benchmark.get("seed", summary["seed"])),
        created=str(summary["created"])[:16].replace("T", " "),  # to the minute
        metrics={key: _numbers(values[key]) for key in MEASURES if values.get(key)},
        protocol_id=_digest(summary["protocol"]),
        benchmark_id=_digest(benchmark),
        queries_id=_digest(rows[_TRUTH].to_json(orient="values", double_precision=9)),
    )


def _drawn(systems: Sequence[tuple[Run, str]]) -> list[dict[str, Estimate]]:
    """Every metric of systems with the same queries, on the same draws: those of the first one's summary."""
    first, system = systems[0]
    columns = first.columns[system]
    counts = bootstrap.draw(columns["relevant"] > 0, seed=first.seed, draws=first.draws, groups=columns["full_query"])
    return [bootstrap.estimates(run.columns[name], counts) for run, name in systems]


def _address(run: Run, out_html: Path) -> str | None:
    """Of the run's report.html, seen from the page; None where there is none."""
    report = run.folder / "report.html"
    return quote(Path(os.path.relpath(report, out_html.parent)).as_posix()) if report.is_file() else None


def _numbers(interval: Mapping[str, float]) -> Numbers:
    """Value, low and high with as many digits as can be read."""
    return tuple(round(interval[key], 6) for key in ("value", "low", "high"))


def _digest(facts: Any) -> str:
    """Short text that is equal for equal facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _colours(entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """Light and dark colour of each system over all runs."""
    names = dict.fromkeys(entry.system for entry in entries)
    return {name: (drawing.colour(place, LIGHT), drawing.colour(place, DARK)) for place, name in enumerate(names)}

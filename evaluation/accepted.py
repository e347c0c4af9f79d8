"""Accepted: whether a run of an evaluation is worse than the one that was accepted last, by more than chance.

`accepted.json` beside the runs names the accepted one. It stays until somebody accepts another: were every run that is
not significantly worse accepted by itself, many small losses would add up unseen. Differences are paired over the same
queries, with 95 % bootstrap intervals (evaluation/bootstrap.py); a metric dropped where the whole interval lies on the
worse side of 0. Of n metrics looked at, each drops by chance in about 2.5 % of the runs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.pages import dashboard, measures
from evaluation.pages.dashboard import REASONS, Broken, Run
from evaluation.pages.measures import MEASURES

FILE = "accepted.json"
WATCHED = ("map", "hit_rate_1", "hit_rate_10", "auroc")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric of a run less that of the accepted one, with its paired interval."""

    system: str
    metric: str
    value: float
    low: float
    high: float

    @property
    def mark(self) -> measures.Mark:
        """better, worse, or nothing where it may be chance."""
        return measures.mark({"low": self.low, "high": self.high}, MEASURES[self.metric])

    def __str__(self) -> str:
        difference = {"value": self.value, "low": self.low, "high": self.high}
        return (
            f"{self.system}: {MEASURES[self.metric].label} {measures.text(difference, signed=True)} {self.mark}".strip()
        )


def accepted(runs: Path) -> Path | None:
    """The accepted run among those in the folder `runs`, None where none was ever accepted.

    FileNotFoundError where it was and is no longer there.
    """
    file = runs / FILE
    if not file.is_file():
        return None
    run = runs / json.loads(file.read_text(encoding="utf-8"))["run"]
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: the accepted run is gone; accept another one with `asid accept`")
    return run


def accept(run: Path) -> None:
    """Measure later runs beside this one; ValueError where it is no finished run."""
    _read(run)
    part = run.parent / f".{FILE}"
    part.write_text(json.dumps({"run": run.name}) + "\n", encoding="utf-8")
    part.replace(run.parent / FILE)


def compare(run: Path, before: Path, *, metrics: Sequence[str] = WATCHED) -> tuple[Change, ...]:
    """How each system of a run differs from its namesake in the one before; what neither can compute is left out.

    ValueError where they cannot be compared: another benchmark, protocol or system, or no finished run.
    """
    new, old = _read(run), _read(before)
    differences = dashboard.differences([new, old])
    changes = []
    for i, mine in enumerate(new.entries):
        j, other = _namesake(mine.system, old)
        for field, reason in REASONS:
            if getattr(mine, field) != getattr(other, field):
                raise ValueError(
                    f"{run.name} cannot be compared with {before.name} ({reason}); accept it if that is meant"
                )
        found = differences[f"{i} {len(new.entries) + j}"]
        for metric in metrics:
            if metric in found:
                value, low, high = found[metric]
                changes.append(Change(system=mine.system, metric=metric, value=value, low=low, high=high))
    return tuple(changes)


def _namesake(system: str, run: Run) -> tuple[int, dashboard.Entry]:
    found = [(place, entry) for place, entry in enumerate(run.entries) if entry.system == system]
    if not found:
        names = ", ".join(entry.system for entry in run.entries)
        raise ValueError(f"{system} is not in the accepted run {run.name}, which has {names}; accept a run that has it")
    return found[0]


def _read(folder: Path) -> Run:
    """The one run in the folder itself."""
    found = [one for one in dashboard.scan(folder) if one.name == folder.resolve().name]
    if not found or isinstance(found[0], Broken):
        reason = found[0].reason if found else "has neither summary.json nor results.parquet"
        raise ValueError(f"{folder}: {reason}; expected the folder of a finished run of `asid evaluate`")
    return found[0]

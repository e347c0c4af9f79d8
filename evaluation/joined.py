"""Joined: finished runs of the same systems on several benchmarks -> the rows and facts of one run over all queries.

A query is called RUN/QUERY after the folder of its run. Only systems that all runs have are kept; a system must be the
same in all of them, digest for digest, and so must the protocol.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

_NAMED = ("query", "full_query")  # columns that name a query
_TROUBLES = ("failed", "failed_queries")  # of a system in one run


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What `results.summary` makes a summary of."""

    frame: pd.DataFrame
    protocol: str
    benchmark: dict[str, Any]
    peers: dict[str, dict[str, Any]]


def load(runs: Sequence[Path]) -> Joined:
    """Read the folders of finished runs.

    FileNotFoundError where one is not finished, ValueError where there are fewer than two, two of a name, another
    protocol, no common system, another version of one, or the same queries twice.
    """
    names = [run.resolve().name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise ValueError(f"runs are {', '.join(names) or 'none'}, expected two or more folders of different names")
    summaries = {name: _summary(run) for name, run in zip(names, runs, strict=True)}
    first, *others = summaries.values()
    systems = [system for system in first["peers"] if all(system in other["peers"] for other in others)]
    _require_alike(summaries, systems)
    _require_apart(summaries)
    frames = [_rows(run, name, systems) for name, run in zip(names, runs, strict=True)]
    parts = {name: summary["benchmark"] for name, summary in summaries.items()}
    peers = {system: _common([summary["peers"][system] for summary in summaries.values()]) for system in systems}
    for system, facts in peers.items():
        facts |= {key: found for key in _TROUBLES if (found := _troubles(summaries, system, key))}
    joined = {"name": "joined", "runs": parts, "commands": [summary["command"] for summary in summaries.values()]}
    return Joined(frame=pd.concat(frames), protocol=first["protocol"]["name"], benchmark=joined, peers=peers)


def _summary(run: Path) -> dict[str, Any]:
    for file in ("summary.json", "results.parquet"):
        if not (run / file).is_file():
            raise FileNotFoundError(f"{run} has no {file}, expected a finished run of `asid evaluate own` or sample100")
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def _rows(run: Path, name: str, systems: Sequence[str]) -> pd.DataFrame:
    frame = pd.read_parquet(run / "results.parquet")
    frame = frame[frame["system"].isin(systems)]
    return frame.assign(**{column: f"{name}/" + frame[column] for column in _NAMED})


def _require_alike(summaries: dict[str, dict[str, Any]], systems: Sequence[str]) -> None:
    names = list(summaries)
    if not systems:
        raise ValueError(f"runs {', '.join(names)} have no system in common, expected one; evaluate the same --system")
    protocols = {summary["protocol"]["name"] for summary in summaries.values()}
    if len(protocols) > 1:
        raise ValueError(f"runs follow the protocols {', '.join(sorted(protocols))}, expected one; evaluate them alike")
    for system in systems:
        digests = {str(summary["peers"][system].get("digest"))[:12] for summary in summaries.values()}
        if len(digests) > 1:
            raise ValueError(
                f"{system} is {', '.join(sorted(digests))} in these runs, expected one digest; evaluate them anew"
            )


def _require_apart(summaries: dict[str, dict[str, Any]]) -> None:
    """ValueError where queries would count twice."""
    seen: dict[str, str] = {}
    for name, summary in summaries.items():
        parts = summary["benchmark"].get("runs") or {name: summary["benchmark"]}
        for part in map(partial(json.dumps, sort_keys=True), parts.values()):
            if seen.setdefault(part, name) != name:
                raise ValueError(f"runs {seen[part]} and {name} asked the same benchmark, expected others; give one")


def _common(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all runs tell alike: not how much one had stored, nor a study that one made."""
    first, *others = facts
    return {
        key: fact for key, fact in first.items() if key not in _TROUBLES and all(o.get(key) == fact for o in others)
    }


def _troubles(summaries: dict[str, dict[str, Any]], system: str, key: str) -> dict[str, str]:
    found = {name: summary["peers"][system].get(key) or {} for name, summary in summaries.items()}
    return {f"{name}/{what}": reason for name, reasons in found.items() for what, reason in reasons.items()}

"""Results: answers of the peers -> a row per system and query (results.parquet) -> the summary of a run (summary.json).

A row holds everything that a metric or a figure needs; summaries are made from rows alone, so a run can be summed up
again, or beside another one, without asking anybody. The same rows and seed give the same summary, whatever their order
within a system; wall times stay in the rows.

Some queries sample several references. Places, tempo and transposition are those of the best-ranked relevant one;
sample_type, sample_length, tempo_ratio, transposition and level describe the longest sample; for classes, lengths and
levels see evaluation/groups.py.
"""

import math
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation import bootstrap, groups, localisation, metrics, protocols
from evaluation.benchmark import Benchmark, Query
from evaluation.bootstrap import DRAWS, Interval
from evaluation.localisation import Localisation
from evaluation.peers.interface import Found, Response
from evaluation.protocols import Protocol

COLUMNS = {
    "system": "str", "query": "str", "full_query": "str", "excerpt": "float64", "relevant": "int64",
    "best_rank": "float64", "ap": "float64", "hit_1": "float64", "hit_3": "float64", "hit_5": "float64",
    "hit_10": "float64", "candidate_recall": "float64", "top_reference": "str", "top_score": "float64",
    "true_score": "float64", "wrong_score": "float64", "answered": "bool", "confidence": "float64", "correct": "bool",
    "query_iou": "float64", "reference_iou": "float64", "start_error": "float64", "tempo_error": "float64",
    "transposition_error": "float64", "repetitions": "float64", "repetitions_listed": "float64",
    "normalised_rank": "float64", "seconds": "float64", "classes": "str",
    "sample_type": "str", "sample_length": "float64", "tempo_ratio": "float64", "transposition": "float64",
    "level": "float64",
}  # fmt: skip
# A class, a length or a level has sampled queries only, so nothing in it can be set against sample-free ones.
_WITH_FREE = ("auroc", "false_alarm_rate", "recall_at_1_percent", "recall_at_5_percent", "calibration_error")
_PACKAGES = ("asid", "torch", "numpy", "scipy", "pandas", "librosa", "pedalboard", "pymilvus", "milvus-lite", "zarr")


# Rows


def row(query: Query, response: Response, *, system: str, benchmark: Benchmark, protocol: Protocol) -> dict[str, Any]:
    """The row of one system's answer to one query; ValueError where it names what is not in the catalogue."""
    unknown = {found.reference for found in response.found} - set(benchmark.catalogue) - query.aliases
    if unknown:
        raise ValueError(
            f"{system} found {min(unknown)!r} for {query.id}, expected an id of the catalogue it was given"
        )
    ranked = protocols.ranking(response, query, distractors=benchmark.distractors, protocol=protocol)
    right = [found for found in ranked if found.reference in query.relevant]
    wrong = [found for found in ranked if found.reference not in query.relevant]
    return {
        "system": system,
        "query": query.id,
        "full_query": full_query(query, benchmark),
        "excerpt": _number(query.excerpt),
        **_ranking(ranked, query, benchmark, protocol),
        "candidate_recall": metrics.candidate_recall(response.candidates, query.relevant),
        "top_reference": ranked[0].reference if ranked else None,
        "top_score": ranked[0].score if ranked else math.nan,
        "true_score": right[0].score if right else math.nan,
        "wrong_score": wrong[0].score if wrong else math.nan,
        "answered": response.answered,
        "confidence": _number(ranked[0].confidence) if ranked else math.nan,
        "correct": bool(ranked) and ranked[0].reference in query.relevant,
        **vars(_located(right, query)),
        "seconds": response.seconds,
        **_sample(query),
    }


def full_query(query: Query, benchmark: Benchmark) -> str:
    """Id of the full query that an excerpt is of: its own, or the longest one that its id begins with.

    Intervals draw whole full queries. ValueError where the id tells of none.
    """
    if query.excerpt is None:
        return query.id
    starts = [full.id for full in benchmark.queries if query.id == full.id or _continues(query.id, full.id)]
    if not starts:
        raise ValueError(f"excerpt {query.id!r} is of no query of {benchmark.name}; begin its id with the query's id")
    return max(starts, key=len)


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as the data frame that becomes results.parquet; ValueError where a system was asked something twice."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)
    twice = frame[frame.duplicated(["system", "query", "excerpt"])]
    if len(twice):
        raise ValueError(f"{twice['system'].iloc[0]} has two rows for {twice['query'].iloc[0]!r}, expected one")
    return frame


def _ranking(
    ranked: tuple[Found, ...], query: Query, benchmark: Benchmark, protocol: Protocol
) -> dict[str, float | int]:
    hits = np.array([found.reference in query.relevant for found in ranked], bool)
    relevant = len(query.relevant)
    competing = benchmark.catalogue if protocol.distractors_compete else benchmark.references
    return {
        "relevant": relevant,
        "best_rank": metrics.best_rank(hits),
        "ap": metrics.average_precision(hits, relevant, cut=protocol.cut, divide_by=protocol.divide_by),
        **{f"hit_{top}": metrics.hit_rate(hits, relevant, top=top) for top in (1, 3, 5, 10)},
        "normalised_rank": metrics.normalised_rank(hits, relevant, catalogue=len(set(competing) - query.aliases)),
    }


def _located(right: list[Found], query: Query) -> Localisation:
    if not right:
        return Localisation()
    annotated = [sampled for sampled in query.sampled if sampled.reference == right[0].reference]
    return localisation.evaluate(right[0].occurrences, annotated)


def _sample(query: Query) -> dict[str, str | float]:
    longest = max(query.sampled, key=lambda sampled: sampled.length or 0.0, default=None)
    return {
        "classes": groups.classes_of(query),
        "sample_type": longest.sample_type if longest else "",
        "sample_length": _number(longest and longest.length),
        "tempo_ratio": _number(longest and longest.tempo_ratio),
        "transposition": _number(longest and longest.transposition),
        "level": _number(longest and longest.level),
    }


def _continues(excerpt: str, full: str) -> bool:
    return excerpt.startswith(full) and not excerpt[len(full)].isalnum()  # T1 does not begin T10


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# Summary


def summary(
    frame: pd.DataFrame,
    *,
    protocol: Protocol,
    seed: int,
    benchmark: Mapping[str, Any],
    peers: Mapping[str, Mapping[str, Any]],
    command: str,
    created: str,
    baseline: str | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """What becomes summary.json: every metric with its interval, by system, against the baseline, by query length,
    class, and length and level of the sample.

    `benchmark` and `peers` are their facts, `seed` is the bootstrap's. The baseline is the first system unless named.
    A metric that cannot be computed is null. ValueError where systems were asked different queries.
    """
    names = list(dict.fromkeys(frame["system"]))
    baseline = baseline or (names[0] if names else None)
    if baseline not in names:
        raise ValueError(f"baseline {baseline!r} has no rows, expected one of {', '.join(names) or 'some system'}")
    whole = frame[frame["excerpt"].isna()]
    lengths = {f"{x:g}": frame[frame["excerpt"] == x] for x in sorted(frame["excerpt"].dropna().unique())}
    classes, samples = groups.by_class(whole), groups.by_sample(whole)
    systems, differences = _compared(whole, names, baseline, seed, draws)
    by_length, by_class, by_sample = (
        {name: _compared(rows, names, baseline, seed, draws)[0] for name, rows in parts.items()}
        for parts in (lengths, classes, samples)
    )
    result = {
        "systems": systems,
        "differences": differences,
        "baseline": baseline,
        "by_length": _by_system(by_length, names),
        "by_class": _by_system(by_class, names, without=_WITH_FREE),
        "by_sample": _by_system(by_sample, names, without=_WITH_FREE),
        "counts": {
            **_counts(whole, lengths, classes, samples, baseline),
            "right": {name: {part: _right(rows, name) for part, rows in samples.items()} for name in names},
            "bootstrap_draws": draws,
        },
        "protocol": {"name": protocol.name, "about": protocol.about},
        "seed": seed,
        "benchmark": benchmark,
        "peers": peers,
        "versions": versions(),
        "command": command,
        "created": created,
    }
    return _plain(result)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures may depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _compared(frame: pd.DataFrame, names: list[str], baseline: str, seed: int, draws: int) -> tuple[dict, dict]:
    """Intervals of each system and its differences from the baseline, all on the same draws."""
    columns = {name: _columns(frame[frame["system"] == name]) for name in names}
    bootstrap.require_same_queries({baseline: columns[baseline], **columns})
    first = columns[baseline]
    counts = bootstrap.draw(first["relevant"] > 0, seed=seed, draws=draws, groups=first["full_query"])
    drawn = {name: bootstrap.estimates(columns[name], counts) for name in names}
    own = {name: {key: estimate.interval for key, estimate in drawn[name].items()} for name in names}
    less = {
        name: {key: (estimate - drawn[baseline][key]).interval for key, estimate in drawn[name].items()}
        for name in names
        if name != baseline
    }
    return own, less


def _columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of one system, by query, so that the order of rows changes nothing."""
    ordered = frame.sort_values("query", kind="stable")
    return {name: ordered[name].to_numpy() for name in COLUMNS}


def _by_system(parts: Mapping[str, Mapping], names: list[str], without: tuple[str, ...] = ()) -> dict[str, dict]:
    """Part -> system -> metric turned into system -> part -> metric."""
    return {
        name: {part: {k: v for k, v in parts[part][name].items() if k not in without} for part in parts}
        for name in names
    }


def _right(rows: pd.DataFrame, system: str) -> dict[str, int]:
    """How many matches of a system are right, and how many annotated repetitions these have."""
    right = rows[(rows["system"] == system) & rows["correct"]]
    return {"matches": len(right), "repetitions": int(right["repetitions"].sum())}


def _counts(
    whole: pd.DataFrame,
    lengths: Mapping[str, pd.DataFrame],
    classes: Mapping[str, pd.DataFrame],
    samples: Mapping[str, pd.DataFrame],
    system: str,
) -> dict[str, Any]:
    """Queries of each kind; all systems have the same."""

    def asked(rows: pd.DataFrame) -> int:
        return int((rows["system"] == system).sum())

    return {
        "queries": asked(whole),
        "sampled": asked(whole[whole["relevant"] > 0]),
        "sample_free": asked(whole[whole["relevant"] == 0]),
        "excerpts": {name: asked(rows) for name, rows in lengths.items()},
        "classes": {name: asked(rows) for name, rows in classes.items()},
        "samples": {name: asked(rows) for name, rows in samples.items()},
    }


def _plain(value: Any) -> Any:
    """As JSON has it: names, numbers, lists; NaN and infinities are null; numbers to 9 digits after the point.

    Rounding takes out the last digits, in which sums over other numbers of threads differ.
    """
    match value:
        case Interval():
            return _plain(vars(value))
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case set() | frozenset():
            return [_plain(item) for item in sorted(value)]
        case list() | tuple() | np.ndarray():
            return [_plain(item) for item in value]
        case float() | np.floating():
            return round(float(value), 9) if math.isfinite(value) else None
        case np.integer() | np.bool_():
            return value.item()
        case Path():
            return str(value)
        case None | bool() | int() | str():
            return value
    raise TypeError(f"{type(value).__name__} in the facts of a run, expected what JSON has: {value!r}")

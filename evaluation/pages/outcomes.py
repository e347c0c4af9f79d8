"""Outcomes: rows of results.parquet -> what became of each full query, in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluation.pages.measures import DASH

_VERDICTS = {  # (sampled, answered, the first-ranked reference is right) -> in words, and whether all is well
    (True, True, True): ("right", True),
    (True, True, False): ("wrong", False),
    (True, False, True): ("first, but not reported", False),
    (True, False, False): ("missed", False),
    (False, True, False): ("false alarm", False),
    (False, False, False): ("rightly silent", True),
}
_SAMPLE = {
    "sample_length": "{:.1f} s",
    "tempo_ratio": "tempo × {:.2f}",
    "transposition": "{:+.3g} semitones",
    "level": "{:+.1f} dB",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one system made of one full query, at its own operating point."""

    system: str
    query: str
    sampled: str  # what the query samples
    first: str  # what was found first
    verdict: str
    good: bool
    rank: int | None  # of the best sampled reference
    score: float | None  # of what was found first
    seconds: float


def of_rows(frame: pd.DataFrame) -> list[Outcome]:
    """What became of every full query, system by system, ordered by query."""
    full = frame[frame["excerpt"].isna()].sort_values("query", kind="stable").to_dict("records")
    return [_outcome(row) for system in dict.fromkeys(frame["system"]) for row in full if row["system"] == system]


def _outcome(row: Mapping[str, Any]) -> Outcome:
    verdict, good = _VERDICTS[row["relevant"] > 0, bool(row["answered"]), bool(row["correct"])]
    return Outcome(
        system=row["system"],
        query=row["query"],
        sampled=_sampled(row),
        first=DASH if pd.isna(row["top_reference"]) else row["top_reference"],
        verdict=verdict,
        good=good,
        rank=None if math.isnan(row["best_rank"]) else int(row["best_rank"]),
        score=None if math.isnan(row["top_score"]) else float(row["top_score"]),
        seconds=float(row["seconds"]),
    )


def _sampled(row: Mapping[str, Any]) -> str:
    """What the query samples: how many references, where there are several, and the longest sample as annotated."""
    if not row["relevant"]:
        return "nothing"
    several = [f"{row['relevant']} references"] if row["relevant"] > 1 else []
    known = [form.format(row[key]).replace("-", "−") for key, form in _SAMPLE.items() if not math.isnan(row[key])]
    kind = [row["sample_type"]] if row["sample_type"] else []
    return ", ".join([*several, *kind, *known]) or "a reference"

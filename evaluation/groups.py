"""Groups: the parts of a benchmark's full queries that are measured apart, from the rows of results.parquet.

A class (riff, tempo within 5 % ...) has a query where all its samples belong to it. By length and level of the sample,
a query of several samples stands where its longest one does.
"""

from collections.abc import Callable

import pandas as pd

from evaluation.benchmark import Query, Sampled

CLASSES: dict[str, Callable[[Sampled], bool]] = {
    "riff": lambda sampled: sampled.sample_type == "riff",
    "beat": lambda sampled: sampled.sample_type == "beat",
    "tempo within 5 %": lambda sampled: sampled.tempo_ratio is not None and abs(sampled.tempo_ratio - 1) < 0.05,
    "tempo beyond 5 %": lambda sampled: sampled.tempo_ratio is not None and not abs(sampled.tempo_ratio - 1) < 0.05,
    "shorter than 4 s": lambda sampled: sampled.length is not None and sampled.length < 4.0,
    "4 s and longer": lambda sampled: sampled.length is not None and sampled.length >= 4.0,
}
SAMPLES: dict[str, tuple[str, float, float]] = {  # column of the row, from, to below: seconds and dB
    "under 2 s": ("sample_length", 0.0, 2.0),
    "2 to 4 s": ("sample_length", 2.0, 4.0),
    "4 to 8 s": ("sample_length", 4.0, 8.0),
    "8 s and longer": ("sample_length", 8.0, float("inf")),
    "under −3 dB": ("level", float("-inf"), -3.0),
    "−3 to 0 dB": ("level", -3.0, 0.0),
    "0 to 3 dB": ("level", 0.0, 3.0),
    "3 dB and above": ("level", 3.0, float("inf")),
}


def classes_of(query: Query) -> str:
    """Names of the classes that the query belongs to, with semicolons between them."""
    return ";".join(n for n, of in CLASSES.items() if query.sampled and all(of(s) for s in query.sampled))


def by_class(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each class that has any."""
    named = frame["classes"].str.split(";")
    return {name: rows for name in CLASSES if len(rows := frame[[name in names for names in named]])}


def by_sample(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of all sampled queries, then those of each length and level of the sample that has any."""
    parts = {
        name: frame[(frame[column] >= low) & (frame[column] < high)] for name, (column, low, high) in SAMPLES.items()
    }
    return {name: rows for name, rows in ({"all": frame[frame["relevant"] > 0]} | parts).items() if len(rows)}

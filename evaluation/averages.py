"""Averages: values of queries -> means, medians and shares over them; over a whole benchmark or over every draw of it.

`counts` is how often each query was drawn: (queries,) gives a number, (draws, queries) a number per draw.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]


def mean(values: ArrayLike, counts: Counts | None = None) -> NDArray[np.float64]:
    """Mean over the queries that have a value."""
    values, counts = counted(values, counts)
    known = ~np.isnan(values)
    return ratio(counts @ np.where(known, values, 0.0), counts @ known.astype(float))


def median(values: ArrayLike, counts: Counts | None = None) -> NDArray[np.float64]:
    """Median over the queries that have a value; of an even number the middle of the two central ones."""
    values, counts = counted(values, counts)
    order = np.argsort(values)[: (~np.isnan(values)).sum()]  # NaN sorts last
    if not len(order):
        return np.full(counts.shape[:-1], np.nan)[()]
    upto = counts[..., order].cumsum(axis=-1)
    total = upto[..., -1:]
    low, high = ((upto <= np.floor(position)).sum(axis=-1) for position in ((total - 1) / 2, total / 2))
    ordered = np.append(values[order], np.nan)  # a draw without a single value ends on the NaN
    return (ordered[low] + ordered[high]) / 2


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """part / whole; NaN where the whole is empty."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)[()]


def counted(values: ArrayLike, counts: Counts | None) -> tuple[NDArray[np.float64], Counts]:
    """Values and counts as arrays, every query once where no counts are given; ValueError where they do not fit."""
    values = np.asarray(values, float)
    counts = np.ones(len(values)) if counts is None else np.asarray(counts, float)
    if counts.shape[-1] != len(values):
        raise ValueError(f"counts of {counts.shape[-1]} queries for {len(values)} values, expected one for each")
    return values, counts

"""Bootstrap: 95 % intervals over queries, for every metric, and for the differences between two systems.

Queries are drawn with replacement 2,000 times or more and every metric is computed anew from how often each was drawn;
the interval reaches from the 2.5th to the 97.5th percentile of what comes out (Efron 1979). Sampled and sample-free
queries are drawn apart, so every draw has as many of either as the benchmark. Excerpts of one full query are no
independent evidence: `groups` names the full query of each row, and whole groups are drawn. Two systems are compared on
the same draws (paired): what makes a query hard for both cancels.

Read them with care where queries are few. Below about 20 the interval is too narrow; a share that is 0 or 1 in all
queries has the interval [0, 0] or [1, 1], while 0 of n is compatible with up to about 3 / n. Metrics that are
conditional on something found take the draws in which they can be computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation import metrics
from evaluation.metrics import Columns, Counts

DRAWS = 2_000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric over all queries, and over each draw; NaN where it cannot be computed."""

    value: float
    drawn: NDArray[np.float64]  # (draws,)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference; meant for two systems on the same draws."""
        return Estimate(value=self.value - other.value, drawn=self.drawn - other.drawn)

    @property
    def interval(self) -> Interval | None:
        """Percentile interval; None where the metric cannot be computed."""
        known = self.drawn[~np.isnan(self.drawn)]
        if np.isnan(self.value) or not len(known):
            return None
        low, high = np.quantile(known, _QUANTILES)
        return Interval(value=self.value, low=float(low), high=float(high))


def draw(sampled: ArrayLike, *, seed: int, draws: int = DRAWS, groups: ArrayLike | None = None) -> Counts:
    """(draws, queries) how often each query was drawn; queries of one group are drawn together.

    `sampled` tells sampled from sample-free queries; a group is sampled where one of its queries is. Every draw has as
    many groups of either kind as there are.
    """
    if draws < 1:
        raise ValueError(f"{draws} draws, expected at least 1; intervals need about {DRAWS}")
    sampled = np.asarray(sampled, bool)
    groups = np.arange(len(sampled)) if groups is None else np.asarray(groups)
    if len(groups) != len(sampled):
        raise ValueError(f"{len(groups)} groups for {len(sampled)} queries, expected the group of each query")
    names, member = np.unique(groups, return_inverse=True)
    kinds = np.bincount(member, weights=sampled, minlength=len(names)) > 0
    rng = np.random.default_rng(seed)
    counts = np.zeros((draws, len(names)))
    for kind in (True, False):
        inside = np.flatnonzero(kinds == kind)
        if len(inside):
            counts[:, inside] = rng.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=draws)
    return counts[:, member]


def estimates(columns: Columns, counts: Counts) -> dict[str, Estimate]:
    """Every metric of one system, over all queries and over the draws."""
    values, drawn = metrics.evaluate(columns), metrics.evaluate(columns, counts)
    return {key: Estimate(value=float(values[key]), drawn=drawn[key]) for key in values}


def intervals(
    columns: Columns, *, seed: int, draws: int = DRAWS, groups: ArrayLike | None = None
) -> dict[str, Interval | None]:
    """Every metric of one system with its interval; None where one cannot be computed."""
    counts = draw(_sampled(columns), seed=seed, draws=draws, groups=groups)
    return {key: estimate.interval for key, estimate in estimates(columns, counts).items()}


def differences(
    columns: Columns, baseline: Columns, *, seed: int, draws: int = DRAWS, groups: ArrayLike | None = None
) -> dict[str, Interval | None]:
    """Every metric of one system less the baseline's, paired; ValueError unless both answered the same queries.

    Rows belong together by position; `columns["query"]` proves it.
    """
    require_same_queries({"system": columns, "baseline": baseline})
    counts = draw(_sampled(columns), seed=seed, draws=draws, groups=groups)
    mine, other = estimates(columns, counts), estimates(baseline, counts)
    return {key: (mine[key] - other[key]).interval for key in mine}


def require_same_queries(systems: Mapping[str, Columns]) -> None:
    """ValueError unless all systems have the same queries, in the same order, with the same number of relevant ones."""
    (first, expected), *others = systems.items()
    for name, columns in others:
        apart = sorted(set(columns["query"]) ^ set(expected["query"]))
        if apart:
            raise ValueError(
                f"only {first} or only {name} has query {str(apart[0])!r}, expected the same; ask both again"
            )
        if not np.array_equal(columns["query"], expected["query"]):
            raise ValueError(f"queries of {name} and {first} are ordered differently; sort both by query")
        if not np.array_equal(columns["relevant"], expected["relevant"]):
            raise ValueError(f"{name} and {first} were judged by different truths; evaluate both on one benchmark")


def _sampled(columns: Columns) -> NDArray[np.bool_]:
    return np.asarray(columns["relevant"]) > 0

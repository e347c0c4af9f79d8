"""Measures of version identification: distances of queries to candidates -> how well the versions of each are ranked.

For a query with M relevant candidates among R candidates (itself left out), whose relevant ones have the ranks
r_1 < r_2 < ..., from 1:

    average precision   mean over i of i / r_i; its mean over queries is MAP
    first rank          r_1; its mean over queries is MR1
    normalised rank     NAR = 100 / (M (R - M)) * sum over i of (r_i - i): irrelevant candidates ahead of a relevant
                        one, in percent of all; 50 by chance, 0 at best (Serrà et al., ICML 2025, section 4)

The released code counts the query itself among the irrelevant, which makes its figure (R - M) / (R - M + 1) of NAR.
Ties rank worst first. A candidate at an infinite distance stays in the ranking, behind all others.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation import bootstrap
from evaluation.bootstrap import Estimate

MEASURES = ("average_precision", "first_rank", "normalised_rank", "normalised_rank_released")


def evaluate(
    distances: NDArray[np.floating], relevant: NDArray[np.bool_], itself: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Each measure for each query, (queries,); all three are (queries, candidates).

    ValueError where a query has no relevant candidate, is its own, or has a distance that is no number.
    """
    if np.isnan(distances).any():
        raise ValueError("a distance is not a number, expected distances from 0 to infinity")
    if (relevant & itself).any():
        raise ValueError("a query is marked as relevant to itself, expected it to be left out")
    if not relevant.any(axis=1).all():
        raise ValueError(f"query {int(relevant.any(axis=1).argmin())} has no relevant candidate, leave it out")
    rows = [_measured(*row) for row in zip(distances, relevant, itself, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in MEASURES}


def estimates(
    values: Mapping[str, NDArray[np.float64]], works: Sequence[str], *, seed: int, draws: int = bootstrap.DRAWS
) -> dict[str, Estimate]:
    """Mean of each measure over the queries, and over bootstrap draws of whole works, whose versions are much alike."""
    counts = bootstrap.draw(np.ones(len(works), bool), seed=seed, draws=draws, groups=np.asarray(works))
    total = counts.sum(axis=1)
    return {name: Estimate(value=float(v.mean()), drawn=counts @ v / total) for name, v in values.items()}


def _measured(
    distances: NDArray[np.floating], relevant: NDArray[np.bool_], itself: NDArray[np.bool_]
) -> dict[str, float]:
    distances, relevant = distances[~itself], relevant[~itself]
    order = np.lexsort((relevant, distances))  # of equal distances irrelevant ones first
    ranks = np.flatnonzero(relevant[order]) + 1
    found = np.arange(1, len(ranks) + 1)
    ahead, irrelevant = float((ranks - found).mean()), len(relevant) - len(ranks)
    return {
        "average_precision": float((found / ranks).mean()),
        "first_rank": float(ranks[0]),
        "normalised_rank": 100 * ahead / max(irrelevant, 1),
        "normalised_rank_released": 100 * ahead / (irrelevant + 1),
    }

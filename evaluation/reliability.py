"""Reliability: do stated confidences hold? Answers in bins of equal mass, what each bin states and what is right.

    expected calibration error = mean over the answers of |share right - mean confidence| of their bin

Few answers in a bin make it large by chance alone, so it is read beside what perfect confidences would give by chance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Answers of neighbouring confidence."""

    low: float  # least and greatest confidence
    high: float
    confidence: float  # mean
    right: int
    count: int

    @property
    def share(self) -> float:
        """Share of the answers that are right."""
        return self.right / self.count


def bins(confidences: ArrayLike, correct: ArrayLike, *, count: int = BINS) -> tuple[Bin, ...]:
    """The answers by rising confidence in `count` bins as equally full as can be; empty ones are left out.

    Answers without confidence (NaN) take no part. Equal confidences stay in the order given.
    """
    confidences, correct = _known(confidences, correct)
    if count < 1:
        raise ValueError(f"{count} bins, expected 1 or more")
    order = np.argsort(confidences, kind="stable")
    return tuple(
        Bin(
            low=float(confidences[rows[0]]),
            high=float(confidences[rows[-1]]),
            confidence=float(confidences[rows].mean()),
            right=int(correct[rows].sum()),
            count=len(rows),
        )
        for rows in np.array_split(order, count)
        if len(rows)
    )


def error(confidences: ArrayLike, correct: ArrayLike, *, count: int = BINS) -> float:
    """Expected calibration error over bins of equal mass; NaN without an answer."""
    filled = bins(confidences, correct, count=count)
    total = sum(one.count for one in filled)
    return sum(abs(one.right - one.confidence * one.count) for one in filled) / total if total else float("nan")


def by_chance(confidences: ArrayLike, *, count: int = BINS, seed: int = 1, draws: int = 500) -> float:
    """The error to be expected if every confidence were exactly true; NaN without an answer."""
    known, _ = _known(confidences, np.zeros(np.shape(confidences), bool))
    rng = np.random.default_rng(seed)
    drawn = [error(known, rng.random(len(known)) < known, count=count) for _ in range(draws)]
    return float(np.mean(drawn)) if len(known) else float("nan")


def _known(confidences: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    confidences, correct = np.asarray(confidences, float), np.asarray(correct, bool)
    if confidences.shape != correct.shape or confidences.ndim != 1:
        raise ValueError(f"confidences {confidences.shape} and truth {correct.shape}, expected one of each an answer")
    known = ~np.isnan(confidences)
    wrong = confidences[known][(confidences[known] < 0) | (confidences[known] > 1)]
    if len(wrong):
        raise ValueError(f"confidence is {wrong[0]}, expected 0 to 1, NaN where there is none")
    return confidences[known], correct[known]

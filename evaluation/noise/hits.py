"""Hits: answers -> top-1 hit rates by query length and signal-to-noise ratio, with 95 % intervals.

    song      the recording stands first
    within_50, within_250, within_500    and the offset told is off by no more than that many milliseconds

A recording that repeats itself is found at any of its repetitions, which the measures within milliseconds count as a
miss, as the field does. Whole recordings are drawn in the bootstrap, for excerpts of one are no independent evidence;
two systems are compared on the same draws.
"""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd

from evaluation import bootstrap
from evaluation.bootstrap import Estimate
from evaluation.noise.identify import Answer

WITHIN = (0.05, 0.25, 0.5)  # seconds
MEASURES = ("song", *(f"within_{round(1000 * t)}" for t in reversed(WITHIN)))
CELL = ["system", "overlap", "length", "snr"]


def frame(answers: Iterable[Answer], *, system: str, overlap: float | None) -> pd.DataFrame:
    """A row for each answer; overlap is NaN for a system without segments."""
    rows = pd.DataFrame([asdict(answer) for answer in answers])
    for tolerance in WITHIN:
        rows[f"within_{round(1000 * tolerance)}"] = rows["error"] <= tolerance
    return rows.assign(system=system, overlap=np.nan if overlap is None else overlap)


def rates(answers: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Share, low and high of every measure for each system, overlap, length and signal-to-noise ratio."""
    rows = []
    for cell, part in answers.groupby(CELL, dropna=False, sort=True):
        for measure in MEASURES:
            interval = _estimate(part, measure, seed).interval
            about = dict(zip(CELL, cell, strict=True)) | {"measure": measure, "queries": len(part)}
            rows.append(about | {"share": interval.value, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def differences(answers: pd.DataFrame, *, baseline: tuple[str, float | None], seed: int) -> pd.DataFrame:
    """Every system and overlap less the baseline over all lengths and ratios, paired; ValueError for other queries."""
    rows, key = [], ["excerpt", "length", "snr"]
    parts = {(s, None if np.isnan(o) else o): p for (s, o), p in answers.groupby(["system", "overlap"], dropna=False)}
    if baseline not in parts:
        raise ValueError(f"noise: no answers of {baseline} to compare with, expected one of {sorted(map(str, parts))}")
    base = parts.pop(baseline).sort_values(key)
    for (system, overlap), part in parts.items():
        part = part.sort_values(key)
        if not np.array_equal(part[key].to_numpy(), base[key].to_numpy()):
            raise ValueError(f"noise: {system} and {baseline[0]} were asked different queries; ask both again")
        for measure in MEASURES:
            interval = (_estimate(part, measure, seed) - _estimate(base, measure, seed)).interval
            about = {"system": system, "overlap": overlap, "baseline": _name(*baseline), "measure": measure}
            rows.append(about | {"difference": interval.value, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def _name(system: str, overlap: float | None) -> str:
    return system if overlap is None else f"{system}, overlap {overlap:g}"


def _estimate(part: pd.DataFrame, measure: str, seed: int) -> Estimate:
    hits = part[measure].to_numpy(float)
    counts = bootstrap.draw(np.ones(len(hits), bool), seed=seed, groups=part["source"].to_numpy())
    return Estimate(value=float(hits.mean()), drawn=counts @ hits / counts.sum(axis=1))

"""Confidence: what a match has to show -> the probability that it is right, and the bar for a stated false-alarm rate.

    log odds = intercept + sum over features of weight * (feature - mean) / spread

Features are logarithms: of the reference's score, of its second-best rival's (the background of the query itself: noise
lifts all references of a query, and two samples in one window shall not speak against each other), of the query's
seconds, of how many references there were to be found. The weight of the score is above 0 and that of the rival at
most 0, so the better of two scores never has the lower confidence.

The bar is a confidence, not a score: what a score is worth depends on the query. It is what the best answers to
sample-free queries seldom exceed. Fitted by reranker/calibrate.py; kept as JSON:

    {"format": 1, "encoder": digest, "scoring": {what scores depend on}, "sampled": share, "model": {...},
     "false": [[log odds of the best answer, for each version of a query], for each sample-free query ...],
     "range": {"seconds": [least, most], "listed": [least, most]}, "measured": {...}, "provenance": {...}}

    ValueError
     └─ CalibrationError     missing, damaged, fitted for other scores, or asked for more than its queries can promise
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from reranker.correlate import Correlation
from reranker.rank import Ranking

FORMAT = 1
FEATURES = ("score", "rival", "seconds", "listed")
NOTHING = -50.0  # log odds that stand for "nothing was found at all"; JSON has no infinity
_RIVAL = 2  # place among the other references of the one that stands for the background
_RULE_OF_THREE = 3.0  # of n queries none gave a false alarm: the true rate is under 3 / n (95 %)
_DIGITS = 4  # of log odds in a file
_SLACK = 1e-9  # shares of queries are sums of fractions


class CalibrationError(ValueError):
    """A calibration that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a reference has to show for being sampled."""

    score: float  # 0 or more
    rival: float | None  # second-best score of the other references, or the only one's; None: there is no other
    seconds: float  # of the query
    listed: int  # references that might have been found, this one among them, compared or not

    def __post_init__(self) -> None:
        for name, value in (("score", self.score), ("rival", self.rival)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"evidence: {name} is {value}, expected a number of 0 or more")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"evidence: the query lasts {self.seconds} s, expected more than 0")
        if self.listed < 1 or (self.listed == 1 and self.rival is not None):
            raise ValueError(f"evidence: {self.listed} references, rival {self.rival}; expected a rival from 2 on")


def of_ranking(scores: Sequence[float], *, seconds: float, listed: int | None = None) -> tuple[Evidence, ...]:
    """The evidence of every reference that was compared with one query, in the order of the scores.

    `listed`: how many there were to choose these from; None: these were all.
    """
    best = sorted(scores, reverse=True)[: _RIVAL + 1]
    listed = max(listed or 0, len(scores))
    return tuple(
        Evidence(score=float(score), rival=_rival(float(score), best), seconds=seconds, listed=listed)
        for score in scores
    )


def _rival(score: float, best: Sequence[float]) -> float | None:
    """Of a reference with that score; `best` are the best scores of all, its own among them where it is one of them."""
    others = [*best]
    others.remove(score) if score in others else others.pop()
    return float(others[-1]) if others else None


def features(rows: Sequence[Evidence]) -> NDArray[np.float64]:
    """(rows, 4) in the order of FEATURES; NaN for the rival where there is none."""
    values = [(1 + r.score, math.nan if r.rival is None else 1 + r.rival, r.seconds, r.listed) for r in rows]
    return np.log(np.array(values, float).reshape(-1, len(FEATURES)))


@dataclass(frozen=True, kw_only=True)
class Model:
    """Log odds, linear in some of the features."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    least: tuple[float, ...] = ()  # of each feature in the fit; what is less counts as that. () is no limit

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        for name in ("means", "spreads", "weights", "least"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not set(self.features) <= set(FEATURES) or "score" not in self.features:
            raise CalibrationError(f"features are {self.features}, expected the score and some of {FEATURES[1:]}")
        given = (self.means, self.spreads, self.weights, *([self.least] if self.least else []))
        if {len(values) for values in given} != {len(self.features)}:
            raise CalibrationError(f"{len(self.features)} features, expected a mean, a spread and a weight for each")
        numbers = (*self.means, *self.spreads, *self.weights, *self.least, self.intercept)
        if not all(map(math.isfinite, numbers)) or min(self.spreads) <= 0:
            raise CalibrationError(f"the model holds {numbers}, expected finite numbers and spreads above 0")
        by_name = dict(zip(self.features, self.weights, strict=True))
        if by_name["score"] <= 0 or by_name.get("rival", 0.0) > 0:
            raise CalibrationError(
                f"weights are {by_name}, expected the score's above 0 and the rival's at most 0; scores that do not "
                "tell right from wrong cannot be calibrated"
            )

    def log_odds(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) of (rows, 4) features; a reference without rival is given the usual one.

        A background as faint as silence or a catalogue of three tracks have was not seen in the fit, and makes nothing
        surer than the faintest that was.
        """
        chosen = table[:, [FEATURES.index(name) for name in self.features]]
        if self.least:
            chosen = np.maximum(chosen, self.least)  # NaN stays
        standardised = np.nan_to_num((chosen - self.means) / self.spreads, nan=0.0)
        # Sums, not a matrix product, whose rows need not be summed in one order: equal evidence is equally sure.
        return (standardised * self.weights).sum(axis=1) + self.intercept


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How sure the matches of one encoder, ranked in one way, are."""

    encoder: str  # digest
    scoring: Mapping[str, Any]  # see `scoring`
    sampled: float  # share of queries taken to sample something in the catalogue; confidences presume it
    model: Model
    false: tuple[tuple[float, ...], ...]  # log odds of the best answer to each version of each sample-free query
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of what it was fitted on
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.sampled < 1:
            raise CalibrationError(f"share of sampled queries is {self.sampled}, expected between 0 and 1")
        if not self.false or not all(self.false):
            raise CalibrationError("calibration holds no sample-free queries, expected some; calibrate again")

    @property
    def digest(self) -> str:
        """Hexadecimal; another where a confidence or a bar may be another."""
        false = [[round(value, _DIGITS) for value in versions] for versions in self.false]
        decides = (self.encoder, self.scoring, asdict(self.model), false, self.range.get("listed"))
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def confidences(self, rows: Sequence[Evidence]) -> NDArray[np.float64]:
        """(rows,) probability of each to be right, 0 to 1."""
        return of_log_odds(self.model.log_odds(self._table(rows)))

    def _table(self, rows: Sequence[Evidence]) -> NDArray[np.float64]:
        """Features; among fewer references than in the fit the rival is at least the usual one.

        The second best of few says too little of how much chance finds.
        """
        table, rival = features(rows), FEATURES.index("rival")
        if "rival" in self.model.features:
            few = [row.listed < self.range.get("listed", (0, 0))[0] for row in rows]
            usual = self.model.means[self.model.features.index("rival")]
            table[few, rival] = np.fmax(table[few, rival], usual)
        return table

    def confidence(self, evidence: Evidence) -> float:
        """The probability that this reference is sampled."""
        return float(self.confidences([evidence])[0])

    @property
    def least_rate(self) -> float:
        """The smallest false-alarm rate that the number of sample-free queries supports (rule of three)."""
        return min(1.0, _RULE_OF_THREE / len(self.false))

    def threshold(self, false_alarms: float) -> float:
        """The confidence that the best answers to no more than that share of sample-free queries exceed.

        A match is told where its confidence is above it. CalibrationError where so small a rate was not measured.
        """
        if not 0 < false_alarms < 1:
            raise ValueError(f"false-alarm rate is {false_alarms}, expected between 0 and 1; 1 % is 0.01")
        if false_alarms < self.least_rate * (1 - _SLACK):
            raise CalibrationError(
                f"a false-alarm rate of {false_alarms:.3g} cannot be promised from {len(self.false)} sample-free "
                f"queries; ask for {self.least_rate:.3g} or more, or calibrate with {round(3 / false_alarms)} queries"
            )
        return float(of_log_odds(bar(self.false, false_alarms)))

    def require(self, *, encoder: str, scoring: Mapping[str, Any]) -> None:
        """CalibrationError unless it was fitted on the scores of this encoder, ranked in this way."""
        cure = "fit one with `asid calibrate`, or use the settings that it was fitted with"
        if encoder != self.encoder:
            raise CalibrationError(
                f"calibration was fitted with encoder {self.encoder[:12]}, expected {encoder[:12]}; {cure}"
            )
        fitted, asked = _flat(self.scoring), _flat(scoring)
        other = sorted(k for k in {*asked, *fitted} if asked.get(k) != fitted.get(k))
        if other:
            raise CalibrationError(
                f"calibration was fitted with {other[0]} {fitted.get(other[0])!r}, expected "
                f"{asked.get(other[0])!r}; {cure}"
            )


def _flat(scoring: Mapping[str, Any]) -> dict[str, Any]:
    """With what lies in it as keys of its own, so that a difference can be told by name."""
    inner = {
        f"{name} {key}": v for name, part in scoring.items() if isinstance(part, Mapping) for key, v in part.items()
    }
    return {name: value for name, value in scoring.items() if not isinstance(value, Mapping)} | inner


def of_log_odds(log_odds: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-log odds))."""
    return expit(np.asarray(log_odds, float))


def bar(false: Sequence[Sequence[float]], rate: float) -> float:
    """The least of the log odds that the best answers to at most that share of sample-free queries exceed.

    Versions of one query (lengths, excerpts) share its vote.
    """
    values = np.concatenate([np.asarray(versions, float) for versions in false])
    votes = np.concatenate([np.full(len(versions), 1 / len(versions)) for versions in false]) / len(false)
    order = np.argsort(-values, kind="stable")
    above = np.concatenate([[0.0], np.cumsum(votes[order])])[:-1]  # share of what stands before each
    return float(values[order][np.flatnonzero(above <= rate + _SLACK)[-1]])


def scoring(ranking: Ranking, correlation: Correlation) -> dict[str, Any]:
    """What scores depend on beside the encoder, as JSON has it; a calibration is taken to hold for every quality."""
    names = ("every", "listing", "shortlist", "stretch", "local", "whole", "window", "overlap", "effort")
    chosen = {name: getattr(ranking, name) for name in names}
    return json.loads(json.dumps(chosen | {"by": "correlation"} | {"correlation": asdict(correlation)}))


# -- the file -----------------------------------------------------------------------------------------------------


def shipped_for(*, encoder: str, scoring: Mapping[str, Any]) -> Calibration | None:
    """The calibration that comes with the package; None where it is of other scores, or there is none."""
    path = Path(str(resources.files("reranker") / "weights" / "calibration.json"))
    if not path.is_file():
        return None
    calibration = load(path)
    try:
        calibration.require(encoder=encoder, scoring=scoring)
    except CalibrationError:
        return None  # whoever chose another encoder or ranking did not choose this calibration
    return calibration


def save(path: Path, calibration: Calibration) -> None:
    """Write the file in one step; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = asdict(calibration)
    plain["false"] = [[round(value, _DIGITS) for value in versions] for versions in calibration.false]
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps({"format": FORMAT, **plain}, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def load(path: Path) -> Calibration:
    """The calibration in the file; raises CalibrationError."""
    cure = "fit one with `asid calibrate`"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such calibration; {cure}") from error
    except ValueError as error:
        raise CalibrationError(f"{path}: is no JSON ({error}); {cure}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        found = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
        raise CalibrationError(f"{path}: format is {found!r}, expected {FORMAT}; {cure}")
    del plain["format"]
    try:
        plain["model"] = Model(**plain["model"])
        plain["false"] = tuple(tuple(map(float, versions)) for versions in plain["false"])
        plain["range"] = {name: (float(low), float(high)) for name, (low, high) in plain["range"].items()}
        return Calibration(**plain)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CalibrationError(f"{path}: is no calibration ({error}); {cure}") from error

"""Calibrate: rankings of queries whose truth is known -> a Calibration (reranker/confidence.py).

Logistic regression with an L2 penalty on the best-ranked reference of every query. Which features it uses is chosen by
log loss over folds of queries; of those that are not clearly worse than the best, the simplest.

Every query is asked a second time with what it samples withheld: such a query is sample-free, so that each query, and
not only those rendered without a sample, is one draw of the best wrong answer. Versions of one query (excerpts)
share its weight; sampled and sample-free queries weigh as `sampled` says, however many there are of each.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from reranker import confidence
from reranker.confidence import FEATURES, NOTHING, Calibration, CalibrationError, Model, bar

SAMPLED = 0.75  # share of queries that sample something in the catalogue, as in `asid evaluate own`
RECIPES = (("score", "rival"), ("score", "rival", "seconds"), ("score", "rival", "seconds", "listed"))  # simplest first
_RANKS = 1  # references of a query that take part; a second one does where the first is withheld
_PENALTY = 0.1  # L2, on standardised features, beside one unit of log loss a query
_FOLDS = 5
_LEAST = 10  # best answers that are right, and that are wrong
_BOUNDS = {"score": (0.0, None), "rival": (None, 0.0)}  # more score never tells against, a better rival never for
_ALIKE = 0.05  # spread of a logarithm up to which a feature is the same for all and tells nothing


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A query with known truth, and how the references that were compared with it were ranked."""

    query: str  # the full query that this is a version of; versions share its weight
    seconds: float
    scores: tuple[float, ...]  # best first
    right: tuple[bool, ...]  # which of them are sampled
    sampled: bool  # whether it samples anything in the catalogue, ranked or not
    whole: bool = True  # the full query itself
    listed: int | None = None  # references there were to choose them from; None: these were all
    related: tuple[bool, ...] = ()  # which of them may hold what is sampled too, another version of it; () is none

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.right) or list(self.scores) != sorted(self.scores, reverse=True):
            raise ValueError(f"{self.query}: scores {self.scores[:5]}, expected a falling row with a truth for each")
        if self.related and len(self.related) != len(self.scores):
            raise ValueError(f"{self.query}: {len(self.related)} of {len(self.scores)} references say what is related")
        if any(self.right) and not self.sampled:
            raise ValueError(f"{self.query}: samples nothing, but a reference is right; expected sampled=True")

    @property
    def choice(self) -> int:
        """How many references might have been found."""
        return max(self.listed or 0, len(self.scores))

    @property
    def withheld(self) -> "Ranked":
        """The same query against a catalogue that has, in place of what it samples, tracks that are like nothing.

        And of what is related to it: to find another version of it is no false alarm. As many references are compared
        as before: their number must not tell which queries were made sample-free.
        """
        gone = np.array(self.right, bool) | np.array(self.related or self.right, bool)
        scores = np.sort(np.where(gone, 0.0, self.scores))[::-1]
        none = (False,) * len(scores)
        return replace(self, scores=tuple(scores.tolist()), right=none, related=none, sampled=False)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Best answers to full queries, each by a model that was fitted without the query; rows belong together."""

    confidences: NDArray[np.float64]
    correct: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    false: tuple[tuple[float, ...], ...]  # log odds of the best answer to each version of each query, sample-free


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A calibration, and what tells how good it is."""

    calibration: Calibration
    held: Held
    losses: Mapping[str, float]  # log loss of best answers that were held out, by features


def fit(
    ranked: Sequence[Ranked],
    *,
    encoder: str,
    scoring: Mapping[str, Any],
    sampled: float = SAMPLED,
    provenance: Mapping[str, Any] | None = None,
) -> Fitted:
    """The calibration of these rankings, for the encoder of that digest and `confidence.scoring`.

    CalibrationError where right and wrong best answers are too few, or scores do not tell them apart.
    """
    _require(ranked)
    table = _Table.of(ranked, sampled=sampled)
    held = {recipe: _held_out(table, recipe) for recipe in RECIPES}
    losses = {recipe: table.losses(log_odds) for recipe, log_odds in held.items()}
    chosen = _simplest(losses)
    model = _model(table, chosen, np.ones(len(table.right), bool))
    calibration = Calibration(
        encoder=encoder,
        scoring=scoring,
        sampled=sampled,
        model=model,
        false=table.false(model.log_odds(table.features)),
        range={
            "seconds": (min(r.seconds for r in ranked), max(r.seconds for r in ranked)),
            "listed": (min(r.choice for r in ranked), max(r.choice for r in ranked)),
        },
        provenance=provenance or {},
    )
    return Fitted(
        calibration=calibration,
        held=table.judged(held[chosen]),
        losses={" + ".join(recipe): float(by_query.mean()) for recipe, by_query in losses.items()},
    )


def interval(false: Sequence[Sequence[float]], rate: float, *, seed: int = 1, draws: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval over queries of the confidence that is the threshold for that rate."""
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, len(false), len(false)) for _ in range(draws))
    low, high = np.quantile([bar([false[i] for i in chosen], rate) for chosen in drawn], (0.025, 0.975))
    return float(confidence.of_log_odds(low)), float(confidence.of_log_odds(high))


# -- the rows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The best references of every example as rows; an example without references has none.

    Examples are the queries as they were asked and, after them, the sampled ones once more with what they sample
    withheld.
    """

    examples: Sequence[Ranked]
    asked: int  # how many of the examples are queries as they were asked
    features: NDArray[np.float64]  # (rows, 4)
    right: NDArray[np.float64]  # (rows,)
    weights: NDArray[np.float64]  # (rows,)
    folds: NDArray[np.int64]  # (rows,)
    first: NDArray[np.int64]  # (examples,) row of the best reference; -1 where there is none

    @classmethod
    def of(cls, ranked: Sequence[Ranked], *, sampled: float) -> "_Table":
        examples = [*ranked, *(r.withheld for r in ranked if r.sampled)]
        best = [confidence.of_ranking(e.scores, seconds=e.seconds, listed=e.listed)[:_RANKS] for e in examples]
        counts = np.array([len(rows) for rows in best])
        return cls(
            examples=examples,
            asked=len(ranked),
            features=confidence.features([row for rows in best for row in rows]),
            right=np.array([right for e in examples for right in e.right[:_RANKS]], float),
            weights=np.repeat(_weights(examples, len(ranked), sampled), counts),
            folds=np.repeat(_folds(examples), counts),
            first=np.where(counts > 0, np.cumsum(counts) - counts, -1),
        )

    def losses(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """(queries,) log loss of the best answers as asked, mean over the versions of a query."""
        rows = self.first[: self.asked]
        chosen = log_odds[rows[rows >= 0]]
        loss = np.logaddexp(0, chosen) - self.right[rows[rows >= 0]] * chosen
        names = [e.query for e, row in zip(self.examples, rows) if row >= 0]
        _, query = np.unique(names, return_inverse=True)
        return np.bincount(query, loss) / np.bincount(query)

    def false(self, log_odds: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
        """Log odds of the best answer to each version of each query, where it is sample-free or made so."""
        versions: dict[str, list[float]] = {}
        for example, best in zip(self.examples, self._best(log_odds)):
            if not example.sampled:
                versions.setdefault(example.query, []).append(float(best))
        return tuple(map(tuple, versions.values()))

    def judged(self, log_odds: NDArray[np.float64]) -> Held:
        """The full queries as they were asked, by log odds that were held out."""
        best = self._best(log_odds)
        whole = [n for n, example in enumerate(self.examples[: self.asked]) if example.whole]
        return Held(
            confidences=confidence.of_log_odds(best[whole]),
            correct=np.array([bool(self.examples[n].right) and self.examples[n].right[0] for n in whole], bool),
            sampled=np.array([self.examples[n].sampled for n in whole], bool),
            false=self.false(log_odds),
        )

    def _best(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """(examples,) of the best reference; NOTHING where there is none."""
        return np.where(self.first >= 0, log_odds[self.first], NOTHING)


def _weights(examples: Sequence[Ranked], asked: int, sampled: float) -> NDArray[np.float64]:
    """(examples,) one for each query in all, shared by its versions, and by sampled and sample-free as stated."""
    names = [example.query for example in examples]
    versions = Counter(names[:asked])
    weights = np.array([1 / versions[name] for name in names])
    samples = np.array([example.sampled for example in examples])
    weights[samples] *= sampled / weights[samples].sum()
    weights[~samples] *= (1 - sampled) / weights[~samples].sum()
    return weights * len(versions)


def _folds(examples: Sequence[Ranked]) -> NDArray[np.int64]:
    """(examples,) queries in turn; versions of one lie in the same."""
    numbers = {query: number for number, query in enumerate(dict.fromkeys(e.query for e in examples))}
    return np.array([numbers[e.query] % _FOLDS for e in examples])


def _require(ranked: Sequence[Ranked]) -> None:
    correct = sum(bool(r.right) and r.right[0] for r in ranked)
    queries = len({r.query for r in ranked})
    if min(correct, len(ranked) - correct) < _LEAST or queries < _FOLDS:
        raise CalibrationError(
            f"{correct} best answers are right, {len(ranked) - correct} are wrong, of {queries} queries; "
            f"expected {_LEAST} or more of each and {_FOLDS} queries; calibrate with more queries, sample-free ones too"
        )


# -- the model -----------------------------------------------------------------------------------------------------


def _held_out(table: _Table, recipe: tuple[str, ...]) -> NDArray[np.float64]:
    """(rows,) log odds of each row by a model that was fitted on the other folds."""
    log_odds = np.zeros(len(table.right))
    for fold in np.unique(table.folds):
        held = table.folds == fold
        log_odds[held] = _model(table, recipe, ~held).log_odds(table.features[held])
    return log_odds


def _simplest(losses: Mapping[tuple[str, ...], NDArray[np.float64]]) -> tuple[str, ...]:
    """The first recipe whose losses exceed those of the best by no more than one standard error of the difference."""
    best = min(losses, key=lambda recipe: losses[recipe].mean())
    for recipe in losses:
        more = losses[recipe] - losses[best]
        if more.mean() <= more.std() / np.sqrt(len(more)):
            return recipe
    return best


def _model(table: _Table, recipe: tuple[str, ...], rows: NDArray[np.bool_]) -> Model:
    """Logistic regression on those rows; CalibrationError where the score gets no weight."""
    columns = [FEATURES.index(name) for name in recipe]
    values, weights = np.ma.masked_invalid(table.features[rows][:, columns]), table.weights[rows]
    means = np.ma.average(values, axis=0, weights=weights).filled(0.0)
    spreads = np.sqrt(np.ma.average((values - means) ** 2, axis=0, weights=weights).filled(1.0))
    spreads = np.where(spreads > _ALIKE, spreads, 1.0)
    design = np.column_stack([np.ones(len(values)), ((values - means) / spreads).filled(0.0)])
    fitted = minimize(
        _objective,
        np.zeros(design.shape[1]),
        args=(design, table.right[rows], weights),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), *(_BOUNDS.get(name, (None, None)) for name in recipe)],
    )
    return Model(
        features=recipe,
        means=tuple(means),
        spreads=tuple(spreads),
        weights=tuple(fitted.x[1:]),
        intercept=float(fitted.x[0]),
        least=tuple(values.min(axis=0).filled(0.0).tolist()),
    )


def _objective(
    weights: NDArray[np.float64],
    design: NDArray[np.float64],
    right: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Log loss with penalty, and its gradient."""
    log_odds = design @ weights
    penalised = np.concatenate([[0.0], weights[1:]])
    loss = counts @ (np.logaddexp(0, log_odds) - right * log_odds) + _PENALTY / 2 * penalised @ penalised
    return loss, design.T @ (counts * (expit(log_odds) - right)) + _PENALTY * penalised

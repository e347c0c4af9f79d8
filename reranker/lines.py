"""Lines: scored points (query time, reference time) -> the lines that most of them lie along, strongest first.

Lines are found by voting (Hough 1962): at each tempo ratio of a grid, points are sorted into strips of intercepts. A
run is a row of points in one strip without a long gap in the query. The run of most evidence is taken, its line is
refined (least squares with Huber weights, Huber 1964) and its points are taken out, with those beside it, which only
stem from the overlap of segments; so on until no run is left but what chance would bring about.

Evidence is the sum over the run's query times of the best score: many points at one time count once.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HUBER = 0.5  # hops off the line from which a point counts less
_SPREAD = 0.15  # standard deviation around 1 of the tempo ratios that are expected before any point is seen
_NOISE = 0.5  # hops that a point lies off its line, standard deviation
_REFINED = 3  # times that a line is fitted to the points along it
_WEIGHED = 5  # times that a fit is weighed anew
_QUERY, _REFERENCE = 40, 120  # hops of query and reference that chance is taken to have had at least
_MOST = 64  # lines


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What counts as a line, what as chance, and what is told of an occurrence."""

    tempo: tuple[float, float] = (0.7, 1.5)  # tempo ratios, query / reference
    tempo_step: float = 0.04  # of the logarithm: over 20 s a point lies at most 0.3 s beside the nearest line
    reach: float = 1.5  # hops of reference time that a point of a line may lie beside it
    beside: float = 2.5  # hops up to which points are taken out with the line
    gap: float = 4.0  # hops of the query without a point, up to which a run goes on
    least: int = 3  # query times of a line: what two neighbouring segments hear is nearly the same
    chance: float = 0.3  # lines that as many points, scattered at random, may give
    told: float = 10.0  # hops between first and last point from which the tempo ratio is told

    def __post_init__(self) -> None:
        low, high = self.tempo
        if not 0 < low <= 1 <= high:
            raise ValueError(f"alignment: tempo is {self.tempo}, expected (low, high) with 0 < low <= 1 <= high")
        for name in ("tempo_step", "reach", "beside", "gap", "least", "chance", "told"):
            if not getattr(self, name) > 0:
                raise ValueError(f"alignment: {name} is {getattr(self, name)}, expected more than 0")

    @property
    def ratios(self) -> NDArray[np.float64]:
        """(ratios,) of the grid; 1 is always among them."""
        low, high = (np.log(ratio) / self.tempo_step for ratio in self.tempo)
        return np.exp(np.arange(np.ceil(low), np.floor(high) + 1) * self.tempo_step)


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points by query time, then falling score; rows belong together."""

    steps: NDArray[np.int64]  # (points,) query time on the hop grid
    query: NDArray[np.float64]  # (points,) seconds
    reference: NDArray[np.float64]  # (points,) seconds
    scores: NDArray[np.float64]  # (points,) above 0
    hop: float  # seconds from step to step

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points along reference time = intercept + ratio * query time."""

    intercept: float  # seconds
    ratio: float
    points: NDArray[np.int64]  # positions in the points, rising
    evidence: float


def find(points: Points, config: Alignment) -> Iterator[Line]:
    """Lines, the strongest of those left first; no point is on two of them."""
    left, chance = np.ones(len(points), bool), _Chance(points, config)
    waiting = _runs(points, config, chance)
    heapq.heapify(waiting)
    for _ in range(_MOST):
        run = _strongest(waiting, points, left, chance)
        if run is None:
            return
        line = _refined(run, points, left, config)
        if chance.excluded(line.points):
            left &= ~_explained(line, points, config)
            yield line
        else:
            left[run] = False


_Run = tuple[float, int, NDArray[np.int64]]  # - evidence, number, points; the first of a heap has most evidence


def _runs(points: Points, config: Alignment, chance: "_Chance") -> list[_Run]:
    """The rows of points in one strip that chance would not bring about."""
    if len(points) < config.least:
        return []
    ratios = config.ratios
    intercepts = points.reference - ratios[:, None] * points.query  # (ratios, points)
    # Two sets of strips, half a strip apart: whatever lies within reach of a line is in one strip of either set.
    strips = np.floor(intercepts / (2 * config.reach * points.hop) + np.array([0.0, 0.5])[:, None, None]).astype(
        np.int64
    )
    strips -= strips.min()
    keys = np.arange(2 * len(ratios)).reshape(2, -1, 1) * (strips.max() + 1) + strips
    order = np.argsort((keys * len(points) + np.arange(len(points))).ravel())
    keys, members = keys.ravel()[order], order % len(points)
    steps = points.steps[members]
    apart = (np.diff(keys) != 0) | (np.diff(steps) > config.gap)
    best = np.r_[True, apart | (np.diff(steps) != 0)]  # of one query time, the first point has the highest score
    first = np.flatnonzero(np.r_[True, apart])
    end = np.r_[first[1:], len(members)]
    evidence = np.add.reduceat(np.where(best, points.scores[members], 0.0), first)
    kept = np.flatnonzero(chance.excludes(np.add.reduceat(best, first), steps[end - 1] - steps[first] + 1))
    return [(-evidence[i], int(i), members[first[i] : end[i]]) for i in kept]


def _strongest(
    waiting: list[_Run], points: Points, left: NDArray[np.bool_], chance: "_Chance"
) -> NDArray[np.int64] | None:
    """What is left of the run of most evidence, taken from the heap; None where no run is left.

    Evidence only falls as points are taken out, so a run is weighed again only when it comes first.
    """
    while waiting:
        _, number, members = heapq.heappop(waiting)
        members = members[left[members]]
        if not chance.excluded(members):
            continue
        evidence = _evidence(members, points)
        if not waiting or -evidence <= waiting[0][0] + 1e-9:
            return members
        heapq.heappush(waiting, (-evidence, number, members))
    return None


class _Chance:
    """What points, scattered at random over query and reference, would bring about."""

    def __init__(self, points: Points, config: Alignment) -> None:
        asked, held = (_extent(side, points.hop) for side in (points.query, points.reference))
        density = len(points) / (max(asked, _QUERY) * max(held, _REFERENCE))
        self._steps, self._least = points.steps, config.least
        self._rate = min(density * (2 * config.reach + 1), 0.5)  # share of a line's steps that are hit
        self._bar = np.log(2 * max(len(points), 1) * len(config.ratios) / config.chance)

    def excluded(self, members: NDArray[np.int64]) -> bool:
        """Whether these points are more than chance."""
        if len(members) < self._least:
            return False
        steps = self._steps[members]
        return bool(self.excludes(np.count_nonzero(np.diff(steps)) + 1, steps[-1] - steps[0] + 1))

    def excludes(self, hits: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether `hits` of `steps` are: Chernoff's bound of the binomial tail after the first hit, times all runs."""
        enough = np.asarray(hits) >= self._least
        hits, steps = np.asarray(hits) - 1.0, np.maximum(np.asarray(steps) - 1.0, 1.0)
        share = np.clip(hits / steps, 1e-9, 1 - 1e-9)
        away = share * np.log(share / self._rate) + (1 - share) * np.log((1 - share) / (1 - self._rate))
        return enough & (share > self._rate) & (steps * away > self._bar)


def _refined(run: NDArray[np.int64], points: Points, left: NDArray[np.bool_], config: Alignment) -> Line:
    """The line through a run, and the points along it that are left."""
    for _ in range(_REFINED):
        intercept, ratio = _fitted(run, points, config)
        along = left & (np.abs(points.reference - intercept - ratio * points.query) <= config.reach * points.hop)
        found = _best_part(np.flatnonzero(along), points, config)
        if not len(found) or np.array_equal(found, run):
            break
        run = found
    return Line(intercept=intercept, ratio=ratio, points=run, evidence=_evidence(run, points))


def _fitted(members: NDArray[np.int64], points: Points, config: Alignment) -> tuple[float, float]:
    """Intercept and ratio by least squares with Huber weights; a run too short to tell is drawn to a ratio of 1."""
    query, reference, scores = (side[members] for side in (points.query, points.reference, points.scores))
    base = scores / scores.sum() * (np.count_nonzero(np.diff(points.steps[members])) + 1)  # a query time counts as one
    prior = (_NOISE * points.hop / _SPREAD) ** 2
    weights = base
    for _ in range(_WEIGHED):
        x, y = np.average(query, weights=weights), np.average(reference, weights=weights)
        about = weights * (query - x)
        ratio = float(np.clip((about @ (reference - y) + prior) / (about @ (query - x) + prior), *config.tempo))
        off = np.abs(reference - y - ratio * (query - x))
        weights = base * np.minimum(1.0, _HUBER * points.hop / np.maximum(off, 1e-9))
    return float(y - ratio * x), ratio


def _best_part(members: NDArray[np.int64], points: Points, config: Alignment) -> NDArray[np.int64]:
    """The part without a long gap of most evidence."""
    gaps = np.flatnonzero(np.diff(points.steps[members]) > config.gap) + 1
    return max(np.split(members, gaps), key=lambda part: _evidence(part, points))


def _explained(line: Line, points: Points, config: Alignment) -> NDArray[np.bool_]:
    """The points on the line or just beside it, as long as it lasts."""
    first, last = points.steps[line.points[[0, -1]]]
    lasting = (points.steps >= first - config.beside) & (points.steps <= last + config.beside)
    off = np.abs(points.reference - line.intercept - line.ratio * points.query)
    return lasting & (off <= config.beside * points.hop)


def _evidence(members: NDArray[np.int64], points: Points) -> float:
    """Sum over query times of the highest score; 0 without points."""
    steps = points.steps[members]
    return float(points.scores[members][np.r_[True, np.diff(steps) != 0][: len(steps)]].sum())


def _extent(times: NDArray[np.float64], hop: float) -> float:
    return float(np.ptp(times)) / hop + 1 if len(times) else 0.0

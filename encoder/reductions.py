"""Reductions: distances between all shingles of two tracks -> one distance between the tracks.

Distances (..., queries' shingles, candidates' shingles), the smaller the more alike; what `excluded` marks (padding of
shorter tracks) is left out. A candidate of which nothing is left is infinitely far. Names follow the released CLEWS
code (Serrà et al., ICML 2025, section 3.2):

    mean, min, max     over all cells
    meanmin            each query shingle's nearest, averaged over those that have one
    minmean            each query shingle's mean, the least of them
    best-k, worst-k    the k least, the k greatest cells, averaged
    bpwr-r, bpwr       best pairs without replacement: the least cell, then the least outside its row and column, and
                       so on, averaged over r of them (over as many as there are, without a number)
    s...               symmetric: the average of a reduction and of the same with query and candidate exchanged

Every reduction is differentiable: gradient goes to the cells that were chosen.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

_NAMES = re.compile(r"(s?)(mean|min|max|meanmin|minmean|bpwr|(?:best|worst|bpwr)-(\d+))")
_CELLS = 2**17  # in a portion: half a megabyte
EXPECTED = "mean, min, max, meanmin, minmean, best-k, worst-k, bpwr or bpwr-r, or one of them after s"


def mean_squared_differences(queries: Tensor, candidates: Tensor) -> Tensor:
    """(queries, candidates) mean over the dimensions of the squared difference of two embeddings (.., dimensions).

    Expanded as |x|^2 - 2xy + |y|^2, which is a matrix product, but around the candidates' mean and in double precision:
    the difference of near duplicates is small beside the squares that it is made of.
    """
    centre = candidates.detach().double().mean(dim=0)
    x, y = queries.double() - centre, candidates.double() - centre
    squares = x.square().sum(dim=1).unsqueeze(1) - 2 * x @ y.T + y.square().sum(dim=1)
    return (squares.clamp(min=0) / queries.shape[1]).to(queries.dtype)


def reduce(distances: Tensor, name: str, excluded: Tensor | None = None) -> Tensor:
    """One distance for each pair of tracks, (...); ValueError for a name that is none."""
    symmetric, kind, number = parsed(name)
    reduction = _REDUCTIONS[kind]
    if excluded is not None:
        excluded = excluded.expand(distances.shape)
    value = reduction(distances, excluded, number)
    if not symmetric:
        return value
    return (value + reduction(distances.mT, None if excluded is None else excluded.mT, number)) / 2


def parsed(name: str) -> tuple[bool, str, int | None]:
    """Whether a reduction is symmetric, its kind, and its number; ValueError for a name that is none."""
    found = _NAMES.fullmatch(name)
    if found is None or found[3] == "0":
        raise ValueError(f"no reduction is called {name!r}, expected {EXPECTED}")
    return bool(found[1]), found[2].split("-")[0], int(found[3]) if found[3] else None


def best_pairs(distances: Tensor, excluded: Tensor | None, count: int | None) -> tuple[Tensor, Tensor]:
    """Cells (pairs, count) of a greedy one-to-one matching of (pairs, rows, columns), and which of them exist.

    Cells are numbered row by row. Of equal distances one is taken at a time. Instead of searching all cells again for
    each pair of shingles, the least of every row is kept, and found anew only for rows that lose it with its column.
    """
    distances = distances.detach()
    pairs, rows, columns = distances.shape
    count = min(rows, columns, count or rows)
    least, where = _least(distances, excluded)  # (pairs, rows)
    taken = torch.zeros(pairs, columns, dtype=torch.bool, device=distances.device)
    chosen, exist = [], []
    for number in range(count):
        value, row = least.min(dim=1, keepdim=True)  # (pairs, 1)
        column = where.gather(1, row)
        chosen.append(row * columns + column)
        exist.append(value < torch.inf)
        if number + 1 == count:
            break
        taken.scatter_(1, column, True)
        least.scatter_(1, row, torch.inf)
        pair, losing = ((where == column) & (least < torch.inf)).nonzero(as_tuple=True)
        gone = taken[pair] if excluded is None else taken[pair] | excluded[pair, losing]
        least[pair, losing], where[pair, losing] = distances[pair, losing].masked_fill_(gone, torch.inf).min(dim=1)
    return torch.cat(chosen, dim=1), torch.cat(exist, dim=1)


def _least(distances: Tensor, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
    """The least of each row and its column, (pairs, rows); in portions that stay in the processor's cache."""
    size = max(1, _CELLS // distances.shape[1:].numel())
    masks = [None] * -(-len(distances) // size) if excluded is None else excluded.split(size)
    found = [_filled(part, mask, torch.inf).min(dim=2) for part, mask in zip(distances.split(size), masks, strict=True)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def _bpwr(distances: Tensor, excluded: Tensor | None, count: int | None) -> Tensor:
    pairs = (-1, *distances.shape[-2:])
    cells, exist = best_pairs(distances.reshape(pairs), None if excluded is None else excluded.reshape(pairs), count)
    chosen = distances.reshape(len(cells), -1).gather(1, cells)
    return _average(chosen, ~exist).reshape(distances.shape[:-2])


def _mean(distances: Tensor, excluded: Tensor | None, _: int | None = None) -> Tensor:
    return _average(distances.flatten(-2), None if excluded is None else excluded.flatten(-2))


def _min(distances: Tensor, excluded: Tensor | None, _: int | None = None) -> Tensor:
    return _filled(distances, excluded, torch.inf).flatten(-2).amin(dim=-1)


def _max(distances: Tensor, excluded: Tensor | None, _: int | None = None) -> Tensor:
    greatest = _filled(distances, excluded, -torch.inf).flatten(-2).amax(dim=-1)
    return greatest.masked_fill(greatest == -torch.inf, torch.inf)


def _meanmin(distances: Tensor, excluded: Tensor | None, _: int | None = None) -> Tensor:
    nearest = _filled(distances, excluded, torch.inf).amin(dim=-1)
    return _average(nearest, None if excluded is None else excluded.all(dim=-1))


def _minmean(distances: Tensor, excluded: Tensor | None, _: int | None = None) -> Tensor:
    return _average(distances, excluded).amin(dim=-1)


def _best(distances: Tensor, excluded: Tensor | None, count: int) -> Tensor:
    return _extreme(_filled(distances, excluded, torch.inf), count, largest=False)


def _worst(distances: Tensor, excluded: Tensor | None, count: int) -> Tensor:
    return _extreme(_filled(distances, excluded, -torch.inf), count, largest=True)


def _extreme(distances: Tensor, count: int, *, largest: bool) -> Tensor:
    cells = distances.flatten(-2)
    chosen = cells.topk(min(count, cells.shape[-1]), dim=-1, largest=largest, sorted=False).values
    return _average(chosen, chosen.isinf())


def _average(values: Tensor, excluded: Tensor | None) -> Tensor:
    """Mean over the last dimension of what is not excluded, infinite where nothing is left."""
    if excluded is None:
        return values.mean(dim=-1)
    left = (~excluded).sum(dim=-1)
    mean = values.masked_fill(excluded, 0).sum(dim=-1) / left.clamp(min=1)
    return mean.masked_fill(left == 0, torch.inf)


def _filled(distances: Tensor, excluded: Tensor | None, value: float) -> Tensor:
    return distances if excluded is None else distances.masked_fill(excluded, value)


_REDUCTIONS: dict[str, Callable[[Tensor, Tensor | None, int | None], Tensor]] = {
    "mean": _mean,
    "min": _min,
    "max": _max,
    "meanmin": _meanmin,
    "minmean": _minmean,
    "best": _best,
    "worst": _worst,
    "bpwr": _bpwr,
}

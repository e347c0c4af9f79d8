"""Trace: one query and one reference at a rough warp -> the warp finely (reranker/warp.py), and what lies where.

At a warp, an occurrence is a stretch of a line (reference time = intercept + tempo ratio * query time) along which
frames are alike: a loop in the query gives several parallel lines, chops several short stretches. Each frame of the
query belongs to at most one. What is told is traced once more, with patches as long as the longest stretch: the longer
one is, the finer it tells the tempo.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reranker.rank import Occurrence
from reranker.warp import Warp, between, centred, heard_at, likest_places, measure, norm, transposed

_LONG = 3  # pieces that a patch is long: short enough for short samples, long enough to tell tempi 2 % apart
_LONGEST = 12  # pieces that one is long where what was found is
_LINES = 32  # intercepts that may hold occurrences
_APART = 2.0  # frames between two intercepts that are told apart
_BETWEEN = (0.0, -0.5, 0.5)  # frames from an intercept to lines that are tried too: a query's frames begin anywhere
_ALIKE = 0.4  # of the likeness of the best stretch, above which frames count as part of an occurrence
_CLEAR = 6.0  # standard deviations by which an occurrence stands out of chance
_SHORTEST = 6  # frames of an occurrence
_MOST = 64  # occurrences
_CELLS = 4_000_000  # products that are held at once
_CHANCE = 48  # lines on which the likeness by chance is measured


def trace(
    query: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    rough: Warp,
    *,
    piece: int,
    tempo_step: float,
    seconds: float,
) -> tuple[Warp, tuple[Occurrence, ...]]:
    """The warp near the rough one, and what lies where at it, by time; `seconds` from frame to frame."""
    warp = measure(query, reference, rough, piece=piece, long=_LONG * piece, tempo_step=tempo_step)
    return warp, occurrences(query, reference, warp, piece=piece, seconds=seconds)


def retrace(
    query: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    warp: Warp,
    found: Sequence[Occurrence],
    *,
    piece: int,
    tempo_step: float,
    seconds: float,
) -> tuple[Warp, tuple[Occurrence, ...]]:
    """The same more finely, from what `trace` found, one occurrence or more."""
    longest = round(max(o.query_span[1] - o.query_span[0] for o in found) / seconds)
    long = min(longest, _LONGEST * piece)
    step = tempo_step * min(_LONG * piece / long, 1.0)
    finer = measure(query, reference, warp, piece=piece, long=long, tempo_step=step)
    again = occurrences(query, reference, finer, piece=piece, seconds=seconds, fine=True)
    return (finer, again) if again else (warp, tuple(found))


def occurrences(
    query: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    warp: Warp,
    *,
    piece: int,
    seconds: float,
    fine: bool = False,
) -> tuple[Occurrence, ...]:
    """Stretches of the query that are like the reference at that warp, by time; `seconds` from frame to frame.

    Where `fine`, lines between frames are tried too, and frames between frames count as if they were no fainter.
    """
    asked, asking = centred(reference), transposed(centred(query), -warp.transposition)
    ratio = warp.tempo_ratio
    _, starts, positions = likest_places(centred(query), asked, warp, piece=piece, hop=piece // 2, each=3)
    lines = _distinct(positions.numpy() - starts.numpy() * ratio)
    if fine:
        lines = (lines[:, None] + _BETWEEN).ravel()
    along = (_along(asking, asked, some, ratio, even=fine) for some in (lines, _anywhere(asked)))
    found = _stretches(*along, piece)
    spans = sorted((first, last, lines[line]) for line, first, last in found)
    return tuple(
        Occurrence(
            query_span=(first * seconds, last * seconds),
            reference_span=((a + first * ratio) * seconds, (a + last * ratio) * seconds),
            tempo_ratio=ratio,
            transposition=warp.transposition,
            likeness=_cosine(asking[first:last], heard_at(asked, a + torch.arange(first, last) * ratio)),
        )
        for first, last, a in spans
    )


def _along(asking: Tensor, asked: Tensor, lines: NDArray[np.float64], ratio: float, *, even: bool = False) -> Tensor:
    """(lines, query frames) likeness of each frame with the one the line leads to; 0 outside the reference.

    A mean of two frames is fainter than either; where `even`, that is made up for.
    """
    where = torch.from_numpy(lines)[:, None] + torch.arange(len(asking)) * ratio
    inside = (where >= 0) & (where <= len(asked) - 1)
    low, part = between(where, len(asked))
    frames = torch.arange(len(asking))
    products = torch.zeros_like(part, dtype=asked.dtype)
    for chosen in frames.split(max(_CELLS // len(asked), 1)):  # every frame with every one, then what lies on the lines
        each = asking[chosen] @ asked.T
        rows, first, rest = chosen - chosen[0], low[:, chosen], part[:, chosen]
        after = each[rows, (first + 1).clamp(max=len(asked) - 1)]
        products[:, chosen] = each[rows, first] * (1 - rest) + after * rest
    scale = norm(_smooth(asking.square().sum(1))) * norm(_smooth(asked.square().sum(1))).mean()
    if even:
        products /= _faintness(asked, part)
    return torch.where(inside, products / scale, 0.0)


def _faintness(frames: Tensor, part: Tensor) -> Tensor:
    """Root of the energy that lies so far between two frames, 0 to 1, over that of frames, as it usually is."""
    alike = (frames[1:] * frames[:-1]).sum() / frames.square().sum().clamp(min=1e-6)
    return (1 - 2 * part * (1 - part) * (1 - alike.clamp(min=0))).sqrt()


def _stretches(likeness: Tensor, chance: Tensor, piece: int) -> list[tuple[int, int, int]]:
    """(line, first, last) of the stretches of highest sum over what is expected, best first, no frame twice."""
    if not likeness.numel() or likeness.shape[1] < _SHORTEST:
        return []
    mean, spread = float(chance.mean()), float(chance.std().clamp(min=1e-6))
    size = min(piece, likeness.shape[1])
    top = float(likeness.unfold(1, size, 1).mean(2).max())
    over = likeness.numpy().astype(np.float64) - mean - _ALIKE * (top - mean)
    found: list[tuple[int, int, int]] = []
    while len(found) < _MOST:
        line, first, last = _highest_sum(over)
        length = last - first
        clear = float(likeness[line, first:last].mean() - mean) * np.sqrt(length) / spread
        if length < _SHORTEST or clear < _CLEAR:
            break
        found.append((line, first, last))
        over[:, first:last] = -np.inf
    return found


def _highest_sum(values: NDArray[np.float64]) -> tuple[int, int, int]:
    """Row, first and last (exclusive) column of the consecutive values of highest sum; -inf separates."""
    bounded = np.where(np.isinf(values), -1e6, values)
    sums = np.pad(bounded.cumsum(1), ((0, 0), (1, 0)))
    low = np.minimum.accumulate(sums[:, :-1], axis=1)
    row, last = np.unravel_index((sums[:, 1:] - low).argmax(), values.shape)
    first = int(sums[row, : last + 1].argmin())
    return int(row), first, int(last) + 1


def _distinct(intercepts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first ones that lie apart."""
    kept: list[float] = []
    for a in intercepts:
        if all(abs(a - b) > _APART for b in kept):
            kept.append(float(a))
    return np.array(kept[:_LINES])


def _anywhere(asked: Tensor) -> NDArray[np.float64]:
    return np.linspace(0, len(asked) * 0.8, _CHANCE)


def _cosine(mine: Tensor, theirs: Tensor) -> float:
    return float((mine * theirs).sum() / (mine.norm() * theirs.norm()).clamp(min=1e-6))


def _smooth(energy: Tensor) -> Tensor:
    size = min(16, len(energy))
    return torch.nn.functional.avg_pool1d(energy[None], size, 1, size // 2, count_include_pad=False)[0, : len(energy)]

"""Trace: one query and one reference at a rough tempo ratio and transposition -> both finely, and what lies where.

The places where pieces of the query are most like the reference are kept; around them, patches of the query are warped
to a fine grid of tempo ratios and transpositions, and the warp at which the patches are most alike is taken. At that
warp, an occurrence is a stretch of a line (reference time = intercept + tempo ratio * query time) along which frames
are alike: a loop in the query gives several parallel lines, chops several short stretches. Each frame of the query
belongs to at most one. What is told is traced once more, with patches as long as the longest stretch: the longer one
is, the finer it tells the tempo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

from reranker.rank import Occurrence

_PATCHES = 12  # places at which tempo and transposition are measured
_LONG = 3  # pieces that a patch is long: short enough for short samples, long enough to tell tempi 2 % apart
_LONGEST = 12  # pieces that one is long where what was found is
_REACH = 6  # frames around a place in which a patch may lie
_LINES = 32  # intercepts that may hold occurrences
_APART = 2.0  # frames between two intercepts that are told apart
_BETWEEN = (0.0, -0.5, 0.5)  # frames from an intercept to lines that are tried too: a query's frames begin anywhere
_ALIKE = 0.4  # of the likeness of the best stretch, above which frames count as part of an occurrence
_CLEAR = 6.0  # standard deviations by which an occurrence stands out of chance
_SHORTEST = 6  # frames of an occurrence
_MOST = 64  # occurrences
_BLOCK = 2  # pieces that a block of frames is long
_CELLS = 4_000_000  # products that are held at once
_CHANCE = 48  # lines on which the likeness by chance is measured


@dataclass(frozen=True, kw_only=True)
class Warp:
    """What was done to a sample."""

    tempo_ratio: float  # query tempo / reference tempo
    transposition: float  # semitones by which the query is higher


def centred(features: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    """(frames, bins) float, each bin less its mean: what sounds all the time tells nothing."""
    values = torch.from_numpy(np.ascontiguousarray(features)).float()
    return values - values.mean(0) if len(values) else values


def stretched(frames: Tensor, ratio: float) -> Tensor:
    """(frames, bins) as they would be at 1 / ratio times the tempo: frame i is what was at i / ratio."""
    return heard_at(frames, torch.arange(int((len(frames) - 1) * ratio) + 1) / ratio)


def transposed(frames: Tensor, semitones: float) -> Tensor:
    """(..., bins) as they would be that many semitones higher; between semitones by linear interpolation."""
    whole = int(np.floor(semitones))
    part = semitones - whole
    return _shifted(frames, whole) * (1 - part) + _shifted(frames, whole + 1) * part


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


def measure(
    query: NDArray[np.uint8], reference: NDArray[np.uint8], warp: Warp, *, piece: int, long: int, tempo_step: float
) -> Warp:
    """The warp near the rough one at which the likest places of the two, `long` frames each, are most alike.

    Tempo ratios within 1.25 steps of the rough one's logarithm, transpositions within 1 semitone, both refined by a
    parabola through the best of a grid and its neighbours.
    """
    asked, asking = centred(reference), centred(query)
    places = _places(asking, asked, warp, piece=long, hop=piece // 2, each=1)
    tempi = warp.tempo_ratio * np.exp(np.linspace(-1.25, 1.25, 13) * tempo_step)
    semitones = warp.transposition + np.linspace(-1, 1, 9)
    likeness = _likeness(asking, asked, places, tempi, semitones, frames=round(long * warp.tempo_ratio))
    i, j = np.unravel_index(likeness.argmax(), likeness.shape)
    ratio = float(np.exp(_vertex(np.log(tempi), likeness[:, j], i)))
    return Warp(tempo_ratio=ratio, transposition=_vertex(semitones, likeness[i], j))


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
    _, starts, positions = _places(centred(query), asked, warp, piece=piece, hop=piece // 2, each=3)
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


def _places(
    asking: Tensor, asked: Tensor, warp: Warp, *, piece: int, hop: int, each: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, query frames and reference frames of the `each` likest places of every piece, best first."""
    ratio = warp.tempo_ratio
    warped = stretched(transposed(asking, -warp.transposition), ratio)
    length = min(round(piece * ratio), len(warped), len(asked))
    starts = np.arange(0, max(len(asking) - piece, 0) + 1, hop)
    begins = np.minimum(np.round(starts * ratio).astype(int), len(warped) - length)
    cut = torch.stack([warped[b : b + length] for b in begins])  # (pieces, length, bins)
    energy = pad(asked.square().sum(1).cumsum(0), (1, 0))
    energy = energy[length:] - energy[:-length]
    cosines = _products(cut, asked) / _norm(energy) / _norm(cut.square().sum((1, 2)))[:, None]
    best, where = torch.topk(cosines, min(each, cosines.shape[1]), dim=1)
    order = best.flatten().argsort(descending=True)[: _LINES * 4]
    queries = torch.from_numpy(starts).repeat_interleave(best.shape[1])
    return best.flatten()[order], queries[order], where.flatten()[order]


def _products(pieces: Tensor, frames: Tensor) -> Tensor:
    """(pieces, places) sums of products of pieces (pieces, length, bins) and the frames from each place on.

    By Fourier transforms of blocks of the frames (overlap-save): a piece is short, a recording is not.
    """
    length, places = pieces.shape[1], len(frames) - pieces.shape[1] + 1
    size = next_fast_len(_BLOCK * length, real=True)
    step = size - length + 1
    count = -(-places // step)
    blocks = pad(frames, (0, 0, 0, (count - 1) * step + size - len(frames))).unfold(0, size, step)
    theirs = torch.fft.rfft(blocks).permute(2, 1, 0)  # (frequencies, bins, blocks)
    mine = torch.fft.rfft(pieces, n=size, dim=1).conj().transpose(0, 1)  # (frequencies, pieces, bins)
    products = torch.fft.irfft(mine @ theirs, n=size, dim=0)[:step]  # (step, pieces, blocks)
    return products.permute(1, 2, 0).flatten(1)[:, :places]


def _likeness(
    asking: Tensor,
    asked: Tensor,
    places: tuple[Tensor, Tensor, Tensor],
    tempi: NDArray[np.float64],
    semitones: NDArray[np.float64],
    *,
    frames: int,
) -> NDArray[np.float32]:
    """(tempi, semitones) mean likeness of the patches around the best places, each where it is most alike."""
    weights, queries, positions = (side[:_PATCHES] for side in places)
    around = torch.arange(-_REACH, _REACH + 1)[:, None] + torch.arange(frames)
    theirs = asked[(positions[:, None, None] + around).clamp(0, len(asked) - 1)]  # (patches, places, frames, bins)
    steps = torch.arange(frames) - (frames - 1) / 2  # around the middle, in frames of the reference
    centre = queries + (frames - 1) / 2 / float(np.median(tempi))
    mine = heard_at(asking, centre[:, None, None] + steps / torch.from_numpy(tempi)[:, None])
    best = torch.stack([cosines.amax(2) for cosines in _transposed_cosines(mine, theirs, -semitones)])
    return (best * weights.clamp(min=0)[:, None] ** 2).sum(1).T.numpy()


def _transposed_cosines(mine: Tensor, theirs: Tensor, semitones: NDArray[np.float64]) -> Iterator[Tensor]:
    """(patches, tempi, places) of patches (patches, tempi, frames, bins), that much higher, and places as long.

    What lies between two semitones is a mean of both, and so is its product with anything: only whole ones are
    multiplied. Frames lie one behind the other with silence between, so that a patch is transposed by reading it from
    another place on.
    """
    low = np.floor(semitones).astype(int)
    whole, bins = range(low.min(), low.max() + 2), mine.shape[3]
    gap = max(abs(whole[0]), abs(whole[-1]))
    theirs = pad(theirs, (0, gap)).flatten(2)
    length = theirs.shape[2]
    row = mine.new_zeros(*mine.shape[:2], gap + length + gap)
    row[..., gap : gap + length].unflatten(2, (-1, bins + gap))[..., :bins] = mine
    products = {n: row[..., gap - n : gap - n + length] @ theirs.transpose(1, 2) for n in whole}
    energies, neighbours = mine.square().sum(2), (mine[..., 1:] * mine[..., :-1]).sum(2)  # (patches, tempi, bins)
    energy = {n: energies[..., max(-n, 0) : bins - max(n, 0)].sum(2) for n in whole}
    shared = {n: neighbours[..., max(-n, 1) - 1 : bins - 1 - max(n, 0)].sum(2) for n in whole[:-1]}
    norm = theirs.square().sum(2)[:, None]
    for n, part in zip(low.tolist(), (semitones - low).tolist(), strict=True):
        rest = 1 - part
        mixed = rest**2 * energy[n] + 2 * part * rest * shared[n] + part**2 * energy[n + 1]
        product = rest * products[n] + part * products[n + 1]
        yield product / (mixed.clamp(min=1e-12)[..., None] * norm.clamp(min=1e-12)).sqrt()


def _along(asking: Tensor, asked: Tensor, lines: NDArray[np.float64], ratio: float, *, even: bool = False) -> Tensor:
    """(lines, query frames) likeness of each frame with the one the line leads to; 0 outside the reference.

    A mean of two frames is fainter than either; where `even`, that is made up for.
    """
    where = torch.from_numpy(lines)[:, None] + torch.arange(len(asking)) * ratio
    inside = (where >= 0) & (where <= len(asked) - 1)
    low, part = _between(where, len(asked))
    frames = torch.arange(len(asking))
    products = torch.zeros_like(part, dtype=asked.dtype)
    for chosen in frames.split(max(_CELLS // len(asked), 1)):  # every frame with every one, then what lies on the lines
        each = asking[chosen] @ asked.T
        rows, first, rest = chosen - chosen[0], low[:, chosen], part[:, chosen]
        after = each[rows, (first + 1).clamp(max=len(asked) - 1)]
        products[:, chosen] = each[rows, first] * (1 - rest) + after * rest
    scale = _norm(_smooth(asking.square().sum(1))) * _norm(_smooth(asked.square().sum(1))).mean()
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


def heard_at(frames: Tensor, where: Tensor) -> Tensor:
    """Frames between frames, by linear interpolation; beyond the ends the last one."""
    low, part = _between(where, len(frames))
    part = part.unsqueeze(-1)
    return torch.lerp(frames[low], frames[(low + 1).clamp(max=len(frames) - 1)], part)


def _between(where: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of places among so many frames the frame before, and how far after it they lie, 0 to 1."""
    where = where.clamp(0, count - 1)
    return where.long(), where.frac().float()


def _shifted(frames: Tensor, bins: int) -> Tensor:
    size = frames.shape[-1]
    if abs(bins) >= size:
        return torch.zeros_like(frames)
    return pad(frames[..., max(-bins, 0) : size - max(bins, 0)], (max(bins, 0), max(-bins, 0)))


def _cosine(mine: Tensor, theirs: Tensor) -> float:
    return float((mine * theirs).sum() / (mine.norm() * theirs.norm()).clamp(min=1e-6))


def _norm(energy: Tensor) -> Tensor:
    return torch.maximum(energy, 0.1 * energy.median()).clamp(min=1e-6).sqrt()


def _smooth(energy: Tensor) -> Tensor:
    size = min(16, len(energy))
    return torch.nn.functional.avg_pool1d(energy[None], size, 1, size // 2, count_include_pad=False)[0, : len(energy)]


def _vertex(places: NDArray[np.float64], values: NDArray[np.float32], best: int) -> float:
    """Where a parabola through the best value of an even grid and its neighbours is highest."""
    if not 0 < best < len(places) - 1:
        return float(places[best])
    left, middle, right = (float(v) for v in values[best - 1 : best + 2])
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(places[best] + shift * (places[1] - places[0]))

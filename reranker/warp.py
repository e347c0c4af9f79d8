"""Warp: one query and one reference at a rough tempo ratio and transposition -> both finely.

The places where pieces of the query are most like the reference are kept; around them, patches of the query are warped
to a fine grid of tempo ratios and transpositions, and the warp at which the patches are most alike is taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

_PATCHES = 12  # places at which tempo and transposition are measured
_REACH = 6  # frames around a place in which a patch may lie
_PLACES = 128  # likest ones that are kept
_BLOCK = 2  # pieces that a block of frames is long


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
    return shifted(frames, whole) * (1 - part) + shifted(frames, whole + 1) * part


def heard_at(frames: Tensor, where: Tensor) -> Tensor:
    """Frames between frames, by linear interpolation; beyond the ends the last one."""
    low, part = between(where, len(frames))
    part = part.unsqueeze(-1)
    return torch.lerp(frames[low], frames[(low + 1).clamp(max=len(frames) - 1)], part)


def measure(
    query: NDArray[np.uint8], reference: NDArray[np.uint8], warp: Warp, *, piece: int, long: int, tempo_step: float
) -> Warp:
    """The warp near the rough one at which the likest places of the two, `long` frames each, are most alike.

    Tempo ratios within 1.25 steps of the rough one's logarithm, transpositions within 1 semitone, both refined by a
    parabola through the best of a grid and its neighbours.
    """
    asked, asking = centred(reference), centred(query)
    places = likest_places(asking, asked, warp, piece=long, hop=piece // 2, each=1)
    tempi = warp.tempo_ratio * np.exp(np.linspace(-1.25, 1.25, 13) * tempo_step)
    semitones = warp.transposition + np.linspace(-1, 1, 9)
    likeness = _likeness(asking, asked, places, tempi, semitones, frames=round(long * warp.tempo_ratio))
    i, j = np.unravel_index(likeness.argmax(), likeness.shape)
    ratio = float(np.exp(vertex(np.log(tempi), likeness[:, j], i)))
    return Warp(tempo_ratio=ratio, transposition=vertex(semitones, likeness[i], j))


def likest_places(
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
    cosines = _products(cut, asked) / norm(energy) / norm(cut.square().sum((1, 2)))[:, None]
    best, where = torch.topk(cosines, min(each, cosines.shape[1]), dim=1)
    order = best.flatten().argsort(descending=True)[:_PLACES]
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


def shifted(frames: Tensor, bins: int) -> Tensor:
    """(..., bins) as if so many bins higher; what enters at the edge is silent."""
    size = frames.shape[-1]
    if abs(bins) >= size:
        return torch.zeros_like(frames)
    return pad(frames[..., max(-bins, 0) : size - max(bins, 0)], (max(bins, 0), max(-bins, 0)))


def between(where: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of places among so many frames the frame before, and how far after it they lie, 0 to 1."""
    where = where.clamp(0, count - 1)
    return where.long(), where.frac().float()


def norm(energy: Tensor) -> Tensor:
    """Roots of energies; quiet ones count as if they had a tenth of the usual one."""
    return torch.maximum(energy, 0.1 * energy.median()).clamp(min=1e-6).sqrt()


def vertex(places: NDArray[np.float64], values: NDArray[np.float32], best: int) -> float:
    """Where a parabola through the best value of an even grid and its neighbours is highest."""
    if not 0 < best < len(places) - 1:
        return float(places[best])
    left, middle, right = (float(v) for v in values[best - 1 : best + 2])
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(places[best] + shift * (places[1] - places[0]))

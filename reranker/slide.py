"""Slide: pieces of a query along a reference -> the highest cosine of each, at every tempo ratio and transposition.

The products of all frames of the query with all frames of the reference are one matrix product per transposition; a
piece at a tempo ratio is then a sum of them along a line of that slope. Fourier transforms of stretched pieces give the
same and take three times as long (benchmarks/correlate.py).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from reranker.warp import shifted

SPANS = (1, 2)  # pieces that are compared as one
_AT_ONCE = 32  # pieces whose products are in memory at once
_QUIET = 0.1  # of the median energy; quieter patches are compared as if they had that
_BLOCK = 2048  # places of which the sums stay in fast memory
_NOWHERE = np.float32(-1)  # where a span does not fit


class Lines:
    """The lines along which pieces of so many frames are laid at each tempo ratio (query / reference)."""

    def __init__(self, tempi: NDArray[np.float64], piece: int) -> None:
        self.piece = piece
        self.offsets = np.round(np.arange(piece) * tempi[:, None]).astype(np.int64)  # (tempi, piece) reference frames
        self.lengths = np.round(piece * tempi).astype(np.int64)  # (tempi,) reference frames that a piece covers

    @property
    def reach(self) -> int:
        """Reference frames that the longest span covers."""
        return int(self.lengths.max()) * SPANS[-1]


class Asked:
    """The pieces of a query at every transposition."""

    def __init__(self, frames: Tensor, transpositions: NDArray[np.int64], piece: int) -> None:
        """`frames`: (frames, bins), of which whole pieces are kept; at least one is needed."""
        self.pieces = len(frames) // piece
        kept = frames[: self.pieces * piece]
        self.frames = torch.stack([shifted(kept, -int(semitones)) for semitones in transpositions])
        energy = self.frames.square().sum(2).reshape(len(transpositions), self.pieces, piece).sum(2).T
        usual = float(kept.square().sum(1).reshape(self.pieces, piece).sum(1).median())
        runs = [sum(energy[k : self.pieces - span + 1 + k] for k in range(span)) for span in SPANS]
        # (pieces - span + 1, transpositions) one over the norm; of quiet ones as if they were a tenth of the median
        self.scales = [
            run.clamp(min=max(_QUIET * span * usual, 1e-6)).rsqrt().numpy() for span, run in zip(SPANS, runs)
        ]


class Held:
    """References side by side, with what every comparison needs of them."""

    def __init__(self, references: Sequence[Tensor], lines: Lines) -> None:
        """`references`: (frames, bins) each, one or more."""
        between = references[0].new_zeros(1, references[0].shape[1])  # a rounded line may end a frame later
        padded = pad(torch.cat([part for frames in references for part in (frames, between)]), (0, 0, 0, lines.reach))
        lengths = np.array([len(frames) for frames in references])
        self.frames = padded.T.contiguous()  # (bins, places)
        self.starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])  # (references,) place of the first frame
        # per span: (references, tempi) how many places a line may begin at
        self.places = [np.maximum(lengths[:, None] - span * lines.lengths + 1, 0) for span in SPANS]
        energy = padded.square().sum(1).numpy()
        self.scales = _scales(energy, lines.offsets, lines.lengths, self.starts, *self.places)


def highest(asked: Asked, groups: Sequence[Sequence[Tensor]], lines: Lines) -> NDArray[np.float32]:
    """(pieces, spans, tempi, transpositions, references): highest cosine anywhere; -1 where a span does not fit.

    `groups`: references (frames, bins), those of a group side by side. A group is one worker's, at all transpositions.
    """
    ends = np.cumsum([0, *map(len, groups)])
    shape = (ends[-1], len(asked.frames), asked.pieces, len(SPANS), len(lines.lengths))
    peaks = np.full(shape, _NOWHERE, np.float32)

    def fill(group: Sequence[Tensor], begin: int, end: int) -> None:
        held = Held(group, lines)
        for j, frames in enumerate(asked.frames):
            for first in range(0, asked.pieces, _AT_ONCE):
                chosen = slice(first * lines.piece, (first + _AT_ONCE + SPANS[-1] - 1) * lines.piece)
                _fill(frames[chosen], held, lines, peaks[begin:end, j, first:])

    with one_core_each() as pool:
        list(pool.map(fill, groups, ends, ends[1:]))
    return _scaled(peaks, asked)


@contextmanager
def one_core_each() -> Iterator[ThreadPoolExecutor]:
    """As many workers as this thread has threads for a matrix product, each with one.

    Products of one reference are small: threads that share one wait for each other most of the time.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # a new thread begins with what any thread has set last


def _fill(frames: Tensor, held: Held, lines: Lines, out: NDArray[np.float32]) -> None:
    """Fill out (references, pieces, 2, tempi) as far as there are `frames` of the query, (frames, bins)."""
    products = (frames @ held.frames).numpy()
    products = products.reshape(-1, lines.piece, products.shape[1])
    # The last piece is there for the span that the one before it begins; its own values come next time.
    out = out[:, : len(products)]
    _highest(products, lines.offsets, lines.lengths, held.starts, *held.scales, *held.places, out)


def _scaled(peaks: NDArray[np.float32], asked: Asked) -> NDArray[np.float32]:
    """Sums over the norms of the reference's patches -> cosines, in the order the caller knows."""
    peaks = peaks.transpose(2, 3, 4, 1, 0)  # (pieces, spans, tempi, transpositions, references)
    for k, scales in enumerate(asked.scales):
        there = peaks[: len(scales), k]
        np.multiply(there, scales[:, None, :, None], out=there, where=there != _NOWHERE)
    return np.ascontiguousarray(peaks)


@njit(nogil=True, cache=True)
def _scales(energy, offsets, lengths, starts, places, places_of_two):
    """Of one piece and of two, (tempi, places) each: one over the norms of the patches where a line may begin, else 0.

    A patch is what a line meets, frames twice where it is slow: were each counted once, a single stroke in silence
    would be like everything at a slow tempo.
    """
    tempi, width = len(lengths), len(energy)
    of_one, of_two = np.zeros((tempi, width), np.float32), np.zeros((tempi, width), np.float32)
    sums = np.empty(width, np.float32)
    for r in range(len(starts)):
        for i in range(tempi):
            one, two, first = places[r, i], places_of_two[r, i], starts[r]
            if one > 0:
                sums[:one] = 0
                met = sums[:one]
                for offset in offsets[i]:
                    met += energy[first + offset : first + offset + one]
                _inverse(met, of_one[i, first : first + one])
                if two > 0:
                    _inverse(met[:two] + met[lengths[i] :][:two], of_two[i, first : first + two])
    return of_one, of_two


@njit(nogil=True, cache=True)
def _inverse(energy, out):
    """One over the root of each; quiet ones count as if they had a share of the median."""
    middle = (len(energy) - 1) // 2
    least = np.float32(_QUIET) * np.partition(energy, middle)[middle]
    out[:] = np.float32(1) / np.sqrt(np.maximum(energy, max(least, np.float32(1e-6))))


@njit(nogil=True, cache=True)
def _highest(products, offsets, lengths, starts, scales, scales_of_two, places, places_of_two, out):
    """Fill out (references, pieces, 2, tempi) from products (pieces, frames of a piece, places)."""
    pieces, frames, width = products.shape
    tempi = len(lengths)
    before, sums = np.zeros((tempi, width), np.float32), np.zeros((tempi, width), np.float32)
    room, nothing = np.empty(width, np.float32), np.zeros(width, np.float32)
    for p in range(pieces):
        for low in range(0, width, _BLOCK):
            for i in range(tempi):
                high = min(low + _BLOCK, width - offsets[i, frames - 1])
                if high > low:
                    _along(sums[i, low:high], products[p], offsets[i], low, high)
        for i in range(tempi):
            for r in range(len(starts)):
                first, one, two = starts[r], places[r, i], places_of_two[r, i]
                if one > 0:
                    out[r, p, 0, i] = _largest(sums[i, first:], nothing, scales[i, first:], room[:one])
                if p > 0 and two > 0:
                    second = sums[i, first + lengths[i] :]
                    out[r, p - 1, 1, i] = _largest(before[i, first:], second, scales_of_two[i, first:], room[:two])
        before, sums = sums, before


@njit(nogil=True, cache=True, fastmath=True)
def _along(sums, products, offsets, low, high):
    """sums = the products of all frames, each `offsets` further on; slices, so that the loop is one of vectors."""
    sums[:] = 0
    for k in range(0, len(offsets) - len(offsets) % 4, 4):
        a, b, c, d = offsets[k], offsets[k + 1], offsets[k + 2], offsets[k + 3]
        _add(
            sums,
            products[k, low + a : high + a],
            products[k + 1, low + b : high + b],
            products[k + 2, low + c : high + c],
            products[k + 3, low + d : high + d],
        )
    for k in range(len(offsets) - len(offsets) % 4, len(offsets)):
        sums += products[k, low + offsets[k] : high + offsets[k]]


@njit(nogil=True, cache=True, fastmath=True)
def _add(sums, a, b, c, d):
    for r in range(sums.size):
        sums[r] += a[r] + b[r] + c[r] + d[r]


@njit(nogil=True, cache=True, fastmath=True)
def _largest(first, second, scales, room):
    """The largest of (first + second) * scales over as many places as there is room."""
    size = room.size
    for r in range(size):
        room[r] = (first[r] + second[r]) * scales[r]
    while size > 1:  # halves are folded onto each other, which is done in vectors; a running maximum is not
        half = (size + 1) // 2
        for r in range(size - half):
            if room[half + r] > room[r]:
                room[r] = room[half + r]
        size = half
    return room[0]

"""Arrangement: an excerpt -> what sounds when: played once, looped with or without gaps, chopped and put together.

Every sounding keeps the span of the reference that it reuses: for a sample at position p of the warped excerpt that is
start + p * tempo_ratio / sample_rate, so that (query seconds) * tempo_ratio = (reference seconds) exactly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.own import effects
from evaluation.own.digging import Dug
from evaluation.own.recipe import Recipe

_GAPS = (0.5, 1.0, 2.0)  # of the length of the sample
_LONGEST_GAP = 4.0  # seconds
_CHOPS = (2, 3, 4)  # pieces
_SHORTEST_CHOP = 0.3  # seconds in the query
_MOST = 24  # soundings of a loop
_FADE = 0.005  # seconds at both ends of what sounds, against clicks


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A warped part of the excerpt, or all of it."""

    wave: NDArray[np.float32]  # (samples,) mono
    reference_span: tuple[float, float]  # seconds
    number: int  # from 1, by place in the reference


@dataclass(frozen=True, kw_only=True)
class Run:
    """Pieces and when they begin, in samples from the first one's beginning; by time, without overlap."""

    pieces: tuple[Piece, ...]
    starts: tuple[int, ...]
    tempo_ratio: float  # exactly, after rounding to samples

    @property
    def length(self) -> int:
        """Samples from the first beginning to the last end."""
        return self.starts[-1] + len(self.pieces[-1].wave)

    @property
    def chopped(self) -> bool:
        return len({piece.number for piece in self.pieces}) > 1


def arrange(dug: Dug, recipe: Recipe, *, longest: float, sample_rate: int, rng: np.random.Generator) -> Run:
    """What the recipe makes of an excerpt, at most `longest` seconds of it unless one sounding is longer."""
    wave = effects.warp(
        dug.wave,
        tempo_ratio=recipe.tempo_ratio,
        transposition=recipe.transposition,
        varispeed=recipe.varispeed,
        sample_rate=sample_rate,
    )
    ratio = len(dug.wave) / len(wave)
    limit = round(longest * sample_rate)
    wanted = min(limit, round(recipe.sounding * sample_rate))
    if recipe.arrangement == "chops":
        pieces = _chopped(wave, dug, ratio, sample_rate, rng)
    else:
        pieces = [_piece(wave, 0, len(wave), dug, ratio, sample_rate, number=1)]
    while sum(len(piece.wave) for piece in pieces) > limit:
        pieces.pop()
    gap = _gap(len(wave), sample_rate, rng) if recipe.arrangement == "gaps" else 0
    once = sum(len(piece.wave) for piece in pieces)
    count = 1 if recipe.arrangement == "once" else _repetitions(once, gap, wanted, limit, len(pieces))
    return _in_line(pieces * count, gap, ratio)


def _gap(length: int, sample_rate: int, rng: np.random.Generator) -> int:
    return min(round(float(rng.choice(_GAPS)) * length), round(_LONGEST_GAP * sample_rate))


def _repetitions(once: int, gap: int, wanted: int, limit: int, pieces: int) -> int:
    """As many as last about as long as wanted, two or more of a loop, but no longer than the limit."""
    count = min(_MOST, max(1 if pieces > 1 else 2, round((wanted + gap) / (once + gap))))
    return max(1, min(count, (limit + gap) // (once + gap)))


def _in_line(pieces: list[Piece], gap: int, ratio: float) -> Run:
    lengths = [len(piece.wave) + gap for piece in pieces]
    starts = np.cumsum([0, *lengths[:-1]])
    return Run(pieces=tuple(pieces), starts=tuple(int(start) for start in starts), tempo_ratio=ratio)


def _chopped(
    wave: NDArray[np.float32], dug: Dug, ratio: float, sample_rate: int, rng: np.random.Generator
) -> list[Piece]:
    """Two to four pieces in another order, some of them twice; what is too short to be cut stays whole."""
    shortest = round(_SHORTEST_CHOP * sample_rate)
    parts = min(int(rng.choice(_CHOPS)), len(wave) // shortest)
    onsets = np.round(dug.onsets / ratio).astype(int)
    edges = [0]
    for number in range(1, parts):
        equal = round(number * len(wave) / parts)
        low, high = edges[-1] + shortest, len(wave) - (parts - number) * shortest
        near = [int(onset) for onset in onsets if low <= onset <= high]
        edges.append(min(near, key=lambda onset: abs(onset - equal), default=min(max(equal, low), high)))
    edges.append(len(wave))
    spans = list(zip(edges, edges[1:], strict=False))
    pieces = [_piece(wave, *span, dug, ratio, sample_rate, number=i) for i, span in enumerate(spans, start=1)]
    return [pieces[place] for place in _another_order(parts, rng)]


def _another_order(parts: int, rng: np.random.Generator) -> list[int]:
    """Every part once or more, as many as three more, and not all in their old order."""
    if parts < 2:
        return [0]
    places = [*range(parts), *rng.integers(0, parts, int(rng.integers(0, 4))).tolist()]
    while True:
        order = rng.permutation(places).tolist()
        if order[:parts] != list(range(parts)):
            return order


def _piece(
    wave: NDArray[np.float32], start: int, end: int, dug: Dug, ratio: float, sample_rate: int, *, number: int
) -> Piece:
    span = (dug.start + start * ratio / sample_rate, dug.start + end * ratio / sample_rate)
    return Piece(wave=_faded(wave[start:end], sample_rate), reference_span=span, number=number)


def _faded(wave: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    count = min(round(_FADE * sample_rate), len(wave) // 2)
    ramp = np.linspace(0.0, 1.0, count, dtype=np.float32)
    faded = wave.astype(np.float32)
    faded[:count] *= ramp
    faded[len(faded) - count :] *= ramp[::-1]
    return faded

"""Correlate: features of a query and of candidate references -> which of them it samples, where, how fast, how high.

Pieces of the query, a second long, are slid over all references at every tempo ratio and transposition of a grid
(contrast features, normalised cross-correlation by Fourier transform, references laid end to end). What a piece reaches
anywhere in a reference is compared with what it reaches in all references and at all tempi and transpositions: only
the surplus over that background counts. A true reference has its surplus at one tempo and one transposition, piece
after piece; noise has it anywhere. The score is therefore the sum over pieces at the best common tempo and
transposition, and needs no threshold on single similarities. For the best references, tempo and transposition are then
measured finely and the query is shared out among lines (reference time = intercept + tempo ratio * query time).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.contrast import Contrast
from reranker.rank import Occurrence
from reranker.trace import Warp, centred, measure, occurrences, stretched

BLOCK = 1024  # frames of a Fourier transform
_AT_ONCE = 32  # pieces whose comparisons are in memory at once
_QUIET = 0.1  # of the median energy; quieter patches are compared as if they had that
_SPANS = (1, 2)  # pieces that are compared as one
_NOISE = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """What is searched, and what counts."""

    contrast: Contrast = Contrast()  # how the features were made
    tempo: tuple[float, float] = (0.7, 1.5)  # tempo ratios, query / reference
    tempo_step: float = 0.06  # of the logarithm; a ratio of 1 is always among them
    transposition: int = 5  # semitones, up and down
    piece: int = 16  # frames of the query that are compared at once
    surplus: float = 3.0  # robust standard deviations over the background from which a piece counts
    explained: int = 5  # references, best first, whose occurrences are told

    def __post_init__(self) -> None:
        low, high = self.tempo
        if not 0 < low <= 1 <= high or self.piece * high > BLOCK // 2:
            raise ValueError(f"correlation: tempo is {self.tempo}, expected (low, high) with 0 < low <= 1 <= high")
        for name, least in (
            ("tempo_step", 0.005),
            ("transposition", 0),
            ("piece", 4),
            ("surplus", 0),
            ("explained", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"correlation: {name} is {getattr(self, name)}, expected at least {least}")

    @property
    def tempi(self) -> NDArray[np.float64]:
        """The tempo ratios of the grid."""
        low, high = (np.log(ratio) / self.tempo_step for ratio in self.tempo)
        return np.exp(np.arange(np.ceil(low), np.floor(high) + 1) * self.tempo_step)

    @property
    def transpositions(self) -> NDArray[np.int64]:
        """The transpositions of the grid, in semitones."""
        return np.arange(-self.transposition, self.transposition + 1)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How a reference explains the query."""

    score: float  # surplus summed over the query's pieces, 0 or more; comparable between references of one query
    tempo_ratio: float  # query tempo / reference tempo at which it is reached
    transposition: float  # semitones by which the query is higher
    occurrences: tuple[Occurrence, ...]  # by place in the query; none where the reference is not among the best


class Correlator:
    """Explains a query by each of the references it is given."""

    def __init__(self, correlation: Correlation = Correlation()) -> None:
        self.correlation = correlation

    @torch.inference_mode()
    def __call__(self, query: NDArray[np.uint8], references: Mapping[int, NDArray[np.uint8]]) -> dict[int, Explanation]:
        """Features (frames, bins) of the query and of references by number -> explanations, best first.

        A query or a reference too short for one piece has the score 0; ties go by number.
        """
        _require_features({"query": query, **references})
        config = self.correlation
        length = int(np.ceil(config.piece * config.tempo[1]))
        kept = {number: r for number, r in sorted(references.items()) if len(r) >= length}
        evidence = {number: (0.0, Warp(tempo_ratio=1.0, transposition=0.0)) for number in references}
        if kept and len(query) >= config.piece:
            peaks = search(query, Shelf(list(kept.values()), longest=length), config)
            evidence |= dict(zip(kept, _best(surplus(peaks, config.surplus), config), strict=True))
        order = sorted(references, key=lambda number: (-evidence[number][0], number))
        return {
            number: _explain(query, references[number], *evidence[number], config, whole=place < config.explained)
            for place, number in enumerate(order)
        }


class Shelf:
    """References laid end to end, with what every comparison needs of them."""

    def __init__(self, references: list[NDArray[np.uint8]], *, longest: int) -> None:
        """`longest`: frames of the longest piece, kept silent between two references."""
        tracks = [centred(reference) for reference in references]
        self.lengths = np.array([len(track) for track in tracks])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths + longest)[:-1]])
        self.total, self.stride = int((self.lengths + longest).sum()), BLOCK - longest
        count = -(-self.total // self.stride)
        frames = torch.zeros(count * self.stride + longest, tracks[0].shape[1])
        for start, track in zip(self.starts, tracks, strict=True):
            frames[start : start + len(track)] = track
        blocks = frames.unfold(0, BLOCK, self.stride)  # (blocks, bins, BLOCK)
        self.spectra = torch.fft.rfft(blocks).permute(2, 1, 0).contiguous()  # (frequencies, bins, blocks)
        self._energy = torch.cat([torch.zeros(1), frames.square().sum(1)]).double().cumsum(0)

    def scales(self, frames: int) -> Tensor:
        """(total,) one over the norm of the patch of so many frames that begins at each frame."""
        ends = (torch.arange(self.total) + frames).clamp(max=len(self._energy) - 1)
        energy = (self._energy[ends] - self._energy[: self.total]).float().clamp(min=0)
        return _norms(energy)


def search(query: NDArray[np.uint8], shelf: Shelf, config: Correlation) -> NDArray[np.float32]:
    """(pieces, spans, tempi, transpositions, references): highest cosine anywhere; -1 where a span does not fit."""
    pieces = len(query) // config.piece
    shape = pieces, len(_SPANS), len(config.tempi), len(config.transpositions), len(shelf.lengths)
    peaks = np.full(shape, -1, np.float32)
    centre = centred(query[: pieces * config.piece])
    for i, ratio in enumerate(config.tempi):
        starts = np.round(np.arange(pieces) * config.piece * ratio).astype(int)
        cut = _pieces(stretched(centre, ratio), starts, round(config.piece * ratio))
        power = float(cut.square().sum((1, 2)).median())
        spans = [_Span(shelf, starts[:n], cut.shape[1], quietest=_QUIET * n * power) for n in _SPANS if n <= pieces]
        for first in range(0, pieces, _AT_ONCE):
            chosen = cut[first : first + _AT_ONCE + _SPANS[-1] - 1]
            spectra, energy = _conjugate_spectra(chosen), chosen.square().sum(1)
            for j, semitones in enumerate(config.transpositions):
                products, powers = _slide(spectra, energy, shelf, int(semitones))
                for k, span in enumerate(spans):
                    best = span.highest(products, powers)[:_AT_ONCE]
                    peaks[first : first + len(best), k, i, j] = best.numpy()
    return peaks


def surplus(peaks: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    """(pieces, spans, tempi, transpositions, references): robust standard deviations over the background less `least`.

    The background of a piece at one tempo is its median over transpositions and references; some references are near
    to everything, so each one's median is taken off as well. What is under it is 0.
    """
    there = np.where(peaks > -1, peaks, np.nan)
    missing = np.isnan(there).all(axis=(2, 3, 4))
    there[missing] = 0  # the last piece begins no span of two
    there = there - np.nanmedian(there, axis=(3, 4), keepdims=True)
    there -= np.nanmedian(there, axis=(0, 2, 3), keepdims=True)
    spread = np.nanmedian(np.abs(there), axis=(2, 3, 4), keepdims=True) * _NOISE
    over = np.nan_to_num(there / np.maximum(spread, 1e-3), nan=0.0) - least
    return np.maximum(over, 0, dtype=np.float32) * ~missing[:, :, None, None, None]


def _best(over: NDArray[np.float32], config: Correlation) -> list[tuple[float, Warp]]:
    """Score of each reference, and tempo and transposition at which it is reached."""
    cells = np.square(over).sum(axis=(0, 1))  # (tempi, transpositions, references)
    flat = cells.reshape(-1, cells.shape[2])
    tempi, transpositions = np.unravel_index(flat.argmax(0), cells.shape[:2])
    warps = (
        Warp(tempo_ratio=float(config.tempi[i]), transposition=float(config.transpositions[j]))
        for i, j in zip(tempi, transpositions, strict=True)
    )
    return [(float(score), warp) for score, warp in zip(flat.max(0), warps, strict=True)]


def _slide(spectra: Tensor, energy: Tensor, shelf: Shelf, semitones: int) -> tuple[Tensor, Tensor]:
    """(pieces, total) inner products of pieces with the shelf from each frame on, and (pieces,) energy that took part.

    Bin b of a query that is transposed by so many semitones is bin b - semitones of the reference.
    """
    bins = energy.shape[1]
    low, high = max(semitones, 0), min(bins + semitones, bins)
    products = torch.bmm(spectra[:, :, low:high], shelf.spectra[:, low - semitones : high - semitones])
    slid = torch.fft.irfft(products.permute(1, 2, 0), n=BLOCK)[:, :, : shelf.stride]  # (pieces, blocks, stride)
    return slid.flatten(1)[:, : shelf.total], energy[:, low:high].sum(1)


class _Span:
    """So many consecutive pieces compared as one, at one tempo."""

    def __init__(self, shelf: Shelf, offsets: NDArray[np.int64], frames: int, *, quietest: float) -> None:
        """`offsets`: reference frames from the first piece to each; `frames`: that one piece covers;

        `quietest`: energy of a run, under which it counts as that loud."""
        self.offsets, self.quietest = offsets, max(quietest, 1e-6)
        length = int(offsets[-1]) + frames
        self.scales = shelf.scales(length)
        ends = shelf.starts + np.maximum(shelf.lengths - length, 0) + 1
        self.places = list(zip(shelf.starts, ends, strict=True))

    def highest(self, products: Tensor, powers: Tensor) -> Tensor:
        """(pieces - span + 1, references) highest cosine of each run of pieces in each reference."""
        runs, reach = len(products) - len(self.offsets) + 1, products.shape[1] - int(self.offsets[-1])
        summed, energy = products[:runs, :reach], powers[:runs]
        for k, offset in enumerate(self.offsets[1:], start=1):
            summed = summed + products[k : k + runs, offset : offset + reach]
            energy = energy + powers[k : k + runs]
        cosines = summed * self.scales[:reach]
        best = [cosines[:, a:z].amax(1) for a, z in self.places]
        return torch.stack(best, dim=1) * energy.clamp(min=self.quietest).rsqrt()[:, None]


def _norms(energy: Tensor) -> Tensor:
    """One over the square root of energies; of quiet ones as if they were a tenth of the median."""
    return torch.maximum(energy, _QUIET * energy.median()).clamp(min=1e-6).rsqrt()


def _conjugate_spectra(pieces: Tensor) -> Tensor:
    """(frequencies, pieces, bins) of (pieces, length, bins); by definition: so few frames need no fast way."""
    count, length, bins = pieces.shape
    turns = torch.outer(torch.arange(BLOCK // 2 + 1), torch.arange(length)).remainder(BLOCK)
    angles = turns * (2 * torch.pi / BLOCK)
    frames = pieces.permute(1, 0, 2).reshape(length, -1)
    return torch.complex(angles.cos() @ frames, angles.sin() @ frames).reshape(-1, count, bins)


def _pieces(frames: Tensor, starts: NDArray[np.int64], length: int) -> Tensor:
    """(pieces, length, bins); what reaches beyond the end is silent."""
    padded = torch.nn.functional.pad(frames, (0, 0, 0, length))
    return torch.stack([padded[start : start + length] for start in starts])


def _explain(
    query: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    score: float,
    warp: Warp,
    config: Correlation,
    *,
    whole: bool,
) -> Explanation:
    found: tuple[Occurrence, ...] = ()
    if whole and score > 0:
        warp = measure(query, reference, warp, piece=config.piece, tempo_step=config.tempo_step)
        found = occurrences(query, reference, warp, piece=config.piece, seconds=config.contrast.seconds)
    return Explanation(score=score, tempo_ratio=warp.tempo_ratio, transposition=warp.transposition, occurrences=found)


def _require_features(tracks: Mapping[object, NDArray[np.uint8]]) -> None:
    bins = {t.shape[1] if t.ndim == 2 else None for t in tracks.values()}
    if len(bins) != 1 or None in bins or any(t.dtype != np.uint8 for t in tracks.values()):
        raise ValueError(
            f"features of {', '.join(sorted({f'{t.dtype}{list(t.shape)}' for t in tracks.values()}))}, expected uint8 "
            "(frames, bins) with as many bins each; make them all by encoder.contrast.features"
        )

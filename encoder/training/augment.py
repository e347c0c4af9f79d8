"""Augmentation on the device: waveforms of a batch of pairs -> spectra of both views, one after the other mix.

aug2 of NeuralSampleID, pitch and tempo together, is read off the spectrum (FrontEnd.warped). A batch that is mixed once
is mixed as waveforms, exactly as the paper says, and costs two Fourier transforms a pair. One that is mixed several
times costs three, whatever the number of mixes: sample and interference are transformed apart and mixed as
magnitudes (encoder/training/mixing.py). Colour is added where it is a sum: in decibels.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from encoder.segments import SegmentGrid
from encoder.spectrogram import FrontEnd
from encoder.training import effects, mixing
from encoder.training.mixing import Mix, Spectra
from encoder.training.pairs import PairBatch

_PORTION = 4  # pairs whose windows are in memory at once: few enough to stay in the processor's cache
_PORTION_ON_GPU = 64


class Views(NamedTuple):
    """Spectra of both sides of a batch of pairs, and what they show."""

    references: Tensor  # (pairs, bins, frames)
    queries: Tensor  # (pairs, bins, frames)
    tracks: Tensor  # (pairs,)
    moments: Tensor | None = None  # (pairs,) None is one moment a track
    covers: Tensor | None = None  # (pairs, interferers) tracks that lie over the queries, -1 for none


@torch.no_grad()
def views(batch: PairBatch, front_end: FrontEnd, grid: SegmentGrid) -> Views:
    """Spectra of both views of the first mix, mixed as waveforms, on the front end's device."""
    mix = batch.mixes[0]

    def mixture(part: slice) -> tuple[Tensor, ...]:
        device = _device(front_end)
        gain, factor = (torch.from_numpy(x[part]).to(device).unsqueeze(1) for x in (mix.gain, mix.factor[0]))
        covered = (
            _sample(batch, part, front_end) * 10 ** (gain / 20) + _there(batch.interferences, part, device) * factor
        )
        return _reference(batch, part, front_end, grid), _warped(covered, batch, part, front_end, grid)

    spectra = _in_portions(mixture, len(batch.tracks), _device(front_end))
    coloured = (
        x + mixing.curve(torch.from_numpy(c).to(x.device), x.shape[1])
        for x, c in zip(spectra, mix.colour[:2], strict=True)
    )
    return _finished(*coloured, batch, mix, front_end)


def every(batch: PairBatch, front_end: FrontEnd, grid: SegmentGrid, *, part: slice = slice(None)) -> Iterator[Views]:
    """Views of one mix after the other, or of a part of the mixes."""
    if len(batch.mixes) == 1:
        yield from [views(batch, front_end, grid)][part]
        return
    spectra = apart(batch, front_end, grid)
    for mix in batch.mixes[part]:
        with torch.no_grad():
            pair = mixing.mixed(spectra, mix, floor=_floor(front_end))
            made = _finished(*pair, batch, mix, front_end)
        yield made


@torch.no_grad()
def apart(batch: PairBatch, front_end: FrontEnd, grid: SegmentGrid) -> Spectra:
    """Spectra of references in dB, of samples and interferences as power, the latter two warped."""

    def sides(part: slice) -> tuple[Tensor, ...]:
        cover = _there(batch.interferences, part, _device(front_end))
        warped = (_warped(x, batch, part, front_end, grid) for x in (_sample(batch, part, front_end), cover))
        return _reference(batch, part, front_end, grid), *(10 ** (x / 10) for x in warped)

    return Spectra(*_in_portions(sides, len(batch.tracks), _device(front_end)))


def _in_portions(make: Callable[[slice], tuple[Tensor, ...]], pairs: int, device: torch.device) -> Iterator[Tensor]:
    size = _PORTION if device.type == "cpu" else _PORTION_ON_GPU
    parts = [make(slice(start, start + size)) for start in range(0, pairs, size)]
    return map(torch.cat, zip(*parts, strict=True))


def _reference(batch: PairBatch, part: slice, front_end: FrontEnd, grid: SegmentGrid) -> Tensor:
    waveforms = _there(batch.references, part, _device(front_end))
    if batch.replayed is None:
        return front_end(waveforms)
    tempo, transposition = (_there(x, part, waveforms.device) for x in batch.replayed)
    return front_end.warped(waveforms, tempo=tempo, transposition=transposition, frames=grid.frames)


def _sample(batch: PairBatch, part: slice, front_end: FrontEnd) -> Tensor:
    """Waveforms of the samples with their effects."""
    samples = _there(batch.samples, part, _device(front_end))
    if batch.responses is not None:
        samples = effects.in_room(samples, _there(batch.responses, part, samples.device))
    samples = samples[:, batch.lead :]
    chosen = effects.Effects(*(x[part] for x in batch.effects))
    return effects.applied(samples, chosen, sample_rate=front_end.sample_rate)


def _warped(waveforms: Tensor, batch: PairBatch, part: slice, front_end: FrontEnd, grid: SegmentGrid) -> Tensor:
    tempo, transposition = (_there(x, part, waveforms.device) for x in (batch.tempo, batch.transposition))
    return front_end.warped(waveforms, tempo=tempo, transposition=transposition, frames=grid.frames)


def _finished(references: Tensor, queries: Tensor, batch: PairBatch, mix: Mix, front_end: FrontEnd) -> Views:
    """Both views band-limited, and what they show."""
    shown = [torch.from_numpy(x).to(references.device) for x in (batch.tracks, batch.moments, mix.covers)]
    if not np.isfinite(mix.limits).any():
        return Views(references, queries, *shown)
    centres = front_end.config.centres().to(references)
    limited = (
        mixing.limited(x, limits, centres, floor=_floor(front_end))
        for x, limits in zip((references, queries), mix.limits)
    )
    return Views(*limited, *shown)


def _floor(front_end: FrontEnd) -> float:
    """The least a cell of a spectrum can be, dB."""
    return float(20 / front_end.config.power * torch.tensor(front_end.config.floor).log10())


def _device(front_end: nn.Module) -> torch.device:
    return next(front_end.buffers()).device


def _there(array, part: slice, device: torch.device) -> Tensor:
    return torch.from_numpy(array[part]).to(device, non_blocking=True)

"""Contrast: a track's log-frequency spectrum -> what stands out of its surroundings, small enough to be kept whole.

A sample under other music is heard where it stands out: partials and onsets that are louder than what is near them in
time and frequency. Decibels less their local mean over their local deviation, negative values dropped, do not depend on
level and hardly on the equaliser; a transposition is a shift by one bin a semitone, a change of tempo a stretch. One
byte a value, 85 semitones every 64 ms: 680 bytes per half second, 140 kB for a track of 105 s.
`reranker.correlate` looks for a query's features in those of references.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool1d

SCALE = 64.0  # uint8 steps per local standard deviation; 1 value in 1,000 lies beyond 255


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How features are made of a front end's spectrum."""

    depth: float = 60.0  # dB below the loudest value of the track at which it counts as silent
    even: float = 3.0  # dB added to the local deviation, so that noise and silence do not stand out
    bins: int = 15  # of the local mean, of the spectrum's 18 an octave: 10 semitones
    frames: int = 15  # of the local mean, of 32 ms: 0.48 s
    pool: int = 2  # frames that become one
    bins_per_octave: int = 18  # of the spectrum
    frame: float = 0.032  # seconds from one frame of the spectrum to the next

    def __post_init__(self) -> None:
        for name in ("bins", "frames"):
            if (size := getattr(self, name)) < 1 or size % 2 == 0:
                raise ValueError(f"contrast: {name} is {size}, expected an odd positive number, as the mean is centred")
        for name in ("depth", "even", "pool", "bins_per_octave", "frame"):
            if getattr(self, name) <= 0:
                raise ValueError(f"contrast: {name} is {getattr(self, name)}, expected more than 0")

    @property
    def seconds(self) -> float:
        """From one frame of features to the next."""
        return self.frame * self.pool


def features(spectrum: Tensor, contrast: Contrast = Contrast()) -> NDArray[np.uint8]:
    """(bins, frames) in dB -> (frames // pool, semitones): 64 times the local standard deviations above the local mean.

    Bin ``s`` is the semitone ``s`` above the spectrum's lowest bin. Silence, and whatever is even, gives zeros; a
    spectrum shorter than one pool gives no frames.
    """
    if spectrum.ndim != 2 or not len(spectrum):
        raise ValueError(f"spectrum of shape {tuple(spectrum.shape)}, expected (bins, frames)")
    semitones = to_semitones(len(spectrum), contrast.bins_per_octave).to(spectrum.device)
    if spectrum.shape[1] < contrast.pool:
        return np.zeros((0, len(semitones)), np.uint8)
    pooled = avg_pool1d(semitones @ signed(spectrum[None], contrast)[0].clamp(min=0), contrast.pool)
    return as_bytes(pooled * SCALE)


def signed(spectra: Tensor, contrast: Contrast) -> Tensor:
    """(batch, bins, frames) in dB -> same shape: decibels less their local mean over their local deviation."""
    audible = torch.maximum(spectra.float(), spectra.amax((1, 2), keepdim=True) - contrast.depth)
    centred = audible - audible.mean((1, 2), keepdim=True)  # else the difference of two large squares is inexact
    mean = _local(centred, contrast)
    deviation = (_local(centred.square(), contrast) - mean.square()).clamp(min=0).sqrt()
    return (centred - mean) / (deviation + contrast.even)


def as_bytes(values: Tensor) -> NDArray[np.uint8]:
    """(semitones, frames) of 0 or more -> (frames, semitones), rounded; what is beyond 255 is 255."""
    return values.round().clamp(max=255).to(torch.uint8).T.contiguous().cpu().numpy()


def _local(x: Tensor, contrast: Contrast) -> Tensor:
    """(batch, bins, frames) mean around each value."""
    return _mean(_mean(x, contrast.frames).mT, contrast.bins).mT


def _mean(x: Tensor, size: int) -> Tensor:
    """Mean of the `size` values around each one of a row; of those that exist at the ends."""
    return avg_pool1d(x, size, 1, size // 2, count_include_pad=False)


def to_semitones(bins: int, per_octave: int) -> Tensor:
    """(semitones, bins): a triangle a semitone wide on either side around each semitone, of sum 1."""
    wide = per_octave / 12  # bins per semitone
    centres = torch.arange(int((bins - 1) / wide) + 1) * wide
    weights = (1 - (torch.arange(bins) - centres[:, None]).abs() / wide).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)

"""Features of one sound: waveform (batch, samples) -> (batch, bins, 1), one column for the whole of it.

    mfcc         mel-frequency cepstral coefficients, librosa's defaults, their mean over time
    scattering   time scattering of orders 1 and 2 (kymatio), its mean over time, on a logarithmic scale
    openl3       a learned embedding; only where the package openl3 with its weights is installed

A sound is scaled to a peak of 1 first. What is shorter than the window is filled with zeros at its end; in the mean of
MFCCs the frames of that silence do not count, so that a short hit is described by itself and not by how short it is.
Segments are cut before they are analysed (encoder/segments.py: shingled).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder import audio
from encoder.limits import Limits
from encoder.segments import SegmentGrid

Feature = Literal["mfcc", "scattering", "openl3"]
_N_FFT, _HOP, _MELS = 2048, 512, 128  # librosa's defaults
_FLOOR, _RANGE = 1e-10, 80.0  # smallest power; dB under the loudest that are kept
_OCTAVES, _WAVELETS = 8, 12  # of the scattering transform: J and Q
_OPENL3 = 512  # dimensions


@dataclass(frozen=True, kw_only=True)
class SoundFeatures:
    """Which features, and how many."""

    feature: Feature = "mfcc"
    coefficients: int = 40  # of the MFCC
    deviation: bool = False  # whether the standard deviation over time stands beside the mean; MFCC only
    n_fft: int = 1  # a segment is analysed without what lies around it (encoder/segments.py: shingled)

    def __post_init__(self) -> None:
        if self.feature not in get_args(Feature):
            raise ValueError(
                f"sound features: feature is {self.feature!r}, expected one of {', '.join(get_args(Feature))}"
            )
        if not 1 <= self.coefficients <= _MELS:
            raise ValueError(f"sound features: coefficients is {self.coefficients}, expected 1 to {_MELS}")
        if self.deviation and self.feature != "mfcc":
            raise ValueError(f"sound features: deviation with {self.feature}, expected it with mfcc only")

    @property
    def bins(self) -> int:
        """How many features a sound has."""
        if self.feature == "mfcc":
            return self.coefficients * (2 if self.deviation else 1)
        return _OPENL3 if self.feature == "openl3" else _scattering_paths()

    def build(self, *, sample_rate: int, frame_hop: int) -> nn.Module:
        """The front end as a module; ValueError where what it needs is not installed."""
        return {"mfcc": Cepstrum, "scattering": Scattering, "openl3": OpenL3}[self.feature](
            self, sample_rate=sample_rate
        )


class Cepstrum(nn.Module):
    """Mean of the MFCCs over the frames that hold the sound, and their deviation where that is asked for."""

    def __init__(self, config: SoundFeatures, *, sample_rate: int) -> None:
        super().__init__()
        from librosa import filters  # takes a second, and no other system needs it

        self.config = config
        bank = filters.mel(sr=sample_rate, n_fft=_N_FFT, n_mels=_MELS)
        self.register_buffer("bank", torch.from_numpy(bank).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(_N_FFT), persistent=False)
        self.register_buffer("cosines", _cosines(config.coefficients, _MELS), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        sound = to_peak(samples)
        coefficients = self.coefficients(sound)  # (batch, coefficients, frames)
        counted = _held(sound, coefficients.shape[2]).unsqueeze(1)  # (batch, 1, frames)
        frames = counted.sum(dim=2)
        mean = (coefficients * counted).sum(dim=2) / frames
        if not self.config.deviation:
            return mean.unsqueeze(2)
        variance = ((coefficients - mean.unsqueeze(2)).square() * counted).sum(dim=2) / frames
        return torch.cat([mean, variance.sqrt()], dim=1).unsqueeze(2)

    def coefficients(self, sound: Tensor) -> Tensor:
        """MFCCs (batch, coefficients, frames) of (batch, samples)."""
        how = dict(hop_length=_HOP, window=self.window, center=True, pad_mode="constant", return_complex=True)
        power = torch.stft(sound, _N_FFT, **how).abs().square()  # (batch, frequencies, frames)
        decibels = 10 * (self.bank @ power).clamp(min=_FLOOR).log10()
        return self.cosines @ torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - _RANGE)


class Scattering(nn.Module):
    """Mean of the scattering coefficients of orders 1 and 2 over time, log(1 + S / (0.001 mean S)) of each sound.

    The published scale has the mean over all sounds where this has the mean over the sound's own coefficients: a
    sound's features do not hang on which others are there.
    """

    def __init__(self, config: SoundFeatures, *, sample_rate: int) -> None:
        super().__init__()
        self.config, self._transform = config, _scattering()
        self._made: dict[int, nn.Module] = {}

    def forward(self, samples: Tensor) -> Tensor:
        length = samples.shape[1]
        if length not in self._made:
            self._made[length] = self._transform(J=_OCTAVES, Q=_WAVELETS, shape=length, T=2**_OCTAVES).to(samples)
        means = self._made[length](to_peak(samples))[:, 1:].mean(dim=2)  # without order 0
        return torch.log1p(means / (1e-3 * means.mean(dim=1, keepdim=True)).clamp(min=_FLOOR)).unsqueeze(2)


class OpenL3(nn.Module):
    """Mean over time of OpenL3 embeddings: music, 256 mel bins, 512 dimensions (Cramer et al., ICASSP 2019)."""

    def __init__(self, config: SoundFeatures, *, sample_rate: int) -> None:
        super().__init__()
        self.config, self.sample_rate = config, sample_rate
        self._openl3 = _openl3()
        self._model = self._openl3.models.load_audio_embedding_model("mel256", "music", _OPENL3)

    def forward(self, samples: Tensor) -> Tensor:
        sounds = [one.cpu().numpy() for one in to_peak(samples)]
        how = dict(model=self._model, hop_size=0.1, center=True, verbose=0)
        embeddings, _ = self._openl3.get_audio_embedding(sounds, self.sample_rate, **how)
        means = np.stack([one.mean(axis=0) for one in embeddings]).astype(np.float32)
        return torch.from_numpy(means).to(samples.device).unsqueeze(2)


def first_window(path: Path, grid: SegmentGrid, *, limits: Limits) -> NDArray[np.float32]:
    """The first segment of a file, filled with zeros; AudioError where it cannot be read or is silent."""
    length, heard = grid.window(1, 0), np.zeros(0, np.float32)
    for chunk in audio.stream(path, sample_rate=grid.sample_rate, limits=limits):
        heard = np.concatenate([heard, chunk])[:length]
        if len(heard) == length:
            break
    if not heard.any():
        raise audio.AudioError(path, f"is silent in its first {grid.duration:.3g} s, expected a sound; cut it")
    return np.pad(heard, (0, length - len(heard)))


def to_peak(samples: Tensor) -> Tensor:
    """(batch, samples), each scaled to a peak of 1; silence stays silence."""
    return samples / samples.abs().amax(dim=1, keepdim=True).clamp(min=_FLOOR)


def _held(sound: Tensor, frames: int) -> Tensor:
    """(batch, frames), 1 where a frame's middle does not lie behind the end of what is not 0."""
    place = torch.arange(sound.shape[1], device=sound.device)
    length = torch.where(sound != 0, place + 1, 0).amax(dim=1)
    return (torch.arange(frames, device=sound.device) * _HOP <= length.unsqueeze(1)).to(sound.dtype)


def _cosines(coefficients: int, bands: int) -> Tensor:
    """The orthonormal discrete cosine transform (type II), (coefficients, bands)."""
    order, band = torch.arange(coefficients).double().unsqueeze(1), torch.arange(bands).double()
    basis = torch.cos(torch.pi / bands * (band + 0.5) * order) * (2 / bands) ** 0.5
    basis[0] /= 2**0.5
    return basis.float()


def _scattering() -> type[nn.Module]:
    try:
        # kymatio.torch itself also imports three-dimensional scattering, which fails beside scipy 1.17.
        from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D
    except ImportError as error:
        raise ValueError("scattering features need kymatio; pip install 'asid[sounds]', or use mfcc") from error
    return ScatteringTorch1D


def _scattering_paths() -> int:
    """Coefficients of orders 1 and 2."""
    return int(np.sum(_scattering()(J=_OCTAVES, Q=_WAVELETS, shape=2**14, T=2**_OCTAVES).output_size()) - 1)


def _openl3():
    try:
        import openl3
    except ImportError as error:
        raise ValueError("openl3 features need the package openl3 and its weights, not here; use mfcc") from error
    return openl3

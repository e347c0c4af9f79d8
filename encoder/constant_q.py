"""Constant-Q: waveform (batch, samples) -> magnitudes (batch, bins, frames), the front end of CLEWS and ResNet-IBN.

Each bin is the inner product of the signal with a windowed complex tone of its own length, so that every bin spans the
same number of periods (Brown and Puckette 1992), computed in the time domain. Numerically nnAudio's ``CQT1992v2`` with
its defaults: Hann window, kernels of unit L1 norm, magnitudes times the square root of the kernel's length. No
logarithm. Frames may be averaged in groups of `pool`; the frame hop of the grid is that of the averaged frames.

Kernels halve from octave to octave, so the bins of each octave are multiplied with windows just as wide as they need:
the same result for a seventh of the products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 8  # kernels per semitone kept for transposition
_ROWS = 512  # windows in memory at a time, up to 64 KiB each


@dataclass(frozen=True, kw_only=True)
class ConstantQ:
    """Seven octaves of semitones from C1, as CLEWS and ResNet-IBN have it (nnAudio's defaults)."""

    n_fft: int = 16_384  # samples of the widest analysis window
    bins: int = 84
    f_min: float = 32.70  # Hz
    bins_per_octave: int = 12
    pool: int = 1  # frames averaged into one

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"constant-Q: {name} is {value}, expected more than 0")

    def frequencies(self) -> np.ndarray:
        """Centre of each bin in Hz, (bins,)."""
        return self.f_min * 2.0 ** (np.arange(self.bins) / self.bins_per_octave)

    def build(self, *, sample_rate: int, frame_hop: int) -> "ConstantQFrontEnd":
        """The front end as a module; ValueError where the grid or the frequencies do not fit."""
        return ConstantQFrontEnd(self, sample_rate=sample_rate, frame_hop=frame_hop)


class ConstantQFrontEnd(nn.Module):
    """Inner products with complex tones, magnitudes, averages over `pool` frames."""

    def __init__(self, config: ConstantQ, *, sample_rate: int, frame_hop: int) -> None:
        super().__init__()
        if frame_hop % config.pool:
            raise ValueError(
                f"constant-Q: frame_hop is {frame_hop}, expected a multiple of pool ({config.pool}), which averages it"
            )
        highest = config.frequencies()[-1]
        if highest > sample_rate / 2:
            raise ValueError(
                f"constant-Q: the highest bin is at {highest:.0f} Hz, expected at most half of {sample_rate} Hz; "
                "use fewer bins"
            )
        self.config, self.sample_rate, self.frame_hop = config, sample_rate, frame_hop
        longest = self.lengths()[0]
        if longest > config.n_fft:
            raise ValueError(
                f"constant-Q: the lowest bin needs {longest:.0f} samples, expected at most n_fft ({config.n_fft})"
            )
        self._kernels: dict[tuple[int, torch.device], list[Tensor]] = {}
        self.register_buffer("place", torch.zeros(()), persistent=False)  # where the kernels have to be

    def forward(self, padded: Tensor) -> Tensor:
        """(batch, samples), already padded by n_fft // 2 at the ends -> (batch, bins, frames).

        A last group of fewer than `pool` frames is dropped.
        """
        windows = padded.unfold(-1, self.config.n_fft, self.frame_hop // self.config.pool)  # (batch, frames, n_fft)
        return self._pooled(self._magnitudes(lambda part: windows[..., part], self._transposed(0)))

    def warped(self, samples: Tensor, *, tempo: Tensor, transposition: Tensor, frames: int) -> Tensor:
        """(batch, samples) played `tempo` times as fast and `transposition` semitones higher -> (batch, bins, frames).

        Needs ``(frames * pool - 1) * frame_hop / pool * tempo + n_fft`` samples an item. Transpositions are rounded
        to an eighth of a semitone; kernels that they lengthen beyond n_fft are cut to it.
        """
        pool, last = self.config.pool, samples.shape[1] - self.config.n_fft
        spacing = self.frame_hop / pool * tempo
        starts = torch.arange(frames * pool, device=samples.device) * spacing.unsqueeze(1)
        starts = starts.round().long()  # (batch, frames * pool)
        if starts.max() > last:
            raise ValueError(f"warped needs {int(starts.max()) + self.config.n_fft} samples, got {samples.shape[1]}")
        items = []
        for item, at, up in zip(samples, starts, transposition, strict=True):

            def windows(part: slice, item: Tensor = item, at: Tensor = at) -> Tensor:
                return item.unfold(0, part.stop - part.start, 1)[at + part.start].unsqueeze(0)

            items.append(self._magnitudes(windows, self._transposed(round(float(up) * _STEPS))))
        return self._pooled(torch.cat(items))

    def lengths(self, transposition: float = 0.0) -> np.ndarray:
        """Samples of each bin's kernel, (bins,), reading a signal as if it were that many semitones higher."""
        quality = 1 / (2 ** (1 / self.config.bins_per_octave) - 1)
        return np.ceil(quality * self.sample_rate / self._read(transposition))

    def kernels(self, transposition: float = 0.0) -> np.ndarray:
        """Complex kernels (bins, n_fft), L1 norm times the square root of the length as nnAudio has it."""
        kernels = np.zeros((self.config.bins, self.config.n_fft), np.complex128)
        centre = self.config.n_fft // 2
        lengths = np.minimum(self.lengths(transposition), self.config.n_fft)
        for kernel, frequency, length in zip(kernels, self._read(transposition), lengths.astype(int), strict=True):
            time = np.arange(length) - (length + 1) // 2  # an odd kernel has the extra sample before its centre
            hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
            tone = hann * np.exp(2j * np.pi * frequency / self.sample_rate * time)
            kernel[centre + time] = tone / np.abs(tone).sum() * np.sqrt(length)
        return kernels

    def _read(self, transposition: float) -> np.ndarray:
        return self.config.frequencies() * 2.0 ** (-transposition / 12)

    def _transposed(self, step: int) -> list[Tensor]:
        """Kernels of each octave, (width, 2 * bins) with cosines before sines, centred in their windows."""
        key = (step, self.place.device)
        if key not in self._kernels:
            whole, lengths = self.kernels(step / _STEPS), self.lengths(step / _STEPS)
            self._kernels[key] = [
                self._octave(whole[first : first + self.config.bins_per_octave], int(lengths[first]))
                for first in range(0, self.config.bins, self.config.bins_per_octave)
            ]
        return self._kernels[key]

    def _octave(self, kernels: np.ndarray, longest: int) -> Tensor:
        half = min((longest + 1) // 2, self.config.n_fft // 2)
        centre = self.config.n_fft // 2
        part = kernels[:, centre - half : centre + half]
        return torch.from_numpy(np.concatenate([part.real, part.imag]).T.copy()).to(self.place)

    def _magnitudes(self, windows: Callable[[slice], Tensor], octaves: list[Tensor]) -> Tensor:
        """Magnitudes (batch, frames, bins); `windows` gives a part of all windows, (batch, frames, width)."""
        centre, parts = self.config.n_fft // 2, []
        for kernels in octaves:
            narrow = windows(slice(centre - len(kernels) // 2, centre + len(kernels) // 2))
            portions = narrow.split(max(1, _ROWS // len(narrow)), dim=1)
            products = torch.cat([rows @ kernels for rows in portions], dim=1)
            cosine, sine = products.chunk(2, dim=-1)
            parts.append((cosine.square() + sine.square()).sqrt())
        return torch.cat(parts, dim=-1)

    def _pooled(self, magnitudes: Tensor) -> Tensor:
        """(batch, frames, bins) -> (batch, bins, frames / pool)."""
        pool = self.config.pool
        whole = magnitudes.shape[1] // pool * pool
        return magnitudes[:, :whole].unflatten(1, (-1, pool)).mean(dim=2).transpose(1, 2)

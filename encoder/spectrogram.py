"""Spectrogram: waveform (batch, samples) -> (batch, bins, frames), log-mel or log-frequency, as torch modules.

Both are a short-time Fourier transform, a bank of triangular filters and a logarithm; they differ in where the
filters stand. LogMel is the published front end (torchaudio's defaults: HTK mel scale, power, 10 log10). LogFrequency
places filters evenly on a logarithmic axis, where a transposition is a shift.

`warped` gives the spectrogram the same audio would have after a change of tempo and pitch: time is warped by spacing
the analysis windows `frame_hop * tempo` apart, pitch by moving the filters. No interpolation, no vocoder, batched on
any device; used by training and by query variants.

Long windows tell notes apart and blur strokes. LogFrequency may therefore have `short` windows as well, two in each
frame; their bands are further rows under the bins, so that a segment is still a window of one spectrum.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

_STEPS = 8  # filter banks per semitone kept for transposition


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """The published front end (NeuralSampleID): 64 mel bins of power in dB."""

    n_fft: int = 1024
    bins: int = 64
    f_min: float = 0.0  # Hz
    f_max: float = 8000.0  # Hz
    power: float = 2.0
    floor: float = 1e-10  # smallest power before the logarithm

    def centres(self) -> Tensor:
        """Hz, of each row."""
        return self.points()[1:-1]

    def points(self) -> Tensor:
        """Filter edges and centres in Hz, (bins + 2,), even on the HTK mel scale."""
        low, high = (
            2595.0 * torch.log10(1 + torch.tensor(f, dtype=torch.float64) / 700) for f in (self.f_min, self.f_max)
        )
        mel = torch.linspace(low.item(), high.item(), self.bins + 2, dtype=torch.float64)
        return 700.0 * (10 ** (mel / 2595.0) - 1)

    def build(self, *, sample_rate: int, frame_hop: int) -> "FrontEnd":
        """The front end as a module."""
        return FrontEnd(self, sample_rate=sample_rate, frame_hop=frame_hop)


@dataclass(frozen=True, kw_only=True)
class LogFrequency:
    """Filters even in log-frequency: 7 octaves of 18 bins from 55 Hz, magnitude in dB."""

    n_fft: int = 2048
    bins: int = 128
    f_min: float = 55.0  # Hz
    bins_per_octave: int = 18
    power: float = 1.0
    floor: float = 1e-5  # smallest magnitude before the logarithm
    short: Self | None = None  # of two shorter windows in each frame, a quarter before and after its middle

    def __post_init__(self) -> None:
        if self.short is not None and self.short.n_fft * 2 > self.n_fft:
            raise ValueError(
                f"log-frequency: short windows of {self.short.n_fft} samples, expected at most half of {self.n_fft}"
            )

    @property
    def rows(self) -> int:
        """Of a spectrum: the bins, and under them each band of the short windows, the earlier one first."""
        return self.bins + (2 * self.short.bins if self.short else 0)

    def centres(self) -> Tensor:
        """Hz, of each row."""
        own = self.points()[1:-1]
        return torch.cat([own, self.short.centres().repeat_interleave(2)]) if self.short else own

    def points(self) -> Tensor:
        """Filter edges and centres in Hz, (bins + 2,)."""
        return self.f_min * 2.0 ** (torch.arange(-1, self.bins + 1, dtype=torch.float64) / self.bins_per_octave)

    def build(self, *, sample_rate: int, frame_hop: int) -> "FrontEnd":
        """The front end as a module."""
        return FrontEnd(self, sample_rate=sample_rate, frame_hop=frame_hop)


class FrontEnd(nn.Module):
    """Short-time Fourier transform, triangular filters, decibels."""

    def __init__(self, config: LogMel | LogFrequency, *, sample_rate: int = 16_000, frame_hop: int = 512) -> None:
        super().__init__()
        self.config, self.sample_rate, self.frame_hop = config, sample_rate, frame_hop
        self.register_buffer("analysis", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("bank", self.filters().float(), persistent=False)
        self._banks: dict[tuple[int, torch.device], Tensor] = {}
        short = getattr(config, "short", None)
        self.short = short.build(sample_rate=sample_rate, frame_hop=frame_hop // 2) if short else None

    def forward(self, padded: Tensor) -> Tensor:
        """(batch, samples), already padded by n_fft // 2 at the ends -> (batch, rows, frames)."""
        windows = padded.unfold(-1, self.config.n_fft, self.frame_hop)
        return self._with_short(self._decibels(windows, self.bank), windows)

    def warped(self, samples: Tensor, *, tempo: Tensor, transposition: Tensor, frames: int) -> Tensor:
        """(batch, samples) played `tempo` times as fast and `transposition` semitones higher -> (batch, rows, frames).

        Needs ``(frames - 1) * frame_hop * tempo + n_fft`` samples an item. Transpositions are rounded to an eighth
        of a semitone.
        """
        last = samples.shape[1] - self.config.n_fft
        starts = torch.arange(frames, device=samples.device) * (self.frame_hop * tempo).unsqueeze(1)
        starts = starts.round().long()  # (batch, frames)
        if starts.max() > last:
            raise ValueError(f"warped needs {int(starts.max()) + self.config.n_fft} samples, got {samples.shape[1]}")
        index = starts + torch.arange(len(samples), device=samples.device).unsqueeze(1) * samples.shape[1]
        windows = samples.reshape(-1).unfold(0, self.config.n_fft, 1)[index]  # (batch, frames, n_fft)
        found = self._decibels(windows, self._at(transposition))
        return self._with_short(found, windows, tempo=tempo, transposition=transposition)

    def _with_short(
        self, bins: Tensor, windows: Tensor, *, tempo: Tensor | None = None, transposition: Tensor | None = None
    ) -> Tensor:
        """The bins, and under them the bands of the short windows within each of the windows."""
        if self.short is None:
            return bins
        quarter, length = self.frame_hop / 4, self.short.config.n_fft
        middle, items = (self.config.n_fft - length) // 2, torch.arange(len(windows), device=windows.device)
        steps = (quarter * (torch.ones(len(windows), device=windows.device) if tempo is None else tempo)).round().long()
        bank = self.short.bank if transposition is None else self.short._at(transposition)
        cut = windows.unfold(-1, length, 1)  # (batch, frames, places, length)
        pair = [self.short._decibels(cut[items, :, middle + step], bank) for step in (-steps, steps)]
        return torch.cat([bins, torch.stack(pair, dim=2).flatten(1, 2)], dim=1)

    def filters(self, transposition: float = 0.0) -> Tensor:
        """Filter bank (bins, n_fft // 2 + 1) reading a spectrum as if it were that many semitones higher."""
        c = self.config
        frequencies = torch.linspace(0, self.sample_rate / 2, c.n_fft // 2 + 1, dtype=torch.float64)
        frequencies = frequencies * 2.0 ** (transposition / 12)
        points = c.points()
        left, centre, right = points[:-2], points[1:-1], points[2:]
        if isinstance(c, LogFrequency):
            # Low filters are narrower than a Fourier bin: widened to one bin, they interpolate between two.
            width = self.sample_rate / c.n_fft * 2.0 ** (transposition / 12)
            left, right = torch.minimum(left, centre - width), torch.maximum(right, centre + width)
        up = (frequencies - left.unsqueeze(1)) / (centre - left).unsqueeze(1)
        down = (right.unsqueeze(1) - frequencies) / (right - centre).unsqueeze(1)
        bank = torch.minimum(up, down).clamp(min=0)
        if isinstance(c, LogFrequency):
            bank = bank / bank.sum(dim=1, keepdim=True).clamp(min=1e-9)
        return bank

    def _decibels(self, windows: Tensor, bank: Tensor) -> Tensor:
        transform = torch.fft.rfft(windows * self.analysis)  # (batch, frames, frequencies)
        spectrum = transform.real.square() + transform.imag.square()  # abs() takes care of overflow, and its time
        if self.config.power != 2:
            spectrum = spectrum.pow_(self.config.power / 2)
        bands = bank @ spectrum.transpose(1, 2)  # (batch, bins, frames)
        return 20 / self.config.power * bands.clamp(min=self.config.floor).log10()

    def _at(self, transposition: Tensor) -> Tensor:
        """(batch, bins, frequencies) the filters of each item."""
        return torch.stack([self._transposed(round(float(t) * _STEPS)) for t in transposition])

    def _transposed(self, step: int) -> Tensor:
        key = (step, self.bank.device)
        if key not in self._banks:
            self._banks[key] = self.filters(step / _STEPS).to(self.bank)
        return self._banks[key]

"""Contrast network: a few convolutions that learn which of what stands out will be recognised under other music.

Input is the contrast of encoder/contrast.py, with its sign; output the same kind of features, semitones by frames, of 0
or more. Nothing is pooled over time or frequency, so the features of a transposed and faster sample remain those of the
original, shifted and stretched, and `reranker.correlate` looks for them as for any contrast. Untrained, the network
gives the plain contrast. Trained by encoder/training/contrast.py.
"""

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

from encoder.contrast import SCALE, Contrast, as_bytes, signed, to_semitones


@dataclass(frozen=True, kw_only=True)
class LearnedContrast:
    """Sizes of the network; 16 channels and four blocks are 16,000 parameters, six that know of strokes 26,000."""

    channels: int = 16
    dilations: tuple[tuple[int, int], ...] = ((1, 1), (6, 1), (1, 2), (3, 1))  # semitones, frames of each block
    strokes: bool = False  # whether it sees the front end's short windows too, in which these are sharp

    def __post_init__(self) -> None:
        if self.channels < 1 or not self.dilations:
            raise ValueError(
                f"learned contrast: {self.channels} channels in {len(self.dilations)} blocks, expected 1 or more"
            )


class ContrastNetwork(nn.Module):
    """Spectra -> contrast features."""

    def __init__(
        self, config: LearnedContrast, contrast: Contrast, *, bins: int, strokes: Contrast | None = None
    ) -> None:
        """`bins`: of the spectrum, without its short windows; `strokes`: how contrast is made of these."""
        super().__init__()
        self.contrast, self.bins = contrast, bins
        self.strokes = strokes if config.strokes else None
        self.register_buffer("semitones", to_semitones(bins, contrast.bins_per_octave), persistent=False)
        if self.strokes is not None:
            self.register_buffer("bands", _between(len(self.semitones), self.strokes.bins_per_octave), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE))  # from features to bytes
        shown = (6 if config.strokes else 2) * contrast.pool
        self.first = nn.Conv2d(shown, config.channels, (5, 3), padding=(2, 1), bias=False)
        self.norm = nn.BatchNorm2d(config.channels)
        self.blocks = nn.Sequential(*(_Block(config.channels, dilation) for dilation in config.dilations))
        self.last = nn.Conv2d(config.channels, 1, 1)
        self.plain = nn.Parameter(torch.tensor(1.0))  # share of the plain contrast
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, spectra: Tensor) -> Tensor:
        """(batch, rows, frames) in dB -> (batch, semitones, frames // pool), 0 or more.

        Rows under the bins, those of short windows, are needed with `strokes` only.
        """
        with torch.no_grad():
            cells = self._cells(spectra)
        plain = cells[:, self.contrast.pool : 2 * self.contrast.pool].mean(1)
        learned = self.last(self.blocks(relu(self.norm(self.first(cells)))))[:, 0]
        return relu(self.plain * plain + learned.float())

    @torch.inference_mode()
    def features(self, spectrum: Tensor) -> NDArray[np.uint8]:
        """(rows, frames) in dB -> (frames // pool, semitones) bytes; none of less than a pool."""
        if spectrum.shape[1] < self.contrast.pool:
            return np.zeros((0, len(self.semitones)), np.uint8)
        return as_bytes(self(spectrum[None])[0] * self.scale)

    def folded(self) -> Self:
        """A copy for inference, its norms folded into the convolutions before them: the same features in less time."""
        made = copy.deepcopy(self).eval()
        made.first, made.norm = fuse_conv_bn_eval(made.first, made.norm), nn.Identity()
        for block in made.blocks:
            block.convolution, block.norm = fuse_conv_bn_eval(block.convolution, block.norm), nn.Identity()
        return made.to(memory_format=torch.channels_last)

    def _cells(self, spectra: Tensor) -> Tensor:
        """(batch, channels, semitones, frames // pool): of the bins, then of the earlier and later short windows."""
        seen = [self._pooled(self.semitones, signed(spectra[:, : self.bins], self.contrast))]
        if self.strokes is not None:
            # Two short windows a frame, bands side by side: in order of time, and apart again.
            halves = spectra[:, self.bins :].unflatten(1, (-1, 2)).mT.flatten(2)  # (batch, bands, 2 * frames)
            found = signed(halves, self.strokes).unflatten(2, (-1, 2))
            seen += [self._pooled(self.bands, found[..., half]) for half in range(2)]
        return torch.cat(seen, dim=1).contiguous(memory_format=torch.channels_last)

    def _pooled(self, weights: Tensor, contrast: Tensor) -> Tensor:
        """(batch, 2 * pool, semitones, frames // pool): signed, then positive; a channel per frame of a pool."""
        both = torch.stack([contrast, contrast.clamp(min=0)], dim=1)
        pooled = both.shape[3] // self.contrast.pool
        frames = (weights @ both)[..., : pooled * self.contrast.pool]
        return frames.unflatten(3, (pooled, self.contrast.pool)).permute(0, 1, 4, 2, 3).flatten(1, 2)


class _Block(nn.Module):
    """A convolution over semitones and frames beside a way past it."""

    def __init__(self, channels: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        padding = (2 * dilation[0], dilation[1])
        self.convolution = nn.Conv2d(channels, channels, (5, 3), padding=padding, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        found = on_grids(self.convolution, x) if self.training else self.convolution(x)
        return x + relu(self.norm(found))


def _between(semitones: int, per_octave: int) -> Tensor:
    """(semitones, bands): each semitone between the two bands beside it, as near as they are."""
    bands = (semitones - 1) * per_octave // 12
    places = (torch.arange(semitones) * per_octave / 12).clamp(max=bands - 1)
    return (1 - (torch.arange(bands) - places[:, None]).abs()).clamp(min=0)


def on_grids(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """What a dilated convolution gives, as a plain one on each grid of every so many rows and columns.

    Gradients of dilated weights take a CPU three times as long as those of plain ones; a training step a fifth longer.
    """
    (rows, columns), (height, width) = convolution.dilation, x.shape[2:]
    padded = pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % columns, 0, -height % rows))
    batch, tall, wide, channels = padded.shape
    cells = padded.reshape(batch, tall // rows, rows, wide // columns, columns, channels)
    grids = cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)  # (batch * grids, channels, ...)
    found = conv2d(grids, convolution.weight, padding=tuple(size // 2 for size in convolution.kernel_size))
    cells = found.permute(0, 2, 3, 1).unflatten(0, (batch, rows, columns)).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(batch, tall, wide, -1)[:, :height, :width].permute(0, 3, 1, 2)

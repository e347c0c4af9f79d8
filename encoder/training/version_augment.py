"""Version augmentation: constant-Q magnitudes of shingles, some of them masked, stretched or transposed.

As in the released CLEWS code, on averaged magnitudes before any compression; every shingle draws for itself, also the
shingles of one track; the order of the three is drawn once a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.training.version_schedule import VersionSchedule


def augmented(spectra: Tensor, schedule: VersionSchedule, generator: torch.Generator) -> Tensor:
    """Shingles (batch, bins, frames), altered with the schedule's probabilities; the input stays as it is."""
    spectra = spectra.clone()
    steps = ((mask, schedule.masking), (stretch, schedule.stretching), (transpose, schedule.transposing))
    for place in torch.randperm(len(steps), generator=generator).tolist():
        alter, probability = steps[place]
        chosen = torch.rand(len(spectra), generator=generator) < probability
        for number in chosen.nonzero().flatten().tolist():
            spectra[number] = alter(spectra[number], schedule, generator)
    return spectra


def mask(spectrum: Tensor, schedule: VersionSchedule, generator: torch.Generator) -> Tensor:
    """One band of bins, or one of frames, set to 0: (bins, frames)."""
    axis = int(torch.rand((), generator=generator) < 0.5)
    size = spectrum.shape[axis]
    width = max(1, int(_uniform(0, schedule.masked, generator) * size))
    start = _below(size - width + 1, generator)
    masked = spectrum.clone()
    masked.narrow(axis, start, width).zero_()
    return masked


def stretch(spectrum: Tensor, schedule: VersionSchedule, generator: torch.Generator) -> Tensor:
    """Played slower or faster, and cut to as many frames at a random place; what is too short is repeated."""
    bins, frames = spectrum.shape
    length = max(1, int(frames * _uniform(*schedule.stretch, generator)))
    resized = F.interpolate(spectrum[None, None], (bins, length), mode="bilinear", antialias=True)[0, 0]
    repeated = resized.repeat(1, -(-frames // length))  # (bins, frames or more)
    return repeated.narrow(1, _below(repeated.shape[1] - frames + 1, generator), frames)


def transpose(spectrum: Tensor, schedule: VersionSchedule, generator: torch.Generator) -> Tensor:
    """Moved up or down by whole bins; zeros come in."""
    shift = _below(2 * schedule.transposition + 1, generator) - schedule.transposition
    moved = spectrum.roll(shift, dims=0)
    (moved[:shift] if shift >= 0 else moved[shift:]).zero_()
    return moved


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _below(end: int, generator: torch.Generator) -> int:
    return int(torch.randint(end, (), generator=generator))

"""Effects on the sample's waveform, batched on the device: saturation and reverberation, loudness kept."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from encoder.training.pairing import Pairing

_DRIVE = (-6.0, 9.0)  # dB of the sample's RMS over the level at which tanh bends
_DECAY = (0.15, 1.0)  # seconds to fall by 60 dB, log-uniform
_WET = (-12.0, 0.0)  # dB of the reverberation under the sample
_QUIET = 1e-9


class Effects(NamedTuple):
    """What is done to the samples of a batch; 0 is nothing."""

    drive: NDArray[np.float32]  # (pairs,) factor before tanh, of a sample of RMS 1
    decay: NDArray[np.float32]  # (pairs,) seconds to fall by 60 dB
    wet: NDArray[np.float32]  # (pairs,) amplitude of the reverberation beside the sample
    seeds: NDArray[np.int64]  # (pairs,) of the noise that reverberates


def draw(rng: np.random.Generator, pairing: Pairing, pairs: int) -> Effects:
    """Effects of a batch, each with its probability."""
    drive = 10 ** (rng.uniform(*_DRIVE, pairs) / 20) * (rng.random(pairs) < pairing.saturation)
    decay = np.exp(rng.uniform(*np.log(_DECAY), pairs)) * (rng.random(pairs) < pairing.reverb)
    wet = 10 ** (rng.uniform(*_WET, pairs) / 20)
    return Effects(*(x.astype(np.float32) for x in (drive, decay, wet)), seeds=rng.integers(2**31, size=pairs))


def applied(samples: Tensor, effects: Effects, *, sample_rate: int) -> Tensor:
    """Samples (pairs, length) saturated, then reverberated; rows without effects are what they were."""
    if not (effects.drive.any() or effects.decay.any()):
        return samples
    result = samples.clone()
    for row in np.flatnonzero(effects.drive):
        result[row] = saturated(result[row], float(effects.drive[row]))
    rows = torch.from_numpy(np.flatnonzero(effects.decay)).to(samples.device)
    if not len(rows):
        return result
    decay, wet, seeds = (torch.from_numpy(x).to(samples.device)[rows] for x in effects[1:])
    noise = _noise(seeds, round(_DECAY[1] * sample_rate))
    result[rows] = reverberated(result[rows], decay, wet, noise, sample_rate=sample_rate)
    return result


def saturated(sample: Tensor, drive: float) -> Tensor:
    """(length,) bent by tanh; a louder sample is bent no more than a quiet one."""
    loudness = sample.square().mean().sqrt().clamp(min=_QUIET)
    bent = torch.tanh(sample * (drive / loudness))
    return bent * (loudness / bent.square().mean().sqrt().clamp(min=_QUIET))


def reverberated(samples: Tensor, decay: Tensor, wet: Tensor, noise: Tensor, *, sample_rate: int) -> Tensor:
    """(pairs, length) with noise (pairs, taps) that decays exponentially for a room, cut where the sample ends."""
    seconds = torch.arange(noise.shape[1], device=samples.device) / sample_rate
    response = noise * torch.exp(-np.log(1000) * seconds / decay.unsqueeze(1))
    response = response / response.square().sum(1, keepdim=True).sqrt()
    return _as_loud(samples + wet.unsqueeze(1) * _convolved(samples, response), samples)


def in_room(samples: Tensor, responses: Tensor) -> Tensor:
    """(pairs, length) as heard through impulse responses (pairs, taps), cut where the sample ends, loudness kept."""
    return _as_loud(_convolved(samples, responses), samples)


def _convolved(samples: Tensor, responses: Tensor) -> Tensor:
    size = next_fast_len(samples.shape[1] + responses.shape[1] - 1, real=True)
    product = torch.fft.rfft(samples, size) * torch.fft.rfft(responses, size)
    return torch.fft.irfft(product, size)[:, : samples.shape[1]]


def _as_loud(changed: Tensor, samples: Tensor) -> Tensor:
    dry, loud = (x.square().mean(1, keepdim=True).sqrt() for x in (samples, changed))
    return changed * (dry / loud.clamp(min=_QUIET))


def _noise(seeds: Tensor, taps: int) -> Tensor:
    """White noise (pairs, taps), the same on any device and whatever other pairs there are."""
    generators = (torch.Generator().manual_seed(seed) for seed in seeds.tolist())
    return torch.stack([torch.randn(taps, generator=generator) for generator in generators]).to(seeds.device)

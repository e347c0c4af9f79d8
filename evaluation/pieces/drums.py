"""Drums: one stroke of a kit -> its waveform (samples,), float32.

Every drum is the sum of three things in its own proportions: a body (two modes whose pitch falls after the
stroke), noise in a band, and metal (six square waves at inharmonic ratios, as in drum machines). A kit draws
tuning, decay and proportions once, so that the drums of two pieces are two drum sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal

_METAL = np.array([1.0, 1.342, 1.2312, 1.6532, 1.9523, 2.1523])  # ratios of a drum machine's cymbal oscillators
_BURSTS = (0.0, 0.011, 0.023)  # seconds; the hands of a clap do not meet at once


@dataclass(frozen=True, kw_only=True)
class Drum:
    """Proportions and tuning of one drum; levels are linear, frequencies in Hz, times in seconds."""

    body: float = 0.0
    pitch: float = 100.0
    fall: float = 0.0  # how far above its pitch the body starts, as a ratio
    body_decay: float = 0.1
    second: float = 1.6  # ratio of the second mode
    noise: float = 0.0
    band: tuple[float, float] = (500.0, 8000.0)
    noise_decay: float = 0.1
    metal: float = 0.0
    metal_pitch: float = 400.0
    bursts: bool = False


_TEMPLATES: dict[str, Drum] = {
    "kick": Drum(body=1.0, pitch=52, fall=3.0, body_decay=0.16, noise=0.14, band=(1500, 6000), noise_decay=0.006),
    "snare": Drum(body=0.5, pitch=190, fall=0.6, body_decay=0.07, noise=0.65, band=(900, 8500), noise_decay=0.12),
    "rim": Drum(body=0.7, pitch=480, body_decay=0.018, second=2.4, noise=0.3, band=(1800, 7000), noise_decay=0.008),
    "clap": Drum(noise=0.9, band=(800, 5500), noise_decay=0.09, bursts=True),
    "hat": Drum(noise=0.35, band=(5500, 10000), noise_decay=0.035, metal=0.3, metal_pitch=540),
    "open hat": Drum(noise=0.35, band=(4800, 10000), noise_decay=0.22, metal=0.3, metal_pitch=540),
    "ride": Drum(noise=0.12, band=(4000, 10000), noise_decay=0.3, metal=0.32, metal_pitch=430),
    "crash": Drum(noise=0.5, band=(2500, 10000), noise_decay=0.7, metal=0.3, metal_pitch=380),
    "low tom": Drum(body=0.9, pitch=85, fall=0.7, body_decay=0.2, noise=0.15, band=(400, 5000), noise_decay=0.03),
    "mid tom": Drum(body=0.9, pitch=125, fall=0.7, body_decay=0.17, noise=0.15, band=(400, 5000), noise_decay=0.03),
    "high tom": Drum(body=0.9, pitch=175, fall=0.7, body_decay=0.14, noise=0.15, band=(400, 5000), noise_decay=0.03),
    "shaker": Drum(noise=0.5, band=(4500, 9500), noise_decay=0.04),
    "tambourine": Drum(noise=0.3, band=(5000, 10000), noise_decay=0.09, metal=0.35, metal_pitch=900),
    "low conga": Drum(body=0.8, pitch=195, fall=0.15, body_decay=0.13, noise=0.1, band=(700, 5000), noise_decay=0.012),
    "high conga": Drum(
        body=0.8, pitch=300, fall=0.15, body_decay=0.09, noise=0.12, band=(900, 6000), noise_decay=0.012
    ),
    "cowbell": Drum(metal=0.6, metal_pitch=560, noise=0.02, noise_decay=0.12),
}

Kit = Mapping[str, Drum]


def draw_kit(rng: np.random.Generator, *, softness: float = 0.0) -> Kit:
    """A drum set of its own; softness (0 to 1) lowers the noise and lengthens the bodies, as with brushes."""
    tension, damping = rng.uniform(0.8, 1.3), rng.uniform(0.55, 1.8)  # common to the set: one room, one taste
    return {name: _tuned(drum, rng, tension, damping, softness) for name, drum in _TEMPLATES.items()}


def _tuned(drum: Drum, rng: np.random.Generator, tension: float, damping: float, softness: float) -> Drum:
    def around(value: float, spread: float) -> float:
        return value * float(np.exp(rng.uniform(-spread, spread)))

    low, high = drum.band
    return replace(
        drum,
        body=around(drum.body, 0.3),
        pitch=around(drum.pitch * tension, 0.2),
        fall=around(drum.fall, 0.6),
        body_decay=around(drum.body_decay * damping, 0.4),
        second=around(drum.second, 0.15),
        noise=around(drum.noise * (1.0 - 0.5 * softness), 0.4),
        band=(around(low, 0.35), min(around(high, 0.25), 10500.0)),
        noise_decay=around(drum.noise_decay * damping, 0.4),
        metal=around(drum.metal, 0.6),
        metal_pitch=around(drum.metal_pitch, 0.3),
    )


def strike(drum: Drum, *, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One stroke; two strokes differ in their noise, as two strokes of a player do."""
    length = min(max(8.0 * drum.noise_decay, 7.0 * drum.body_decay * (drum.body > 0), 0.08), 2.5)
    times = np.arange(int(length * sample_rate)) / sample_rate
    wave = drum.body * _body(drum, times)
    if drum.noise > 0:
        wave = wave + drum.noise * _noise(drum, times, sample_rate, rng)
    if drum.metal > 0:
        wave = wave + drum.metal * _metal(drum, times, sample_rate)
    fade = np.minimum(1.0, (length - times) / 0.02)
    return (wave * fade).astype(np.float32)


def _body(drum: Drum, times: NDArray[np.float64]) -> NDArray[np.float64]:
    # the pitch falls exponentially, so its phase is the integral in closed form
    settle = 0.022
    phase = drum.pitch * (times + drum.fall * settle * (1.0 - np.exp(-times / settle)))
    first = np.sin(2 * np.pi * phase) * np.exp(-times / drum.body_decay)
    return first + 0.35 * np.sin(2 * np.pi * drum.second * phase) * np.exp(-times / (0.5 * drum.body_decay))


def _noise(drum: Drum, times: NDArray[np.float64], sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    high = min(drum.band[1], 0.47 * sample_rate)
    band = (min(drum.band[0], 0.7 * high), high)
    sections = signal.butter(2, band, btype="bandpass", fs=sample_rate, output="sos")
    noise = signal.sosfilt(sections, rng.normal(size=len(times)))
    noise /= np.sqrt(np.mean(noise**2)) * 2.0
    if not drum.bursts:
        return noise * np.exp(-times / drum.noise_decay)
    short = sum((times >= start) * np.exp(-np.maximum(times - start, 0.0) / 0.004) for start in _BURSTS)
    return noise * (short + (times >= _BURSTS[-1]) * np.exp(-times / drum.noise_decay))


def _metal(drum: Drum, times: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    squares = np.sign(np.sin(2 * np.pi * drum.metal_pitch * _METAL[:, None] * times)).sum(axis=0)
    sections = signal.butter(
        2, min(6.0 * drum.metal_pitch, 0.4 * sample_rate), btype="highpass", fs=sample_rate, output="sos"
    )
    return signal.sosfilt(sections, squares) * np.exp(-times / (1.2 * drum.noise_decay)) / 3.0

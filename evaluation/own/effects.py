"""Effects: what a producer's rack does to a sample: equaliser, filter, compressor, saturation, lo-fi, reverb.

All of them are pedalboard's; none changes the time or pitch of what passes (`warp` does). Every effect is on or off by
chance, so that some samples stay nearly as they were.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pedalboard
import soxr
from numpy.typing import NDArray
from pedalboard import Plugin

Wave = NDArray[np.float32]  # (samples,) mono

_DRIVEN = 10 ** (-18 / 20)  # RMS at which the rack is fed, so that thresholds mean the same for all samples
_HISS = (-60.0, -45.0)  # dB below the sample, of worn vinyl


@dataclass(frozen=True, kw_only=True)
class Rack:
    """Effects in the order in which the sample passes them."""

    plugins: tuple[Plugin, ...]
    names: tuple[str, ...]
    hiss: float | None  # dB of vinyl's noise relative to the sample


def draw(rng: np.random.Generator, *, sample_rate: int) -> Rack:
    """A rack with settings drawn at random; new plugins each time, as they keep a state."""
    chances: dict[str, tuple[float, Callable[[np.random.Generator], list[Plugin]]]] = {
        "equaliser": (0.7, _equaliser),
        "filter": (0.3, _filter),
        "compressor": (0.5, _compressor),
        "saturation": (0.35, _saturation),
        "lo-fi": (0.25, lambda rng: _lo_fi(rng, sample_rate)),
        "reverb": (0.35, _reverb),
    }
    plugins: list[Plugin] = []
    names: list[str] = []
    for name, (chance, build) in chances.items():
        if rng.random() < chance:
            plugins += build(rng)
            names.append(name)
    hiss = float(rng.uniform(*_HISS)) if rng.random() < 0.15 else None
    return Rack(plugins=tuple(plugins), names=(*names, *(["vinyl"] if hiss is not None else [])), hiss=hiss)


def _equaliser(rng: np.random.Generator) -> list[Plugin]:
    return [
        pedalboard.LowShelfFilter(_log(rng, 80, 300), _uniform(rng, -8, 6)),
        pedalboard.PeakFilter(_log(rng, 300, 4000), _uniform(rng, -7, 7), _uniform(rng, 0.5, 2)),
        pedalboard.HighShelfFilter(_log(rng, 2500, 7000), _uniform(rng, -8, 6)),
    ]


def _filter(rng: np.random.Generator) -> list[Plugin]:
    """Two poles each: what hip-hop does to a bass line or to hi-hats."""
    low = rng.random() < 0.6
    cutoff = _log(rng, 1200, 5000) if low else _log(rng, 100, 400)
    kind = pedalboard.LowpassFilter if low else pedalboard.HighpassFilter
    return [kind(cutoff), kind(cutoff)]


def _compressor(rng: np.random.Generator) -> list[Plugin]:
    settings = {"attack_ms": _log(rng, 1, 30), "release_ms": _log(rng, 50, 300)}
    return [pedalboard.Compressor(threshold_db=_uniform(rng, -30, -16), ratio=_uniform(rng, 2, 6), **settings)]


def _saturation(rng: np.random.Generator) -> list[Plugin]:
    return [pedalboard.Distortion(drive_db=_uniform(rng, 3, 14))]


def _lo_fi(rng: np.random.Generator, sample_rate: int) -> list[Plugin]:
    """An early sampler: few bits at a low rate."""
    rate = min(_log(rng, 9000, 18_000), 0.9 * sample_rate)
    return [
        pedalboard.Resample(rate, quality=pedalboard.Resample.Quality.Linear),
        pedalboard.Bitcrush(float(rng.integers(8, 13))),
    ]


def _reverb(rng: np.random.Generator) -> list[Plugin]:
    wet = _uniform(rng, 0.05, 0.3)
    return [pedalboard.Reverb(room_size=_uniform(rng, 0.1, 0.6), wet_level=wet, dry_level=1.0 - wet)]


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def apply(rack: Rack, wave: Wave, *, sample_rate: int, rng: np.random.Generator) -> Wave:
    """The wave after the rack, as long as before and in time with it."""
    level = np.sqrt(np.mean(np.square(wave[wave != 0], dtype=np.float64))) if np.any(wave) else 1.0
    driven = (wave * (_DRIVEN / level)).astype(np.float32)
    treated = pedalboard.Pedalboard(list(rack.plugins))(driven[None], sample_rate)[0] if rack.plugins else driven
    return treated if rack.hiss is None else treated + _vinyl(len(treated), rack.hiss, sample_rate, rng)


def _vinyl(samples: int, level: float, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Hiss, and a few crackles a second that are ten times as loud."""
    noise = rng.standard_normal(samples, np.float32)
    noise[rng.random(samples, np.float32) < 4.0 / sample_rate] *= 30.0
    return noise * np.float32(_DRIVEN * 10 ** (level / 20))


def warp(wave: Wave, *, tempo_ratio: float, transposition: float, varispeed: bool, sample_rate: int) -> Wave:
    """Tempo and pitch changed; (round(samples / tempo_ratio),) long.

    Varispeed is resampling, so that the pitch follows; else Rubber Band's finer engine stretches and transposes.
    """
    length = round(len(wave) / tempo_ratio)
    if varispeed:
        warped = soxr.resample(wave, tempo_ratio * sample_rate, sample_rate, quality="VHQ")
    elif tempo_ratio == 1.0 and transposition == 0.0:
        warped = wave
    else:
        settings = {"stretch_factor": tempo_ratio, "pitch_shift_in_semitones": transposition}
        warped = pedalboard.time_stretch(wave, float(sample_rate), high_quality=True, **settings).reshape(-1)
    fitted = np.zeros(length, np.float32)
    fitted[: min(length, len(warped))] = warped[:length]
    return fitted


def compress_all(wave: Wave, *, sample_rate: int) -> Wave:
    """What a mastering desk does to a finished piece: a little compression of all that sounds together."""
    desk = pedalboard.Pedalboard([pedalboard.Compressor(threshold_db=-16, ratio=2.0, attack_ms=20, release_ms=200)])
    return desk(np.asarray(wave, np.float32)[None], sample_rate)[0]

"""Instruments: one note of a patch -> its waveform (samples,), float32, about 1 at its loudest.

Almost every family is the same machine: a single cycle whose harmonics change from cycle to cycle. A family
states the amplitudes (cycles, harmonics); one inverse FFT per cycle gives the table, and reading the table along
a phase curve gives the exact pitch, vibrato and detuned unison. A plucked string is the case in which each cycle
is the last one after the string's loss (Karplus and Strong 1983, solved in the frequency domain). Bells, electric
pianos and mallets are not harmonic and are computed directly (frequency modulation, Chowning 1973).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIGHEST = 9500.0  # Hz; harmonics above it are left out
_STRING_BAND = 11025.0  # Hz; at its end a plucked string's averaging filter is closed
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (390, 1990, 2550), (570, 840, 2410), (440, 1020, 2240))  # Hz
_DRAWBARS = (1, 2, 3, 4, 5, 6, 8)  # harmonics that an organ's drawbars mix


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A family with the numbers that give one instrument its own voice."""

    family: str
    brightness: float  # 0 dark to 1 bright
    attack: float  # seconds
    decay: float  # seconds until the sound (or its brightness) has fallen to 1/e
    sustain: float  # level held while the key is down, 0 to 1
    release: float  # seconds
    vibrato: float  # semitones either side
    detune: float  # semitones between the unison voices; 0 for a single voice
    drive: float  # 0 clean; above it the note is bent through tanh
    colour: int  # seed of what is drawn once per instrument (drawbars, vowels, pulse width, ...)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"no instrument family {self.family!r}; choose from {', '.join(sorted(FAMILIES))}")


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Ranges from which the patches of a family are drawn, and how its notes are computed."""

    attack: tuple[float, float]
    decay: tuple[float, float]
    sustain: tuple[float, float]
    brightness: tuple[float, float] = (0.25, 0.9)
    release: tuple[float, float] = (0.06, 0.2)
    vibrato: tuple[float, float] = (0.0, 0.0)
    detune: tuple[float, float] = (0.0, 0.0)
    drive: tuple[float, float] = (0.0, 0.0)
    cycles: Callable[..., NDArray[np.float64]] | None = None  # amplitudes (cycles, harmonics); None: computed directly
    direct: Callable[..., NDArray[np.float64]] | None = None  # waveform without envelope


def draw_patch(family: str, rng: np.random.Generator) -> Patch:
    """A new instrument of a family: each number is drawn from the family's range."""
    ranges = FAMILIES[family]
    names = ("brightness", "attack", "decay", "sustain", "release", "vibrato", "detune", "drive")
    numbers = {name: float(rng.uniform(*getattr(ranges, name))) for name in names}
    return Patch(family=family, colour=int(rng.integers(1 << 30)), **numbers)


def play(patch: Patch, *, pitch: int, duration: float, sample_rate: int, accent: float = 1.0) -> NDArray[np.float32]:
    """One note with its release; a harder accent (0 to 1) is brighter as well as louder."""
    family = FAMILIES[patch.family]
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12.0)  # Hz; pitch is a MIDI number
    times = np.arange(int((duration + patch.release) * sample_rate)) / sample_rate  # seconds
    rng = np.random.default_rng([patch.colour, 1])
    sound = _evolving if family.cycles else family.direct
    wave = sound(patch, frequency, times, patch.brightness * (0.55 + 0.45 * accent), rng)
    wave = wave * _envelope(patch, times, duration)
    if patch.drive > 0.05:
        wave = np.tanh(wave * (1.0 + 8.0 * patch.drive)) * 0.7
    return (wave * accent).astype(np.float32)


def _envelope(patch: Patch, times: NDArray[np.float64], duration: float) -> NDArray[np.float64]:
    rise = np.minimum(times / patch.attack, 1.0)
    held = patch.sustain + (1.0 - patch.sustain) * np.exp(-np.maximum(times - patch.attack, 0.0) / patch.decay)
    fall = np.clip(1.0 - (times - duration) / patch.release, 0.0, 1.0) ** 2
    return rise * held * fall


def _evolving(
    patch: Patch, frequency: float, times: NDArray[np.float64], brightness: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Read a table of slowly changing cycles along the phase of each unison voice."""
    highest = min(HIGHEST, 0.45 / (times[1] - times[0]))  # Hz
    count = max(1, int(highest / frequency))
    size = max(32, 1 << int(np.ceil(np.log2(4 * count))))  # four points per cycle of the highest harmonic
    starts = np.arange(int(times[-1] * frequency * 1.06) + 3) / frequency  # seconds; a start for each cycle
    amplitudes = FAMILIES[patch.family].cycles(patch, np.arange(1, count + 1), frequency, starts, brightness)
    spectrum = np.zeros((len(starts), size // 2 + 1), dtype=np.complex64)
    spectrum[:, 1 : count + 1] = amplitudes * np.exp(2j * np.pi * rng.random(count))
    table = np.fft.irfft(spectrum, n=size, axis=1).astype(np.float32).ravel()
    voices = (-1.0, 0.0, 1.0) if patch.detune > 0.01 else (0.0,)
    wave = sum(_read(table, size, _phase(patch, frequency, times, voice, rng)) for voice in voices)
    return (
        wave / (np.sqrt(np.mean(wave**2)) * 3.0 + 1e-9) if patch.sustain > 0.5 else wave / (np.abs(wave).max() + 1e-9)
    )


def _phase(
    patch: Patch, frequency: float, times: NDArray[np.float64], voice: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Phase in cycles; the vibrato grows in during the first half second."""
    rate, offset, start = rng.uniform(4.5, 6.2), rng.uniform(0, 6.28), rng.random() * (voice != 0.0)
    cycles = frequency * 2.0 ** (voice * patch.detune / 12.0)
    if patch.vibrato == 0.0:
        return cycles * times + start
    bend = patch.vibrato * np.minimum(times / 0.5, 1.0) * np.sin(2 * np.pi * rate * times + offset)
    return np.cumsum(cycles * np.exp2(bend / 12.0)) * (times[1] - times[0]) + start


def _read(table: NDArray[np.float32], size: int, phase: NDArray[np.float64]) -> NDArray[np.float64]:
    place = phase * size
    whole = place.astype(np.int64)
    part = place - whole
    return table[whole] * (1.0 - part) + table[whole + 1] * part


# -- families: amplitudes (cycles, harmonics) of harmonics 1, 2, ... in cycles that start at `starts` seconds ------


def _pluck(patch, harmonics, frequency, starts, brightness):
    """The string's loss per cycle, raised to the number of the cycle: Karplus-Strong without its loop."""
    rng = np.random.default_rng(patch.colour)
    angle = np.pi * harmonics * frequency / _STRING_BAND
    loss = np.sqrt(0.5 + 0.5 * np.cos(np.minimum(angle * (0.35 + 0.6 * (1 - brightness)), 3.0)))
    per_cycle = loss * np.exp(-1.0 / (frequency * patch.decay))
    place = rng.uniform(0.08, 0.35)  # where the string is plucked
    excitation = np.abs(np.sin(np.pi * harmonics * place)) / harmonics ** (1.3 - 0.8 * brightness)
    return excitation * rng.uniform(0.6, 1.4, len(harmonics)) * per_cycle ** np.arange(len(starts))[:, None]


def _filtered(patch, harmonics, frequency, starts, brightness):
    """Saw or pulse through a resonant low-pass whose cutoff follows an envelope."""
    rng = np.random.default_rng(patch.colour)
    width = rng.choice([0.5, 0.25, 0.125, 0.35])
    source = (
        np.abs(np.sin(np.pi * harmonics * width)) / harmonics if patch.family in ("pulse", "chip") else 1 / harmonics
    )
    if patch.family == "chip":  # game consoles have no filter
        return np.broadcast_to(source, (len(starts), len(harmonics)))
    floor = 250.0 + 1500.0 * brightness  # Hz
    sweep = 900.0 + 6000.0 * brightness
    cutoff = np.maximum(floor + sweep * np.exp(-starts / patch.decay), frequency)[:, None]
    ratio = harmonics * frequency / cutoff
    peak = rng.uniform(0.0, 1.8) * np.exp(-((ratio - 1.0) ** 2) / 0.04)
    return source * (1.0 / np.sqrt(1.0 + ratio**4) + peak / np.sqrt(harmonics))


def _organ(patch, harmonics, frequency, starts, brightness):
    rng = np.random.default_rng(patch.colour)
    bars = np.zeros(len(harmonics))
    for number in (n for n in _DRAWBARS if n <= len(harmonics)):
        bars[number - 1] = rng.choice([0.0, 0.3, 0.6, 1.0]) / number ** (0.9 - 0.7 * brightness)
    bars[0] = max(bars[0], 0.6)
    rotor = 1.0 + 0.25 * np.sin(2 * np.pi * rng.uniform(5.0, 7.0) * starts)[:, None] * (harmonics > 2)
    click = 0.25 * np.exp(-starts / 0.008)[:, None] / np.sqrt(harmonics)
    return bars * rotor + click


def _voice(patch, harmonics, frequency, starts, brightness):
    """A glottal slope with three formants that move from one vowel to another."""
    rng = np.random.default_rng(patch.colour)
    first, second = (np.array(_VOWELS[i]) for i in rng.choice(len(_VOWELS), 2, replace=False))
    mixture = np.clip(starts / rng.uniform(0.2, 0.7), 0.0, 1.0)[:, None, None]
    formants = (first * (1 - mixture) + second * mixture) * rng.uniform(0.95, 1.2)  # (cycles, 1, 3) Hz
    distance = (harmonics[None, :, None] * frequency - formants) / (70.0 + 0.06 * formants)
    resonance = (np.array([1.0, 0.6, 0.35]) / (1.0 + distance**2)).sum(axis=2)
    return (resonance + 0.02 + 0.05 * brightness) / harmonics ** (0.9 - 0.5 * brightness)


def _brass(patch, harmonics, frequency, starts, brightness):
    """The louder, the brighter: the spectrum opens with the attack and closes a little after it."""
    opening = np.minimum(starts / (patch.attack * 1.5), 1.0) * (0.75 + 0.25 * np.exp(-starts / patch.decay))
    limit = (2.0 + 18.0 * brightness * opening)[:, None]
    return np.exp(-harmonics / limit) * (0.7 + 0.3 * np.exp(-((harmonics * frequency - 1200) ** 2) / 5e5))


def _flute(patch, harmonics, frequency, starts, brightness):
    rng = np.random.default_rng(patch.colour)
    shape = np.exp(-(harmonics - 1) / (0.5 + 1.5 * brightness)) * rng.uniform(0.5, 1.3, len(harmonics))
    breath = rng.normal(0.0, 0.015 + 0.02 * brightness, (len(starts), len(harmonics)))  # new in each cycle: noise
    return shape + np.abs(breath)


def _sine_bass(patch, harmonics, frequency, starts, brightness):
    growl = brightness * np.exp(-starts / patch.decay)[:, None]
    return np.where(harmonics == 1, 1.0, 0.0) + (0.1 + 0.5 * growl) * (harmonics > 1) / harmonics**1.6


# -- families that are not harmonic: waveforms ------------------------------------------------------------------


def _modulated(patch, frequency, times, brightness, rng):
    """Frequency modulation: the index falls faster than the level, so the strike is bright and the tail round."""
    ratios = {"bell": (1.41, 2.76, 3.5), "epiano": (1.0, 14.0, 7.0), "mallet": (4.0, 3.93, 10.1)}[patch.family]
    own = np.random.default_rng(patch.colour)
    ratio = own.choice(ratios)
    index = (0.6 + 3.2 * brightness) * (0.25 if ratio > 5 else 1.0) * np.exp(-times / (0.35 * patch.decay))
    angle = 2 * np.pi * frequency * times
    wave = np.sin(angle + index * np.sin(ratio * angle)) + 0.35 * np.sin(1.003 * angle + 0.5 * index * np.sin(angle))
    strike = own.uniform(0.05, 0.3) * rng.normal(size=len(times)) * np.exp(-times / 0.006)
    return (wave / 1.35 + strike) * np.exp(-times / patch.decay)


def _piano(patch, frequency, times, brightness, rng):
    """Stretched partials that die the faster the higher they are, three strings a hair apart."""
    own = np.random.default_rng(patch.colour)
    numbers = np.arange(1, min(14, int(HIGHEST / frequency)) + 1)
    partials = frequency * numbers * np.sqrt(1.0 + own.uniform(1e-4, 6e-4) * numbers**2)
    levels = np.abs(np.sin(np.pi * numbers * own.uniform(0.1, 0.15))) / numbers ** (1.5 - 0.9 * brightness)
    beating = own.uniform(0.3, 1.2, len(numbers))  # Hz between the strings
    wave = np.zeros(len(times), dtype=np.float32)
    short = times.astype(np.float32)
    for number, partial, level, beat in zip(numbers, partials, levels, beating, strict=True):
        fading = level * np.exp(-short * np.float32((0.5 + 0.25 * number) / patch.decay))
        wave += (
            fading
            * np.sin(np.float32(2 * np.pi * partial) * short)
            * (1 + 0.3 * np.cos(np.float32(6.28 * beat) * short))
        )
    hammer = own.uniform(0.1, 0.4) * rng.normal(size=len(times)) * np.exp(-times / 0.004)
    return wave / np.sqrt(np.sum(levels**2)) / 2.0 + hammer


_STRUCK = {"attack": (0.001, 0.004), "sustain": (1.0, 1.0), "release": (0.08, 0.4)}
_HELD = {"attack": (0.005, 0.03), "decay": (0.15, 0.6), "sustain": (0.6, 0.9)}
_SLOW = {"attack": (0.08, 0.3), "decay": (0.5, 1.5), "sustain": (0.7, 0.95), "release": (0.2, 0.6)}

FAMILIES: dict[str, _Family] = {
    "pluck": _Family(attack=(0.001, 0.003), decay=(0.25, 1.8), sustain=(0.0, 0.3), cycles=_pluck),
    "clavinet": _Family(
        attack=(0.001, 0.002), decay=(0.15, 0.5), sustain=(0.0, 0.2), brightness=(0.7, 1.0), release=(0.03, 0.06),
        drive=(0.0, 0.3), cycles=_pluck,
    ),
    "distorted guitar": _Family(
        attack=(0.002, 0.006), decay=(1.5, 3.0), sustain=(0.6, 0.9), brightness=(0.5, 0.9), detune=(0.0, 0.08),
        drive=(0.6, 1.0), cycles=_pluck,
    ),
    "saw": _Family(**_HELD, detune=(0.0, 0.18), cycles=_filtered),
    "pulse": _Family(**_HELD, vibrato=(0.0, 0.2), cycles=_filtered),
    "chip": _Family(attack=(0.001, 0.004), decay=(0.1, 0.5), sustain=(0.3, 0.8), vibrato=(0.0, 0.3), cycles=_filtered),
    "strings": _Family(**_SLOW, vibrato=(0.08, 0.22), detune=(0.08, 0.2), cycles=_filtered),
    "organ": _Family(attack=(0.003, 0.01), decay=(1.0, 2.0), sustain=(0.9, 1.0), vibrato=(0.0, 0.1), cycles=_organ),
    "voice": _Family(**_SLOW, vibrato=(0.1, 0.4), detune=(0.0, 0.12), cycles=_voice),
    "brass": _Family(
        attack=(0.03, 0.08), decay=(0.3, 0.8), sustain=(0.6, 0.9), vibrato=(0.0, 0.2), detune=(0.0, 0.1), cycles=_brass,
    ),
    "flute": _Family(attack=(0.03, 0.09), decay=(0.5, 1.0), sustain=(0.7, 0.9), vibrato=(0.05, 0.3), cycles=_flute),
    "bell": _Family(**_STRUCK, decay=(0.5, 1.6), direct=_modulated),
    "epiano": _Family(**_STRUCK, decay=(0.6, 1.5), drive=(0.0, 0.15), direct=_modulated),
    "mallet": _Family(**_STRUCK, decay=(0.12, 0.4), direct=_modulated),
    "piano": _Family(**_STRUCK, decay=(0.7, 1.6), direct=_piano),
    "sine bass": _Family(attack=(0.004, 0.02), decay=(0.3, 1.0), sustain=(0.6, 0.9), cycles=_sine_bass),
    "distorted bass": _Family(
        attack=(0.002, 0.006), decay=(0.1, 0.5), sustain=(0.5, 0.9), drive=(0.4, 1.0), cycles=_filtered
    ),
    "picked bass": _Family(
        attack=(0.001, 0.004), decay=(0.4, 1.2), sustain=(0.2, 0.5), brightness=(0.3, 0.7), cycles=_pluck
    ),
}  # fmt: skip

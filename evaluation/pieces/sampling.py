"""Sampling: what a producer does to a recording, so that evaluation knows the truth of it.

A treatment says which stems are taken, how they are warped, how often the excerpt is looped and how loud it is
against the new material. `sample` cuts and warps, `lay` puts the result under a new piece.
"""

import math
from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy import signal

from evaluation.pieces.composition import Piece
from evaluation.pieces.synthesis import Stems, mix

_PEAK = 0.9
_FADE = 0.005  # seconds at both ends of an excerpt, against clicks
_SHORTEST, _LONGEST = 4.0, 10.0  # seconds of an excerpt
_QUERY = (15.0, 30.0)  # seconds
_BEAT, _TUNE = ("drums", "bass"), ("chords", "lead")


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """How a sample is made and used; `level` is the sample over the other material, in dB RMS while it sounds."""

    stems: tuple[str, ...]  # none: the full mix
    duration: float  # seconds of the reference, rounded to bars
    level: float
    other: tuple[str, ...]  # stems of the new piece
    tempo_ratio: float = 1.0  # query tempo / reference tempo
    transposition: float = 0.0  # semitones
    varispeed: bool = False  # tape: tempo and pitch move together, and the transposition follows from the ratio
    loops: int = 1
    gap: float = 0.0  # seconds between two loops
    cutoff: float | None = None  # Hz, low-pass

    @property
    def semitones(self) -> float:
        return 12.0 * math.log2(self.tempo_ratio) if self.varispeed else self.transposition

    def describe(self) -> str:
        """The treatment in a few words, as a table shows it."""
        words = ["+".join(self.stems) or "full mix"]
        if self.varispeed:
            words.append(f"varispeed x{self.tempo_ratio:.2f}")
        elif self.tempo_ratio != 1.0:
            words.append(f"stretched x{self.tempo_ratio:.2f}")
        if self.transposition and not self.varispeed:
            words.append(f"pitched {self.transposition:+.0f}")
        if self.cutoff:
            words.append(f"low-pass {self.cutoff / 1000:.0f} kHz")
        words += ["as it is"] if len(words) == 1 else []
        words.append(f"looped {self.loops}x{' with gap' if self.gap else ''}" if self.loops > 1 else "once")
        return ", ".join(words)


TREATMENTS: tuple[Treatment, ...] = (
    Treatment(stems=(), duration=6.0, level=10.0, other=("drums", "bass", "lead"), loops=2),
    Treatment(stems=(), duration=8.0, level=14.0, other=("lead", "pad"), tempo_ratio=1.05, loops=3),
    Treatment(stems=(), duration=8.0, level=14.0, other=("drums",), transposition=1.0, loops=2),
    Treatment(stems=(), duration=7.0, level=8.0, other=("drums", "pad"), tempo_ratio=1.12, varispeed=True, loops=2),
    Treatment(stems=(), duration=9.0, level=14.0, other=("drums", "bass"), transposition=-1.0, loops=2, gap=1.5),
    Treatment(stems=(), duration=9.0, level=10.0, other=("lead", "bass"), tempo_ratio=0.9, loops=2),
    Treatment(
        stems=("drums", "percussion", "chords", "lead", "pad"), duration=9.0, level=16.0, other=("bass",),
        tempo_ratio=0.95, loops=3,
    ),
    Treatment(stems=(), duration=9.0, level=14.0, other=("pad",), transposition=-2.0, loops=3, cutoff=5000.0),
    Treatment(
        stems=(), duration=8.0, level=12.0, other=("drums", "bass"), tempo_ratio=1.1, transposition=1.0,
        loops=3, gap=1.0,
    ),
    Treatment(stems=(), duration=8.0, level=8.0, other=("drums", "lead"), tempo_ratio=0.9, varispeed=True, loops=2),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An excerpt cut from a reference and warped."""

    wave: NDArray[np.float32]
    reference_span: tuple[float, float]  # seconds


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A query and where its sample sounds."""

    wave: NDArray[np.float32]
    spans: tuple[tuple[float, float], ...]  # seconds


def sample(piece: Piece, stems: Stems, treatment: Treatment, *, sample_rate: int, rng: np.random.Generator) -> Sample:
    """Whole bars of a piece in which all the wanted stems sound, warped as the treatment says."""
    bars = max(math.ceil(_SHORTEST / piece.bar), round(treatment.duration / piece.bar))
    bars = min(bars, int(_LONGEST / piece.bar))
    length = round(bars * piece.bar * sample_rate)
    starts = [round(bar * piece.bar * sample_rate) for bar in range(0, piece.bars - bars + 1, 2)]
    start = _lively(starts, length, [stems[name] for name in treatment.stems] or [mix(stems)], rng)
    excerpt = _faded(mix(stems, treatment.stems)[start : start + length], sample_rate)
    span = (start / sample_rate, (start + length) / sample_rate)
    return Sample(wave=warp(excerpt, treatment, sample_rate=sample_rate), reference_span=span)


def warp(wave: NDArray[np.float32], treatment: Treatment, *, sample_rate: int) -> NDArray[np.float32]:
    """Tempo, pitch and filter of a treatment; the length is divided by the tempo ratio."""
    length = round(len(wave) / treatment.tempo_ratio)
    if treatment.varispeed:
        wave = librosa.resample(wave, orig_sr=sample_rate * treatment.tempo_ratio, target_sr=sample_rate)
    elif treatment.tempo_ratio != 1.0:
        wave = librosa.effects.time_stretch(wave, rate=treatment.tempo_ratio)
    if treatment.semitones and not treatment.varispeed:
        wave = librosa.effects.pitch_shift(wave, sr=sample_rate, n_steps=treatment.semitones)
    if treatment.cutoff:
        sections = signal.butter(2, treatment.cutoff, fs=sample_rate, output="sos")
        wave = signal.sosfilt(sections, wave)
    return _faded(librosa.util.fix_length(wave, size=length).astype(np.float32), sample_rate)


def lay(
    taken: Sample, other: NDArray[np.float32], treatment: Treatment, *, sample_rate: int, rng: np.random.Generator
) -> Laid:
    """Loop a sample under other material; fewer loops where the query would become longer than 30 s."""
    length = len(taken.wave)
    before, after = (round(rng.uniform(2.0, 4.0) * sample_rate) for _ in range(2))
    step = length + round(treatment.gap * sample_rate)
    loops = max(1, min(treatment.loops, 1 + (int(_QUERY[1] * sample_rate) - before - after - length) // step))
    starts = [before + loop * step for loop in range(loops)]
    total = max(starts[-1] + length + after, round(_QUERY[0] * sample_rate))
    sampled = np.zeros(total, dtype=np.float32)
    for start in starts:
        sampled[start : start + length] += taken.wave
    other = np.resize(other, total)  # starts again where it ends too early
    sounding = np.concatenate([np.arange(start, start + length) for start in starts])
    other = other * (_rms(sampled[sounding]) / _rms(other[sounding]) * 10 ** (-treatment.level / 20))
    wave = sampled + _faded(other, sample_rate)
    spans = tuple((start / sample_rate, (start + length) / sample_rate) for start in starts)
    return Laid(wave=(wave * _PEAK / np.abs(wave).max()).astype(np.float32), spans=spans)


def _lively(starts: list[int], length: int, waves: list[NDArray[np.float32]], rng: np.random.Generator) -> int:
    """One of the starts at which the quietest of the waves is loud enough to be worth sampling."""
    loudness = np.array([min(_rms(wave[start : start + length]) for wave in waves) for start in starts])
    worthwhile = np.flatnonzero(loudness >= np.median(loudness))
    return starts[rng.choice(worthwhile)]


def _faded(wave: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    count = int(_FADE * sample_rate)
    ramp = np.linspace(0.0, 1.0, count, dtype=np.float32)
    faded = wave.astype(np.float32)
    faded[:count] *= ramp
    faded[-count:] *= ramp[::-1]
    return faded


def _rms(wave: NDArray[np.float32]) -> float:
    return max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), 1e-6)

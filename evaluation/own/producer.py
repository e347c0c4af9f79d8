"""Producer: a sampled track and other music -> a query that samples the track, with the truth about every sounding.

    dig an excerpt -> warp it -> loop or chop it -> effects -> lay it under other music -> master

A query begins and ends with other music alone.
"""

import math
from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from evaluation.own import arrangement, digging, effects, material, recipe
from evaluation.own.arrangement import Run
from evaluation.own.digging import Dug
from evaluation.own.material import Material, Silent
from evaluation.own.recipe import Recipe

SHORTEST, LONGEST = 12.0, 40.0  # seconds of a query
_AROUND = (2.0, 7.0)  # seconds without the sample at each end
_LEAST_AROUND = 2.0  # seconds at each end in any case
_TO_BEAT = 1.0  # seconds after the drawn place in which a beat of the other music is looked for
_HOP = 256  # samples between two values of the onset strength
_QUIET = 10 ** (-45 / 20)  # of full scale, RMS; under it the other music is taken for silent
_TRIES = 6  # places in the other music
_MASTERED = 0.5  # share of the queries that are compressed as a whole
_PEAK = 0.9


@dataclass(frozen=True, kw_only=True)
class Sounding:
    """One sounding of the sample or of a piece of it."""

    query_span: tuple[float, float]  # seconds
    reference_span: tuple[float, float]  # seconds
    piece: int  # 1 for the whole sample; chops count by their place in the reference


@dataclass(frozen=True, kw_only=True)
class Produced:
    """A query and the truth about it; the fields behind `how` say nothing where nothing is sampled."""

    wave: NDArray[np.float32]  # (samples,) mono
    soundings: tuple[Sounding, ...]  # by time
    how: str
    tempo_ratio: float = 1.0  # query tempo / reference tempo, exactly
    transposition: float = 0.0  # semitones
    level: float = 0.0  # dB RMS of the sample over the other music while it sounds, before mastering
    sample_type: str = ""  # riff or beat
    stems: tuple[str, ...] = ()  # taken; none: the mix


def produce(sampled: Material | None, other: Material, *, sample_rate: int, rng: np.random.Generator) -> Produced:
    """One query; without a sampled track it is the other music alone, mastered alike.

    Raises Silent where one of the tracks is silent wherever it is looked at.
    """
    drawn = recipe.draw(rng)
    if sampled is None:
        return _alone(other, drawn, sample_rate, rng)
    dug = digging.dig(sampled, drawn, sample_rate=sample_rate, rng=rng)
    longest = LONGEST - 2 * _LEAST_AROUND - _TO_BEAT
    run = arrangement.arrange(dug, drawn, longest=longest, sample_rate=sample_rate, rng=rng)
    before, total = _room(run.length, sample_rate, rng)
    music = _other(other, (before, before + run.length), total, sample_rate, rng)
    before = _to_beat(music, before, sample_rate)
    rack = effects.draw(rng, sample_rate=sample_rate)
    sample, sounds = _laid_out(run, before, total)
    sample = effects.apply(rack, sample, sample_rate=sample_rate, rng=rng)
    gain = _rms(music[sounds]) / _rms(sample[sounds]) * 10 ** (drawn.level / 20)
    wave = _mastered(music + sample * np.float32(gain), sample_rate, rng)
    return _with_truth(wave, run, before, dug, drawn, rack.names, sample_rate)


def _alone(other: Material, drawn: Recipe, sample_rate: int, rng: np.random.Generator) -> Produced:
    """Other music as long as a query with a sample."""
    _, total = _room(round(drawn.sounding * sample_rate), sample_rate, rng)
    music = _other(other, (0, total), total, sample_rate, rng)
    return Produced(wave=_mastered(music, sample_rate, rng), soundings=(), how="no sample")


def _room(run: int, sample_rate: int, rng: np.random.Generator) -> tuple[int, int]:
    """Samples before a run, and of the whole query, with the second in which a beat is looked for."""
    taken = run / sample_rate + _TO_BEAT
    around = np.clip(rng.uniform(*_AROUND, 2).sum(), SHORTEST - taken, LONGEST - taken)
    before = _LEAST_AROUND + rng.random() * (around - 2 * _LEAST_AROUND)
    return round(before * sample_rate), round((taken + around) * sample_rate)


def _other(
    other: Material, span: tuple[int, int], total: int, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Music of this many samples that is not silent in the span; a track that is too short begins again."""
    seconds = total / sample_rate
    for start in rng.uniform(0.0, max(0.0, other.duration - seconds), _TRIES):
        wave = material.read_part(other.mix, float(start), seconds + 0.1, sample_rate=sample_rate).wave
        wave = np.resize(wave, total)
        if min(_rms(part) for part in np.array_split(wave[slice(*span)], 4)) > _QUIET:
            return wave
    raise Silent(other.track, _TRIES)


def _to_beat(music: NDArray[np.float32], before: int, sample_rate: int) -> int:
    """The first beat from `before` on, within a second; `before` where there is none."""
    context = music[: before + 4 * sample_rate]
    strength = librosa.onset.onset_strength(y=context, sr=sample_rate, hop_length=_HOP)
    _, beats = librosa.beat.beat_track(onset_envelope=strength, sr=sample_rate, hop_length=_HOP, trim=False)
    places = beats * _HOP
    later = places[(places >= before) & (places < before + _TO_BEAT * sample_rate)]
    return int(later[0]) if len(later) else before


def _laid_out(run: Run, before: int, total: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The run on the query's timeline, and where it sounds."""
    sample, sounds = np.zeros(total, np.float32), np.zeros(total, bool)
    for piece, start in zip(run.pieces, run.starts, strict=True):
        place = slice(before + start, before + start + len(piece.wave))
        sample[place] = piece.wave
        sounds[place] = True
    return sample, sounds


def _mastered(wave: NDArray[np.float32], sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Compressed as a whole or not, and with its peak at 0.9."""
    wave = (wave * (_PEAK / np.abs(wave).max())).astype(np.float32)
    if rng.random() < _MASTERED:
        wave = effects.compress_all(wave, sample_rate=sample_rate)
    return wave * np.float32(_PEAK / np.abs(wave).max())


def _with_truth(
    wave: NDArray[np.float32],
    run: Run,
    before: int,
    dug: Dug,
    drawn: Recipe,
    names: tuple[str, ...],
    sample_rate: int,
) -> Produced:
    soundings = []
    for piece, start in zip(run.pieces, run.starts, strict=True):
        first = before + start
        span = (first / sample_rate, (first + len(piece.wave)) / sample_rate)
        soundings.append(Sounding(query_span=span, reference_span=piece.reference_span, piece=piece.number))
    how = ", ".join(["+".join(dug.stems) or "mix", drawn.describe(), *names])
    return Produced(
        wave=wave,
        soundings=tuple(soundings),
        how=how,
        tempo_ratio=run.tempo_ratio,
        transposition=12.0 * math.log2(run.tempo_ratio) if drawn.varispeed else drawn.transposition,
        level=drawn.level,
        sample_type=dug.sample_type,
        stems=dug.stems,
    )


def _rms(wave: NDArray[np.float32]) -> float:
    return max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), 1e-9)

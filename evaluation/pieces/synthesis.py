"""Synthesis: a composed piece -> its stems, aligned and ready to be added up.

Each distinct note is computed once and laid down wherever it is played. A stem then goes through its channel
(filter, echo, reverb, saturation, tape hiss); last, one gain for all stems keeps the mix below clipping, so that the
mix is exactly the sum of the stems.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from evaluation.pieces.composition import Piece, compose
from evaluation.pieces.drums import strike
from evaluation.pieces.instruments import play

__all__ = ["Piece", "compose", "mix", "render"]

Stems = dict[str, NDArray[np.float32]]
_PEAK = 0.9  # of the mix
_LEVELS = {"drums": -17.5, "bass": -18.5, "chords": -18.5, "lead": -18.5, "pad": -22.5, "percussion": -30.0}  # dB RMS
_VARIANTS = 4  # strokes of one drum that differ in their noise


@dataclass(frozen=True, kw_only=True)
class _Channel:
    """What happens to a stem on its way to the mix."""

    echo: float  # level of the first repeat
    echo_time: float  # seconds
    reverb: float  # level
    room: NDArray[np.float32]  # impulse response, common to the piece
    saturation: float
    hiss: float  # RMS
    tape: float  # Hz; above it the piece gets duller
    level: float  # dB RMS while the stem plays


def render(piece: Piece, *, sample_rate: int = 22050) -> Stems:
    """Stems of equal length by name (drums, bass, chords, lead, pad, percussion); float32, |mix| at most 0.9."""
    if sample_rate < 16000:
        raise ValueError(f"sample_rate must be 16000 Hz or more, got {sample_rate}; resample afterwards")
    length = int(piece.duration * sample_rate)
    dry = {stem: _lay_strokes(piece, stem, length, sample_rate) for stem in piece.strokes}
    dry |= {stem: _lay_notes(piece, stem, length, sample_rate) for stem in piece.notes}
    rng = np.random.default_rng([piece.seed, 21])
    room = _room(rng.uniform(0.25, 1.6), sample_rate, rng)
    tape = float(np.exp(rng.uniform(np.log(1800.0), np.log(6500.0))))  # Hz; old tapes and new masters
    stems = {
        stem: _through(_channel(piece, stem, room, tape, rng), wave, sample_rate, rng) for stem, wave in dry.items()
    }
    gain = _PEAK / max(float(np.abs(mix(stems)).max()), 1e-6)
    return {stem: (wave * gain).astype(np.float32) for stem, wave in stems.items()}


def mix(stems: Stems, names: tuple[str, ...] = ()) -> NDArray[np.float32]:
    """Sum of the named stems, of all where none is named."""
    missing = set(names) - set(stems)
    if missing:
        raise KeyError(f"no stem {sorted(missing)}; this piece has {sorted(stems)}")
    return np.sum([stems[name] for name in (names or stems)], axis=0, dtype=np.float32)


def _lay_notes(piece: Piece, stem: str, length: int, sample_rate: int) -> NDArray[np.float32]:
    track = np.zeros(length, dtype=np.float32)
    patch, waves = piece.patches[stem], {}
    for note in piece.notes[stem]:
        duration, accent = round(note.duration, 2), 1.0 if note.velocity > 0.75 else 0.6
        key = (note.pitch, duration, accent)
        if key not in waves:
            waves[key] = play(patch, pitch=note.pitch, duration=duration, sample_rate=sample_rate, accent=accent)
        _add(track, waves[key], int(note.start * sample_rate), note.velocity / accent)
    return track


def _lay_strokes(piece: Piece, stem: str, length: int, sample_rate: int) -> NDArray[np.float32]:
    track = np.zeros(length, dtype=np.float32)
    rng = np.random.default_rng([piece.seed, 22])
    waves = {}
    for number, stroke in enumerate(piece.strokes[stem]):
        key = (stroke.drum, number % _VARIANTS)
        if key not in waves:
            waves[key] = strike(piece.kit[stroke.drum], sample_rate=sample_rate, rng=rng)
        _add(track, waves[key], int(stroke.start * sample_rate), stroke.velocity)
    return track


def _add(track: NDArray[np.float32], wave: NDArray[np.float32], start: int, gain: float) -> None:
    end = min(start + len(wave), len(track))
    if end > start:
        track[start:end] += wave[: end - start] * np.float32(gain)


def _room(decay: float, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Decaying noise that gets darker: a small room up to a hall. `decay` is the time to -60 dB in seconds."""
    times = np.arange(int(decay * sample_rate)) / sample_rate
    noise = rng.normal(size=len(times)) * np.exp(-6.9 * times / decay)
    dark = signal.lfilter(*signal.butter(1, 2500, fs=sample_rate), noise)
    late = np.clip(times / (0.5 * decay), 0.0, 1.0)
    response = (1 - late) * noise + late * dark
    response[: int(0.008 * sample_rate)] = 0.0  # before the first reflection
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32)


def _channel(piece: Piece, stem: str, room: NDArray[np.float32], tape: float, rng: np.random.Generator) -> _Channel:
    low = stem == "bass"
    echoing = not low and rng.random() < {"lead": 0.6, "chords": 0.4}.get(stem, 0.1)
    return _Channel(
        echo=float(rng.uniform(0.2, 0.45)) if echoing else 0.0,
        echo_time=float(rng.choice([0.5, 0.75, 1.0])) * 60.0 / piece.tempo,
        reverb=0.0 if low else float(rng.uniform(0.05, 0.15 if stem in piece.strokes else 0.35)),
        room=room,
        saturation=float(rng.uniform(0.1, 1.2)),
        hiss=float(10 ** rng.uniform(-4.8, -3.6)),
        tape=tape,
        level=_LEVELS[stem] + float(rng.uniform(-2.5, 2.5)),
    )


def _through(
    channel: _Channel, wave: NDArray[np.float32], sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    playing = wave[np.abs(wave) > 1e-4]
    if len(playing) == 0:  # a stem that rests throughout stays silent
        return wave
    wave = wave / np.sqrt(np.mean(playing**2))
    wave = np.tanh(wave * 0.25 * channel.saturation) / (0.25 * channel.saturation)
    wet = wave.copy()
    delay = int(channel.echo_time * sample_rate)
    for repeat in range(1, 4 if channel.echo else 1):
        wet[repeat * delay :] += channel.echo**repeat * wave[: -repeat * delay]
    if channel.reverb:
        wet = wet + channel.reverb * signal.oaconvolve(wet, channel.room)[: len(wet)]
    gain = 10 ** (channel.level / 20)
    hiss = channel.hiss * rng.standard_normal(len(wave), dtype=np.float32)
    dull = signal.butter(1, channel.tape, fs=sample_rate)
    return signal.lfilter(*dull, wet * gain + hiss).astype(np.float32)

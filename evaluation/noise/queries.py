"""Queries: excerpts of stored recordings as a microphone hears them, in a room and under a background.

Every excerpt is rendered once, in full length, and cut from its beginning to each query length; the background is then
set to each signal-to-noise ratio over just what is left (RMS over RMS). Half of the backgrounds are babble, one to four
recordings together that are set aside and not stored, half are noise, rendered or from a folder. Rooms and noise are of
another seed than those of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder import audio
from encoder.audio import AudioError
from encoder.training import effects, noise

RATE = 16_000  # Hz, at which queries are rendered
_LEAD = 0.5  # seconds before an excerpt that reverberate into it
_AUDIBLE = 1e-3  # RMS (-60 dBFS) of every second of an excerpt, at least
_TRIES = 20
_SEED = 9_000_000  # of rooms and noise; not that of training
_BABBLE, _VOICES = 0.5, 4


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """What is asked."""

    count: int = 50  # excerpts
    lengths: tuple[float, ...] = (1, 2, 3, 5, 10)  # seconds
    snrs: tuple[float, ...] = (-6, 0, 5, 10, 15, 20)  # dB
    overlaps: tuple[float, ...] = (0.5, 0.9)  # of neighbouring segments of the references
    set_aside: int = 8  # recordings that serve as babble only
    noises: str = ""  # folder of background noise; none: rendered
    responses: str = ""  # folder of impulse responses; none: rendered
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("lengths", "snrs", "overlaps"):
            if not getattr(self, name):
                raise ValueError(f"noise: no {name}, expected one or more")
        if min(self.lengths) <= 0 or self.count < 1 or self.set_aside < 1:
            raise ValueError(
                f"noise: lengths {self.lengths}, count {self.count}, set_aside {self.set_aside}; expected more than 0"
            )
        if not all(0 <= overlap < 1 for overlap in self.overlaps):
            raise ValueError(f"noise: overlaps are {self.overlaps}, expected 0 or more and less than 1")


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """One excerpt in full length, in its room, and what lies over it."""

    source: Path
    start: float  # seconds in the source
    waveform: NDArray[np.float32]  # (samples,)
    background: NDArray[np.float32]  # (samples,)
    babble: bool  # whether the background is music

    def heard(self, *, length: float, snr: float) -> NDArray[np.float32]:
        """The first `length` seconds with the background `snr` dB under them."""
        samples = round(length * RATE)
        wave, background = self.waveform[:samples], self.background[:samples]
        gain = _rms(wave) / max(_rms(background), 1e-9) * 10 ** (-snr / 20)
        mixed = wave + np.float32(gain) * background
        return mixed / max(1.0, float(np.abs(mixed).max()))


def excerpts(sources: Sequence[Path], aside: Sequence[Path], settings: NoiseSettings) -> list[Excerpt]:
    """Audible excerpts of the sources in turn, as many as asked for; `aside` are heard in babble only.

    ValueError where the sources are too short or too silent.
    """
    import torch

    rng = np.random.default_rng(settings.seed)
    made = np.random.default_rng([_SEED, settings.seed])
    noises = noise.noises(settings.noises, made, sample_rate=RATE)
    rooms = noise.responses(settings.responses, made, sample_rate=RATE)
    voices = [audio.read(path, sample_rate=RATE) for path in aside]
    length, found = round(max(settings.lengths) * RATE), []
    for source in _in_turn(rng, sources, settings.count):
        cut = _cut(rng, source, length)
        if cut is None:
            continue
        start, wave = cut
        room = rooms[1 + rng.integers(len(rooms) - 1)]
        wave = effects.in_room(torch.from_numpy(wave)[None], torch.from_numpy(room)[None])[0].numpy()[-length:]
        babble = bool(rng.random() < _BABBLE)
        background = (
            _babble(rng, voices, length) if babble else noise.cut(rng, noises[rng.integers(len(noises))], length)
        )
        found.append(Excerpt(source=source, start=start, waveform=wave, background=background, babble=babble))
        if len(found) == settings.count:
            return found
    raise ValueError(
        f"{len(found)} excerpts of {max(settings.lengths):g} s could be cut from {len(sources)} recordings, expected "
        f"{settings.count}; give longer recordings, or ask for fewer or shorter queries"
    )


def _in_turn(rng: np.random.Generator, sources: Sequence[Path], count: int) -> list[Path]:
    """The sources in random order, over and over, twice as many as needed."""
    rounds = -(-2 * count // len(sources)) + 1 if sources else 0
    return [sources[i] for _ in range(rounds) for i in rng.permutation(len(sources))]


def _cut(rng: np.random.Generator, source: Path, length: int) -> tuple[float, NDArray[np.float32]] | None:
    """Start in seconds and an audible excerpt with what comes before it; None where there seems to be none."""
    try:
        whole = audio.read(source, sample_rate=RATE)
    except AudioError:
        return None  # what cannot be read was not stored either
    lead = round(_LEAD * RATE)
    if len(whole) < length + lead:
        return None
    for _ in range(_TRIES):
        start = int(rng.integers(lead, len(whole) - length + 1))
        parts = whole[start : start + length // RATE * RATE].reshape(-1, RATE)
        if np.sqrt(np.square(parts).mean(axis=1)).min(initial=1.0) > _AUDIBLE:
            return start / RATE, whole[start - lead : start + length]
    return None


def _babble(rng: np.random.Generator, voices: Sequence[NDArray[np.float32]], length: int) -> NDArray[np.float32]:
    chosen = rng.integers(len(voices), size=rng.integers(1, _VOICES + 1))
    parts = [noise.cut(rng, voices[i], length) for i in chosen]
    return np.sum([part / max(_rms(part), 1e-3) for part in parts], axis=0).astype(np.float32) * np.float32(0.1)


def _rms(x: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))

"""Excerpts: are short, pitched and stretched excerpts of stored recordings found? The plainest whole-path measure.

Nothing is mixed over the excerpts, so this measures robustness to warping and the path itself, not sample
identification under interference. The warps are librosa's (phase vocoder and resampling), not the training code's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from encoder import audio
from encoder.audio import AudioError

_RATE = 16_000  # Hz


@dataclass(frozen=True, kw_only=True)
class ExcerptSettings:
    """What is cut and how it is warped."""

    count: int = 50
    duration: float = 10.0  # seconds, after stretching
    tempo: tuple[float, float] = (0.7, 1.5)  # log-uniform
    transposition: float = 3.0  # semitones, uniform in both directions
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """One query and where it comes from."""

    query: Path
    source: Path
    start: float  # seconds in the source
    tempo: float
    transposition: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with its bootstrap 95 % interval over queries."""

    value: float
    low: float
    high: float
    count: int


def render(sources: Sequence[Path], directory: Path, settings: ExcerptSettings) -> Iterator[Excerpt]:
    """Cut and warp `count` excerpts of different sources long enough for one, written as flac into `directory`."""
    rng = np.random.default_rng(settings.seed)
    directory.mkdir(parents=True, exist_ok=True)
    made = 0
    for source in rng.permutation(np.array([str(s) for s in sorted(sources)])):
        excerpt = _excerpt(rng, Path(source), directory / f"{made:03d}.flac", settings)
        if excerpt is not None:
            yield excerpt
            made += 1
        if made == settings.count:
            return
    raise ValueError(
        f"{made} recordings are long enough for an excerpt, expected {settings.count}; give more, or fewer --count"
    )


def share_first(excerpts: Sequence[Excerpt], first: Callable[[Path], Path | None], *, seed: int = 1) -> Share:
    """Share of excerpts whose source stands first; `first` maps a query to the path of its best match."""
    hits = np.array([first(e.query) == e.source for e in excerpts], float)
    resampled = np.random.default_rng(seed).choice(hits, (2000, len(hits))).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Share(value=float(hits.mean()), low=float(low), high=float(high), count=len(hits))


def _excerpt(rng: np.random.Generator, source: Path, query: Path, settings: ExcerptSettings) -> Excerpt | None:
    tempo = float(np.exp(rng.uniform(*np.log(settings.tempo))))
    transposition = float(rng.uniform(-settings.transposition, settings.transposition))
    try:
        wave = audio.read(source, sample_rate=_RATE)
    except AudioError:
        return None  # what cannot be read was not stored either
    length = round(settings.duration * tempo * _RATE)
    if len(wave) < length + _RATE:
        return None
    start = int(rng.integers(0, len(wave) - length))
    cut = wave[start : start + length]
    if np.sqrt(np.square(cut).mean()) < 1e-3:
        return None  # silence has nothing to be found by
    soundfile.write(query, _warped(cut, tempo, transposition), _RATE)
    return Excerpt(query=query, source=source, start=start / _RATE, tempo=tempo, transposition=transposition)


def _warped(wave: NDArray[np.float32], tempo: float, transposition: float) -> NDArray[np.float32]:
    wave = librosa.effects.time_stretch(wave, rate=tempo)
    wave = librosa.effects.pitch_shift(wave, sr=_RATE, n_steps=transposition)
    return wave / max(1.0, float(np.abs(wave).max()) / 0.99)

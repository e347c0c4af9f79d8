"""Noise: pairs for exact identification, (excerpt, the same excerpt as a microphone hears it), from the stem cache.

GraFPrint's recipe: the query view begins up to 50 ms earlier or later, is heard in a room (impulse response) and lies
under background noise of 0 to 20 dB SNR. The background is babble, 1 to 4 other tracks of the same split together, or
noise. Rooms and noise are rendered here, or read from folders of the user's own.

A pair is one of encoder/training/pairs.py whose sample is the whole excerpt and whose interference is the background;
rooms, levels and mixing are applied on the device, batch by batch, with the code of all other pairs
(encoder/training/augment.py). What was heard just before the window reverberates into it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder import audio
from encoder.limits import DEFAULT
from encoder.segments import SegmentGrid
from encoder.training import mixing
from encoder.training.pairing import NoisePairing
from encoder.training.pairs import Moment, Pair, PairBatch, PairMaker, middle, rms
from encoder.training.schedule import refuse_unread
from encoder.training.stem_cache import StemCache

_LEAD = 0.5  # seconds before a window that reverberate into it
_TAPS = 1.0  # seconds of an impulse response
_ROOMS, _NOISES, _SECONDS = 64, 12, 30.0  # rendered, and how long a noise is
_DECAY = (0.15, 1.0)  # seconds to fall by 60 dB, log-uniform
_WET = (-12.0, 3.0)  # dB of the reverberation under (over) the direct sound
_GAP = (0.002, 0.02)  # seconds between direct sound and first reflection
_LONGEST = 120.0  # seconds taken of a noise file
_LIMITS = replace(DEFAULT, shortest=0.001)  # an impulse response may be short
# Of how other samples are chosen and shortened: here the whole excerpt is the sample, at a level.
_UNREAD = ("gain", "foreign_interference", "whole_reference", "drums", "short", "shortest", "chopped")
_SEED = 5_000_000  # of what is rendered: the same rooms and noises for every run


class NoisePairMaker(PairMaker):
    """Draws batches of clean and noisy views; batch n of a seed is always the same.

    ValueError where a field of the pairing was changed that is not read here.
    """

    def __init__(
        self, cache: StemCache, pairing: NoisePairing, grid: SegmentGrid, n_fft: int, *, split: str, seed: int
    ) -> None:
        refuse_unread(pairing, NoisePairing(), _UNREAD, what="pairing")
        super().__init__(cache, pairing, grid, n_fft, split=split, seed=seed)
        self.shift, self.lead = self.offset, round(_LEAD * grid.sample_rate)
        self.offset += self.lead  # so much is read on both sides of a window
        rng = np.random.default_rng(_SEED)
        self.noises = noises(pairing.noises, rng, sample_rate=grid.sample_rate)
        self.rooms = responses(pairing.responses, rng, sample_rate=grid.sample_rate)

    def batch(self, number: int, size: int, *, step: int | None = None) -> PairBatch:
        """Batch `number` of this maker's seed, of `size` pairs; `step` as in PairMaker."""
        rng = np.random.default_rng([self.seed, number, 1])
        chosen = rng.integers(1, len(self.rooms), size) * (rng.random(size) < self.pairing.rooms)
        return replace(super().batch(number, size, step=step), responses=self.rooms[chosen])

    def _pair(self, rng: np.random.Generator, moment: Moment, tempo: float) -> Pair:
        excerpt = moment.stems.sum(axis=0)
        shift = round(rng.uniform(-1, 1) * self.shift)
        sample = middle(excerpt, self._read(tempo) + 2 * self.lead, shift=shift)[: self._read(tempo) + self.lead]
        source, background = self._background(rng, moment.track, tempo)
        return Pair(
            reference=middle(excerpt, self.widest),
            sample=sample,
            interference=background,
            loudness=(rms(sample[self.lead :]), rms(background)),
            track=moment.track,
            source=source,
            moment=moment,
        )

    def _background(self, rng: np.random.Generator, number: int, tempo: float) -> tuple[int, NDArray[np.float32]]:
        """What lies over an excerpt of that track, and the track it is of: nobody's where it is several or noise."""
        length = self._read(tempo)
        if rng.random() >= self.pairing.babble:
            return mixing.NOBODY, cut(rng, self.noises[rng.integers(len(self.noises))], length)
        voices = [self._foreign(rng, number, tempo) for _ in range(rng.integers(1, self.pairing.voices + 1))]
        levelled = [middle(v, length) / max(rms(middle(v, length)), mixing.SILENT) for _, v in voices]
        # Of several voices the first one counts as a view's cover; the others are as faint as what they all lie over.
        return voices[0][0], np.sum(levelled, axis=0) * np.float32(0.1)


def cut(rng: np.random.Generator, noise: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """A random stretch of that many samples; shorter noise is repeated."""
    start = int(rng.integers(0, max(len(noise) - length, 0) + 1))
    return np.resize(noise[start:], length) if len(noise) < length else noise[start : start + length]


def noises(folder: str, rng: np.random.Generator, *, sample_rate: int) -> list[NDArray[np.float32]]:
    """Background noises, each (samples,): the files of a folder, or rendered ones where none is given.

    Rendered: spectra that fall by 0 to 6 dB an octave, steady or swelling slowly, as of rooms, streets and crowds.
    """
    if folder:
        heard = [noise for noise in _read(folder, sample_rate, "background noise") if rms(noise) > mixing.SILENT]
        if not heard:
            raise ValueError(
                f"{folder}: holds only silent files, expected background noise; leave it away to have it rendered"
            )
        return heard
    return [_noise(rng, slope, sample_rate) for slope in np.linspace(0, 1, _NOISES)]


def responses(folder: str, rng: np.random.Generator, *, sample_rate: int) -> NDArray[np.float32]:
    """Impulse responses (rooms, taps) of power 1, the direct sound first; the first of them is no room at all."""
    taps = round(_TAPS * sample_rate)
    dry = np.eye(1, taps, dtype=np.float32)
    if folder:
        rooms = (_aligned(response, taps) for response in _read(folder, sample_rate, "impulse responses"))
    else:
        rooms = (_room(rng, taps, sample_rate) for _ in range(_ROOMS))
    return np.concatenate([dry, *(room[None] / np.sqrt(room @ room) for room in rooms)]).astype(np.float32)


def _noise(rng: np.random.Generator, slope: float, sample_rate: int) -> NDArray[np.float32]:
    """Noise whose amplitude falls as frequency to the power of -slope; every other one swells and fades."""
    samples = round(_SECONDS * sample_rate)
    frequencies = np.fft.rfftfreq(samples, 1 / sample_rate)
    shape = np.maximum(frequencies, 50.0) ** -slope
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * shape, samples)
    if rng.random() < 0.5:
        seconds = np.arange(round(_SECONDS) + 1)
        swell = np.interp(np.arange(samples) / sample_rate, seconds, rng.uniform(-6, 6, len(seconds)))  # dB
        noise *= 10 ** (swell / 20)
    return (0.1 * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _room(rng: np.random.Generator, taps: int, sample_rate: int) -> NDArray[np.float64]:
    """Direct sound and decaying noise."""
    decay = np.exp(rng.uniform(*np.log(_DECAY)))
    first = round(rng.uniform(*_GAP) * sample_rate)
    tail = rng.standard_normal(taps - first) * np.exp(-np.log(1000) * np.arange(taps - first) / (decay * sample_rate))
    room = np.concatenate([np.zeros(first), tail / np.sqrt(tail @ tail) * 10 ** (rng.uniform(*_WET) / 20)])
    room[0] = 1.0
    return room


def _aligned(response: NDArray[np.float32], taps: int) -> NDArray[np.float64]:
    """A recorded response from its direct sound (the strongest tap) on, so that it does not delay."""
    start = int(np.abs(response).argmax())
    kept = response[start : start + taps].astype(np.float64)
    if not kept.any():
        raise ValueError("an impulse response is silent; take it out of the folder")
    return np.pad(kept, (0, taps - len(kept)))


def _read(folder: str, sample_rate: int, what: str) -> Iterator[NDArray[np.float32]]:
    files = sorted(f for f in Path(folder).expanduser().rglob("*") if f.suffix.lower() in audio.SUFFIXES)
    if not files:
        raise ValueError(f"{folder}: holds no audio file, expected {what}; leave it away to have it rendered")
    for file in files:
        yield audio.read(file, sample_rate=sample_rate, limits=_LIMITS)[: round(_LONGEST * sample_rate)]

"""Resampled: a stem cache (16 kHz) as if it were of another sample rate, for systems whose grid has another one."""

from dataclasses import replace
from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from encoder.training.stem_cache import SAMPLE_RATE, StemCache, StemTrack

_MARGIN = 4  # blocks resampled on both sides of what is read, so that no edge is heard


class Resampled:
    """Reads a cache at another rate; the same stretch is the same samples wherever reading begins."""

    def __init__(self, cache: StemCache, sample_rate: int) -> None:
        self.cache, self.sample_rate = cache, sample_rate
        shared = gcd(sample_rate, SAMPLE_RATE)
        self._up, self._down = sample_rate // shared, SAMPLE_RATE // shared
        self.tracks = [replace(track, length=track.length * self._up // self._down) for track in cache.tracks]
        self._stored = {id(mine): stored for mine, stored in zip(self.tracks, cache.tracks, strict=True)}

    def read(self, track: StemTrack, start: int, length: int) -> NDArray[np.float32]:
        """``length`` samples of all stems of a track from ``start`` on, as (stems, length), zero outside the track."""
        first = start // self._up - _MARGIN  # in blocks, which begin at a sample of either rate
        last = -(-(start + length) // self._up) + _MARGIN
        stored = self.cache.read(self._stored[id(track)], first * self._down, (last - first) * self._down)
        skipped = start - first * self._up
        return resample_poly(stored, self._up, self._down, axis=1)[:, skipped : skipped + length]

    def __len__(self) -> int:
        return len(self.tracks)


def at_rate(cache: StemCache, sample_rate: int) -> StemCache | Resampled:
    """The cache itself where it is of that rate, else as if it were."""
    return cache if sample_rate == SAMPLE_RATE else Resampled(cache, sample_rate)

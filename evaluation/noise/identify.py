"""Identify: an encoder and its stored recordings, asked for noisy excerpts; the real path, not a shortcut of it.

encode -> candidates (Milvus) -> diagonals of consecutive segments (Zarr) -> recording and offset.

The overlap of segments is that of the references; a query is encoded with a hop of at most an eighth of a segment that
divides it (reranker/sequence.py). To the store every overlap is an encoder of its own, with a digest that no catalogue
of the user's has.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from encoder import audio
from encoder.encode import Encoder
from evaluation.noise.queries import RATE, Excerpt, NoiseSettings
from reranker.sequence import SequenceRanker
from store.references import References

CANDIDATES = 20  # per query segment
_FINEST = 8  # query hops in a segment, at least


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said of one excerpt at one length and one signal-to-noise ratio."""

    excerpt: int
    source: str  # path of the recording it is of: excerpts of one recording are no independent evidence
    length: float  # seconds
    snr: float  # dB
    babble: bool
    song: bool  # whether the recording stands first
    error: float  # seconds between the offset told and the true one; infinite where the recording is wrong
    seconds: float  # wall time of the answer; NaN where it was not measured


def overlapping(encoder: Encoder, overlap: float) -> Encoder:
    """The encoder with segments that overlap so far."""
    return stepped(encoder, max(1, round(encoder.grid.frames * (1 - overlap))))


def asking(encoder: Encoder) -> Encoder:
    """The encoder with a hop for queries: a divisor of its own, and at most an eighth of a segment."""
    own, most = encoder.grid.step, max(1, encoder.grid.frames // _FINEST)
    return stepped(encoder, max(step for step in range(1, min(own, most) + 1) if own % step == 0))


def stepped(encoder: Encoder, step: int) -> Encoder:
    """The same network with `step` frames between segment starts."""
    other = copy.copy(encoder)
    other.system = replace(encoder.system, grid=replace(encoder.grid, step=step))
    other.digest = hashlib.sha256(f"{encoder.digest} noise {step}".encode()).hexdigest()
    return other


def store(
    references: References, encoder: Encoder, paths: Sequence[Path], *, progress: Callable[[int, int], None]
) -> dict[Path, str]:
    """Store what is not stored yet; returns the recordings that cannot be used, each with its reason."""
    plan = references.plan(paths)
    for done, pending in enumerate(plan.pending, 1):
        try:
            duration = audio.info(pending.path).duration
            references.add(pending, encoder.blocks(pending.path), duration=duration)
        except ValueError as error:  # AudioError, or what the store refuses: more segments than a track may have
            references.failed(pending.number, str(error))
        progress(done, len(plan.pending))
    return {track.path: track.reason for track in references.catalogue.by_paths(list(paths)) if track.state == "failed"}


class Identifier:
    """Says which stored recording an excerpt is of, and from which second on."""

    def __init__(
        self, encoder: Encoder, references: References, *, candidates: int = CANDIDATES, without: Sequence[int] = ()
    ) -> None:
        """Tracks `without` are stored, but not of this catalogue."""
        self._encoder, self._references = asking(encoder), references
        self._candidates, self._without, self._ranker = candidates, without, SequenceRanker()

    def __call__(self, waveform: NDArray[np.float32]) -> tuple[Path, float] | None:
        """Recording and offset in seconds of a waveform (samples,) at RATE; None where nothing is heard."""
        query = self._encoder.encode_waveform(resampled(waveform, self._encoder.grid.sample_rate))
        if not len(query):
            return None
        candidates = self._references.candidates(
            query.fingerprints, limit=self._candidates, exclude_tracks=self._without
        )
        for match in self._ranker(query, candidates, self._references):
            if match.occurrences:
                (place,) = match.occurrences
                return match.reference.path, place.reference_span[0] - place.query_span[0]
        return None


def ask(
    identify: Callable[[NDArray[np.float32]], tuple[Path, float] | None],
    excerpts: Sequence[Excerpt],
    settings: NoiseSettings,
) -> Iterator[Answer]:
    """An answer for every excerpt, length and signal-to-noise ratio."""
    for number, excerpt in enumerate(excerpts):
        for length in settings.lengths:
            for snr in settings.snrs:
                began = time.perf_counter()
                found = identify(excerpt.heard(length=length, snr=snr))
                yield judged(number, excerpt, length, snr, found, seconds=time.perf_counter() - began)


def judged(
    number: int, excerpt: Excerpt, length: float, snr: float, found: tuple[Path, float] | None, *, seconds: float
) -> Answer:
    """What was found against the truth."""
    song = found is not None and found[0] == excerpt.source
    error = abs(found[1] - excerpt.start) if song else np.inf
    about = dict(excerpt=number, source=str(excerpt.source), length=length, snr=snr, babble=excerpt.babble)
    return Answer(**about, song=song, error=float(error), seconds=seconds)


def resampled(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """A waveform at RATE as one at that rate."""
    if sample_rate == RATE:
        return waveform
    shared = gcd(sample_rate, RATE)
    return resample_poly(waveform, sample_rate // shared, RATE // shared).astype(np.float32)

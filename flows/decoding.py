"""Sources: where the waveform of a track comes from: its file, or a worker that has decoded it for one with a GPU.

A machine with a GPU need not spend its cores on decoding while others have some to spare. With the setting
`decoding = "apart"`, Dask workers that offer the resource CPU decode, and those that offer GPU encode and store:

    dask worker SCHEDULER --nthreads 4 --resources "CPU=4"
    dask worker SCHEDULER --nthreads 1 --resources "GPU=1"
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from encoder import audio
from encoder.audio import AudioError, AudioInfo
from encoder.encode import Encoder
from encoder.encoding import Encoding
from encoder.limits import Limits
from store.plan import Pending

_LONGEST = 1800.0  # seconds handed on as a waveform (115 MB at 16 kHz); whoever encodes decodes more by itself


class Source(Protocol):
    """A track that is about to be encoded."""

    pending: Pending

    def blocks(self, encoder: Encoder) -> Iterator[Encoding]:
        """Its consecutive encodings; AudioError."""

    def info(self, limits: Limits) -> AudioInfo:
        """Its tags and duration; AudioError."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A track decoded while it is encoded."""

    pending: Pending

    def blocks(self, encoder: Encoder) -> Iterator[Encoding]:
        """See ``Source``."""
        return encoder.blocks(self.pending.path)

    def info(self, limits: Limits) -> AudioInfo:
        """See ``Source``."""
        return audio.info(self.pending.path, limits=limits)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A track that another worker has decoded, or what it found wrong with it."""

    pending: Pending
    samples: NDArray[np.float32] | None = None  # mono at the encoder's rate; None: too long, or an error
    tags: AudioInfo | None = None
    error: AudioError | None = None

    def blocks(self, encoder: Encoder) -> Iterator[Encoding]:
        """See ``Source``."""
        if self.samples is None:
            return encoder.blocks(self.pending.path)
        return encoder.encode_stream([self.samples])

    def info(self, limits: Limits) -> AudioInfo:
        """See ``Source``."""
        if self.error is not None:
            raise self.error
        return self.tags


@task(name="decode-batch", cache_policy=NO_CACHE, persist_result=False)
def decode_batch(batch: tuple[Pending, ...], sample_rate: int, limits: Limits) -> list[Decoded]:
    """Decode the tracks of one batch; a bad file is a source with an error."""
    return [decoded(pending, sample_rate, limits) for pending in batch]


def decoded(pending: Pending, sample_rate: int, limits: Limits) -> Decoded:
    """One track, mono at `sample_rate`, with its tags."""
    try:
        tags = audio.info(pending.path, limits=limits)
        if tags.duration > _LONGEST:
            return Decoded(pending=pending, tags=tags)
        samples = audio.read(pending.path, sample_rate=sample_rate, limits=limits)
    except AudioError as error:
        return Decoded(pending=pending, error=error)
    return Decoded(pending=pending, tags=tags, samples=samples)

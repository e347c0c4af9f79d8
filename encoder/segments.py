"""Segments: the fixed grid on which every track is cut. Hop and duration live only here.

Frame ``f`` of a track is the analysis window centred on sample ``f * frame_hop`` (the signal is reflected at both
ends); segment ``i`` holds the ``frames`` frames from ``i * step`` on. The defaults are the published evaluation
framing of NeuralSampleID: 128 frames of 32 ms, every 16 frames, so 4.096 s every 0.512 s.

Shingled, a track is cut before the front end sees it: segment ``i`` is the ``frames * frame_hop`` samples from
``i * step * frame_hop`` on, with a reflection of its own at both ends, and where the last one reaches beyond the end
it goes on with the start of the track (CLEWS).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SegmentGrid:
    """How a waveform is cut into frames and segments."""

    sample_rate: int = 16_000  # Hz
    frame_hop: int = 512  # samples
    frames: int = 128  # per segment
    step: int = 16  # frames between segment starts
    minimum_samples: int = 65_280  # shorter audio is padded with zeros to this length (4.08 s, as published)
    shingled: bool = False  # cut before the front end
    repeated: bool = True  # what fills the last shingle: the start of the track again, or silence

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not False and value < 1:
                raise ValueError(f"segment grid: {name} is {value}, expected a positive integer")
        if self.minimum_samples < (self.frames - 1) * self.frame_hop:
            raise ValueError(
                f"segment grid: minimum_samples {self.minimum_samples} does not fill {self.frames} frames, "
                f"set it to at least {(self.frames - 1) * self.frame_hop}"
            )

    @property
    def hop(self) -> float:
        """Seconds between segment starts."""
        return self.step * self.frame_hop / self.sample_rate

    @property
    def duration(self) -> float:
        """Seconds one segment lasts."""
        return self.frames * self.frame_hop / self.sample_rate

    def count(self, samples: int) -> int:
        """Segments of a track of that many samples; a tail that fills no segment is dropped (shingled: completed)."""
        if self.shingled:
            beyond = max(samples - self.frames * self.frame_hop, 0)
            return -(-beyond // (self.step * self.frame_hop)) + 1
        frames = max(samples, self.minimum_samples) // self.frame_hop + 1
        return (frames - self.frames) // self.step + 1

    def window(self, segments: int, n_fft: int) -> int:
        """Samples of padded (shingled: of bare) signal under that many consecutive segments."""
        if self.shingled:
            return ((segments - 1) * self.step + self.frames) * self.frame_hop
        return ((segments - 1) * self.step + self.frames - 1) * self.frame_hop + n_fft


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive segments of one track, as the stretch of signal that holds them all (see `SegmentGrid.window`)."""

    first: int  # index of the first segment
    segments: int
    samples: NDArray[np.float32]  # (grid.window(segments, n_fft),)


def blocks(chunks: Iterable[NDArray[np.float32]], grid: SegmentGrid, n_fft: int, *, size: int = 256) -> Iterator[Block]:
    """Blocks of up to `size` segments from a stream of mono chunks; memory is bounded by one block and one chunk."""
    stride = grid.step * grid.frame_hop
    buffer, first = np.zeros(0, np.float32), 0
    for piece in _wrapped(chunks, grid) if grid.shingled else _reflected(chunks, grid.minimum_samples, n_fft // 2):
        buffer = np.concatenate([buffer, piece])
        while len(buffer) >= grid.window(size + 1, n_fft):
            yield Block(first=first, segments=size, samples=buffer[: grid.window(size, n_fft)])
            buffer, first = buffer[size * stride :], first + size
    rest = (len(buffer) - grid.window(1, n_fft)) // stride + 1
    if rest > 0:
        yield Block(first=first, segments=rest, samples=buffer[: grid.window(rest, n_fft)])


def _reflected(chunks: Iterable[NDArray[np.float32]], minimum: int, margin: int) -> Iterator[NDArray[np.float32]]:
    """The stream with its first and last `margin` samples mirrored around the ends, and zeros up to `minimum`."""
    held, started, total = np.zeros(0, np.float32), False, 0
    for chunk in chunks:
        held, total = np.concatenate([held, chunk]), total + len(chunk)
        if not started and len(held) > 2 * margin:
            yield held[margin:0:-1]
            started = True
        if started and len(held) > 2 * margin + 1:
            yield held[: -margin - 1]
            held = held[-margin - 1 :]
    if total < minimum:
        held = np.concatenate([held, np.zeros(minimum - total, np.float32)])
    if not started:
        yield held[margin:0:-1]
    yield held
    yield held[-2 : -margin - 2 : -1]


def _wrapped(chunks: Iterable[NDArray[np.float32]], grid: SegmentGrid) -> Iterator[NDArray[np.float32]]:
    """The stream, and after its end its start again, as often as the last segment needs."""
    head, total = np.zeros(0, np.float32), 0
    most = max(grid.frames, grid.step) * grid.frame_hop  # no more is needed of a track that is longer
    for chunk in chunks:
        if total < most:
            head = np.concatenate([head, chunk])[:most]
        total += len(chunk)
        yield chunk
    missing = grid.window(grid.count(total), 0) - total
    yield np.resize(head, missing) if total and grid.repeated else np.zeros(missing, np.float32)

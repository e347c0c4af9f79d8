"""Encoding: what one track (or one block of a long one) is turned into. numpy only, so that store/ stays free of torch.

A track is cut on a fixed grid: segment ``i`` starts at ``i * hop`` seconds. Silent segments have no fingerprint,
so ``segment_indices`` may have gaps. The contrast features (encoder/contrast.py) run through without gaps, a row a hop.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Segments of one track with their fingerprints and node matrices; rows belong together."""

    segment_indices: NDArray[np.int64]  # (segments,), rising; position on the hop grid
    fingerprints: NDArray[np.float32]  # (segments, dimensions), L2-normalised
    node_matrices: NDArray[np.float16]  # (segments, nodes, channels)
    hop: float  # seconds between segment starts
    segment_duration: float  # seconds
    # (hops, frames of a hop, semitones), consecutive from hop `first_hop` on; empty where the front end has none
    contrast: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    first_hop: int = 0
    duration: float = 0.0  # seconds of audio in all, where the whole of a track is joined; segments may reach beyond

    def __post_init__(self) -> None:
        lengths = (len(self.segment_indices), len(self.fingerprints), len(self.node_matrices))
        if len(set(lengths)) != 1:
            raise ValueError(f"rows of an encoding must agree, got (indices, fingerprints, node matrices) = {lengths}")

    def __len__(self) -> int:
        return len(self.segment_indices)

    @property
    def starts(self) -> NDArray[np.float64]:
        """Start of each segment in seconds."""
        return self.segment_indices * self.hop

    def without_node_matrices(self) -> "Encoding":
        """The same with node matrices of no nodes."""
        return replace(self, node_matrices=np.empty((len(self), 0, 0), np.float16))

    def heard(self, hops: slice, *, piece: int) -> NDArray[np.uint8]:
        """Contrast features (frames, semitones) of these hops, in so many frames as the audio fills or begins pieces.

        What is shorter than a segment is padded to one: silence that nobody has asked about.
        """
        features = self.contrast[hops].reshape(-1, self.contrast.shape[2])
        if not self.duration:
            return features
        frames = (self.duration / self.hop - hops.start) * self.contrast.shape[1]
        return features[: math.ceil(frames / piece) * piece]

    @property
    def features(self) -> NDArray[np.uint8]:
        """Contrast features (frames, semitones) from the first hop on."""
        return self.contrast.reshape(-1, self.contrast.shape[2])


def join(blocks: Iterable[Encoding]) -> Encoding:
    """One encoding from the consecutive blocks of one track; at least one block is needed."""
    blocks = list(blocks)
    if not blocks:
        raise ValueError("no blocks to join; an encoder yields at least one block per track")
    return Encoding(
        segment_indices=np.concatenate([b.segment_indices for b in blocks]),
        fingerprints=np.concatenate([b.fingerprints for b in blocks]),
        node_matrices=np.concatenate([b.node_matrices for b in blocks]),
        hop=blocks[0].hop,
        segment_duration=blocks[0].segment_duration,
        contrast=np.concatenate([b.contrast for b in blocks]),
        first_hop=blocks[0].first_hop,
    )

"""What a block must be before it is stored; a wrong one is refused here, where its track can still be named."""

from collections.abc import Iterable, Iterator

import numpy as np

from encoder.encoding import Encoding
from store.identity import Identity
from store.segment_ids import LAST_INDEX

_INFINITY = 0x7C00  # float16


def checked(blocks: Iterable[Encoding], identity: Identity) -> Iterator[Encoding]:
    """Pass on the consecutive blocks of one track; ValueError at the first that does not fit."""
    last = -1  # index of the latest segment
    for block in blocks:
        _require_shapes(block, identity)
        if len(block):
            _require_values(block)
            _require_rising(block.segment_indices, last)
            last = int(block.segment_indices[-1])
        yield block


def _require_shapes(block: Encoding, identity: Identity) -> None:
    expected = {
        "fingerprints": (identity.dimensions,),
        "node_matrices": (identity.nodes, identity.channels),
        "contrast": (identity.contrast_frames, identity.semitones),
    }
    for name, shape in expected.items():
        if getattr(block, name).shape[1:] != shape:
            raise ValueError(
                f"{name} must be (segments, *{shape}), got {getattr(block, name).shape}; use one checkpoint"
            )
    if (block.hop, block.segment_duration) != (identity.hop, identity.segment_duration):
        raise ValueError(
            f"segments of {block.segment_duration} s every {block.hop} s do not belong to a catalogue of "
            f"{identity.segment_duration} s every {identity.hop} s; encode with the catalogue's checkpoint"
        )


def _require_values(block: Encoding) -> None:
    for name in ("fingerprints", "node_matrices"):
        largest = peaks(getattr(block, name))
        wrong = (largest == 0) | (largest >= _INFINITY)
        if wrong.any():
            raise ValueError(
                f"{name} of segment {block.segment_indices[wrong][0]} are all zero or not finite; "
                "a silent segment is left out of its encoding"
            )
    lengths = np.linalg.norm(block.fingerprints, axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        raise ValueError(
            f"fingerprints must have length 1, got {lengths.min():.3f} to {lengths.max():.3f}; normalise them"
        )


def peaks(values: np.ndarray) -> np.ndarray:
    """Bits of the largest absolute float16 of each row (rows, ...): 0 for a row of zeros, 0x7C00 or more for NaN, inf.

    Compared as integers, which have the order of the absolute values; ten times as fast as numpy's float16.
    """
    halves = np.ascontiguousarray(values, np.float16).view(np.uint16) & 0x7FFF
    return halves.max(axis=tuple(range(1, values.ndim)), initial=0)


def _require_rising(indices: np.ndarray, last: int) -> None:
    if indices[0] <= last or (np.diff(indices) <= 0).any():
        raise ValueError(f"segment indices must rise through all blocks, got {indices[:4]} … after {last}")
    if indices[-1] > LAST_INDEX:
        raise ValueError(
            f"segment {indices[-1]} lies beyond the last one that an id can name, {LAST_INDEX} (over 9 hours at a hop "
            "of 0.5 s); cut the recording into parts"
        )

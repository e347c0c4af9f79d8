"""Segment ids: one int64 that tells the track and the position of a segment in it.

    id = track_number << 16 | segment_index

The id follows from the track and the hop grid alone, so writing a segment twice is harmless. All functions
take numbers or arrays and work element by element.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

INDEX_BITS = 16
LAST_INDEX = (1 << INDEX_BITS) - 1
LAST_TRACK = (1 << 31) - 1  # Zarr arrays have room for as many


def segment_id(track_number: ArrayLike, segment_index: ArrayLike) -> NDArray[np.int64]:
    """Ids of the given segments; ValueError where a number does not fit into its bits."""
    tracks, indices = np.asarray(track_number, np.int64), np.asarray(segment_index, np.int64)
    _require_within(tracks, LAST_TRACK, "track number", "start a second catalogue")
    _require_within(
        indices, LAST_INDEX, "segment index", "cut the recording (over 9 hours at a hop of 0.5 s) into parts"
    )
    return tracks << INDEX_BITS | indices


def track_of(ids: ArrayLike) -> NDArray[np.int64]:
    """Track number of each id."""
    return np.asarray(ids, np.int64) >> INDEX_BITS


def index_of(ids: ArrayLike) -> NDArray[np.int64]:
    """Position of each segment on the hop grid of its track."""
    return np.asarray(ids, np.int64) & LAST_INDEX


def _require_within(values: NDArray[np.int64], last: int, name: str, cure: str) -> None:
    wrong = values[(values < 0) | (values > last)]
    if wrong.size:
        raise ValueError(f"{name} {wrong.flat[0]} lies outside 0..{last}; {cure}")

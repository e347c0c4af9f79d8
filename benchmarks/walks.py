"""Fingerprints for benchmarks, track by track: clustered random walks, or those of a real catalogue under noise."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

SEGMENTS, DIMENSIONS = 413, 128  # of a track of 210 s at a hop of 0.5 s
GENRES, NEIGHBOUR, COPY = 40, 0.85, 0.80  # NEIGHBOUR: cosine to the next segment; COPY: of a tile to its original

Tracks = Iterator[NDArray[np.float32]]  # fingerprints (segments, dimensions) of one track after the other


def walks(seed: int = 0) -> Tracks:
    """Clustered random walks: what a segment shares with its genre, with its track, and its own part, which moves on.

    Half of the segments repeat the one 32 earlier, as music does.
    """
    random = np.random.default_rng(seed)
    genres = unit(random.standard_normal((GENRES, DIMENSIONS)))
    shared, kept = 0.6, 1 - (1 - NEIGHBOUR) / 0.4  # 0.6 + 0.4 * kept = NEIGHBOUR
    while True:
        centre = (
            0.3**0.5 * genres[random.integers(GENRES)] + 0.3**0.5 * unit(random.standard_normal((1, DIMENSIONS)))[0]
        )
        steps, own = unit(random.standard_normal((SEGMENTS, DIMENSIONS))), np.empty((SEGMENTS, DIMENSIONS))
        repeats = random.random(SEGMENTS) < 0.5
        for i, step in enumerate(steps):
            moved = step if i == 0 else kept * own[i - 1] + (1 - kept**2) ** 0.5 * step
            own[i] = 0.98 * own[i - 32] + 0.2 * step if i >= 32 and repeats[i] else moved
        yield unit(centre + (1 - shared) ** 0.5 * own)


def tiled(data: Path, seed: int = 0) -> Tracks:
    """Tracks made of the fingerprints of a data directory, again and again, each round under noise of its own."""
    arrays = [zarr.open_array(folder.parent, mode="r") for folder in data.glob("nodes/*/fingerprints/zarr.json")]
    random = np.random.default_rng(seed)
    for tile in count():
        for array in arrays:
            for start in range(0, array.shape[0] - SEGMENTS, SEGMENTS) if array.ndim == 2 else stored_tracks(array):
                rows = np.asarray(array[start : start + SEGMENTS] if array.ndim == 2 else array[start, :SEGMENTS])
                present = unit(rows[rows.any(axis=1)].astype(np.float32))
                if len(present):
                    yield noisy(present, COPY, random) if tile else present


def stored_tracks(array: zarr.Array) -> list[int]:
    """Numbers of the tracks that have a shard in an array [track, hop, ...]."""
    return sorted(int(folder.name) for folder in (array.store.root / array.path / "c").iterdir())


def noisy(fingerprints: NDArray, cosine: float, random: np.random.Generator) -> NDArray[np.float32]:
    """The fingerprints under noise that leaves them this similar to what they were."""
    noise = unit(random.standard_normal(fingerprints.shape))
    return unit(cosine * fingerprints + (1 - cosine**2) ** 0.5 * noise)


def unit(values: NDArray) -> NDArray[np.float32]:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

"""Zarr: node matrices, fingerprints and contrast features of every track, the source of truth for what was computed.

One group per checkpoint, ``<directory>/nodes/<digest[:12]>/``, with sharded, uncompressed arrays

    node_matrices  (rows, nodes, channels)  float16
    fingerprints   (rows, dimensions)       float16, normalised again when read
    contrast       (rows, frames of a hop, semitones)  uint8; without columns where the encoder has no such features

The rows of a track are dense, one a hop: row = first_row + segment_index, zeros where a segment is silent and at the
end, where only contrast features are left. A track starts at a shard boundary, so each shard is written whole, once, by
one track; chunks of zeros are never written, so padding is free. Which rows are valid stands in the ledger, written
afterwards: rows past its end are leftovers that the next track overwrites.
"""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from encoder.encoding import Encoding
from store import shards
from store.identity import Identity

SHARD_ROWS = 256  # 8 MiB of node matrices at 32 x 512; bounds the memory of a writer
_ARRAYS = ("node_matrices", "fingerprints", "contrast")
CHUNK_ROWS = 16  # padding of a track costs half a chunk; smaller ones are slower to write


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written for one track, and what Milvus needs of it."""

    first_row: int
    rows: int  # hops; silent segments and the track's end included
    segment_indices: NDArray[np.int64]  # (segments,), rising
    fingerprints: NDArray[np.float32]  # (segments, dimensions), L2-normalised

    def __post_init__(self) -> None:
        if len(self.segment_indices) != len(self.fingerprints):
            raise ValueError(f"{len(self.segment_indices)} indices for {len(self.fingerprints)} fingerprints")


class Nodes:
    """Node matrices and fingerprints in Zarr. One writer at a time; readers need no coordination."""

    def __init__(self, group: zarr.Group, directory: Path, identity: Identity) -> None:
        self._directory = directory
        self._identity = identity
        self._node_matrices: zarr.Array = group["node_matrices"]
        self._fingerprints: zarr.Array = group["fingerprints"]
        self._contrast: zarr.Array = group["contrast"]

    @classmethod
    def open(cls, directory: Path, identity: Identity, *, read_only: bool = False) -> Self:
        """Open, or create, what one checkpoint keeps under ``directory``; IndexMismatch where another made it."""
        directory = directory / identity.short
        if not (directory / "fingerprints" / "zarr.json").exists():
            if read_only:
                raise FileNotFoundError(f"no node matrices in {directory}; run `asid ingest` first")
            _create(directory, identity)
        group = zarr.open_group(directory, mode="r" if read_only else "r+")
        identity.require(dict(group.attrs), str(directory))
        return cls(group, directory, identity)

    def after(self, end: int) -> int:
        """First row for the next track, where the rows up to ``end`` are taken."""
        return -(-end // SHARD_ROWS) * SHARD_ROWS

    def write(self, first_row: int, blocks: Iterable[Encoding]) -> Written:
        """Write a track from its consecutive blocks, holding one shard of node matrices at a time."""
        shard, indices, fingerprints, end = _Shard(self, first_row), [], [], 0
        for block in blocks:
            shard.take(block)
            indices.append(block.segment_indices)
            fingerprints.append(block.fingerprints)
            end = max(end, block.first_hop + len(block.contrast))
        shard.finish()
        found = np.concatenate([np.empty(0, np.int64), *indices])
        return Written(
            first_row=first_row,
            rows=max(end, int(found[-1]) + 1 if len(found) else 0),
            segment_indices=found,
            fingerprints=np.concatenate([np.empty((0, self._identity.dimensions), np.float32), *fingerprints]),
        )

    def write_shard(
        self, row: int, node_matrices: NDArray[np.float16], fingerprints: NDArray[np.float16],
        contrast: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        """Write one whole shard that starts at ``row``, growing the arrays where needed."""
        end = row + SHARD_ROWS
        arrays = (self._node_matrices, self._fingerprints, self._contrast)
        for array, values in zip(arrays, (node_matrices, fingerprints, contrast), strict=True):
            if not values.size:
                continue
            if array.shape[0] < end:
                array.resize((end, *array.shape[1:]))
            array[row:end] = values

    def node_matrices(self, rows: ArrayLike) -> NDArray[np.float16]:
        """Node matrices (rows, nodes, channels) of any rows in any order; zeros where nothing was written."""
        shape = (self._identity.nodes, self._identity.channels)
        layout = shards.Layout(shard_rows=SHARD_ROWS, chunk_rows=CHUNK_ROWS, row_shape=shape, dtype=np.dtype("<f2"))
        return shards.read_rows(self._directory / "node_matrices", rows, layout)

    def contrast(self, first_row: int, rows: int) -> NDArray[np.uint8]:
        """Contrast features of a stored track (rows, frames of a hop, semitones)."""
        return self._contrast[first_row : first_row + rows]

    def fingerprints(self, first_row: int, rows: int) -> Written:
        """What Milvus needs of a stored track; silent segments are left out."""
        kept = self._fingerprints[first_row : first_row + rows].astype(np.float32)
        lengths = np.linalg.norm(kept, axis=1)
        present = np.flatnonzero(lengths)
        # float16 moves the length by some 1e-4; similarities are inner products of unit vectors.
        unit = kept[present] / lengths[present, None]
        return Written(first_row=first_row, rows=rows, segment_indices=present, fingerprints=unit)

    def clear(self, first_row: int, rows: int) -> None:
        """Free the space of a track; its rows read as zeros from now on."""
        for shard in range(first_row // SHARD_ROWS, -(-(first_row + rows) // SHARD_ROWS)):
            # A shard belongs to one track, and an absent shard is one of zeros.
            for name in _ARRAYS:
                folder = self._directory / name / "c" / str(shard)
                if folder.exists():
                    shutil.rmtree(folder)

    def sizes(self) -> tuple[int, int, int]:
        """Bytes on disk of (node matrices, fingerprints, contrast features)."""
        return tuple(bytes_under(self._directory / name) for name in _ARRAYS)

    def close(self) -> None:
        """Nothing is held open between calls."""


class _Shard:
    """Collects the segments of one track and hands on each shard when it is full."""

    def __init__(self, nodes: Nodes, first_row: int) -> None:
        self._nodes, self._row = nodes, first_row
        self._first_index = 0  # segment index of the shard's first row
        self._empty = True  # nothing taken yet
        self._new_buffers()

    def take(self, block: Encoding) -> None:
        """Add a block; its segments lie behind all earlier ones."""
        hops = block.first_hop + np.arange(len(block.contrast))
        for shard in np.unique(np.concatenate([block.segment_indices, hops]) // SHARD_ROWS):
            while self._first_index < shard * SHARD_ROWS:
                self._hand_on()
            here = block.segment_indices // SHARD_ROWS == shard
            positions = block.segment_indices[here] - self._first_index
            self._node_matrices[positions] = block.node_matrices[here]
            self._fingerprints[positions] = block.fingerprints[here]
            here = hops // SHARD_ROWS == shard
            self._contrast[hops[here] - self._first_index] = block.contrast[here]
            self._empty = False

    def finish(self) -> None:
        """Hand on the last shard, padded with zeros."""
        if not self._empty:
            self._hand_on()

    def _hand_on(self) -> None:
        row = self._row + self._first_index
        self._nodes.write_shard(row, self._node_matrices, self._fingerprints, self._contrast)
        self._first_index += SHARD_ROWS
        self._new_buffers()

    def _new_buffers(self) -> None:
        identity = self._nodes._identity
        self._node_matrices = np.zeros((SHARD_ROWS, identity.nodes, identity.channels), np.float16)
        self._fingerprints = np.zeros((SHARD_ROWS, identity.dimensions), np.float16)
        self._contrast = np.zeros((SHARD_ROWS, identity.contrast_frames, identity.semitones), np.uint8)


def bytes_under(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _create(directory: Path, identity: Identity) -> None:
    group = zarr.open_group(directory, mode="a", attributes=asdict(identity))
    row_shapes = {
        "node_matrices": (identity.nodes, identity.channels),
        "fingerprints": (identity.dimensions,),
        # Zarr knows no chunks without extent.
        "contrast": (max(identity.contrast_frames, 1), max(identity.semitones, 1)),
    }
    chunk_rows = {"node_matrices": CHUNK_ROWS, "fingerprints": SHARD_ROWS, "contrast": SHARD_ROWS}
    for name, row_shape in row_shapes.items():
        group.create_array(
            name,
            shape=(0, *row_shape),
            shards=(SHARD_ROWS, *row_shape),
            chunks=(chunk_rows[name], *row_shape),
            dtype="uint8" if name == "contrast" else "float16",
            fill_value=0,
            compressors=None,  # gains under 10 % on float16 and would forbid reading single rows
            overwrite=True,
        )

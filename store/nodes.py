"""Zarr: node matrices, fingerprints and contrast features of every track, the source of truth for what was computed.

One group per checkpoint, ``<location>/<digest[:12]>/``, with sharded, uncompressed, checksummed arrays

    node_matrices  (tracks, hops, nodes, channels)  float16, or int8 in the compact form (store/node_form.py)
    fingerprints   (tracks, hops, dimensions)       float16, normalised again when read
    contrast       (tracks, hops, frames of a hop, semitones)  uint8; absent where the encoder has no such features

The first two axes are what a segment id says: track number and position on the hop grid. Positions are dense, zeros
where a segment is silent and at the end, where only contrast features are left. Arrays have the extent of all possible
ids from the start and only what was written takes space; a shard belongs to one track, so several processes may write
different tracks at once. Which positions are valid stands in the ledger, written afterwards.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import Crc32cCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore, StorePath

from encoder.encoding import Encoding
from store import objects
from store.identity import Identity
from store.node_form import FULL, NodeForm
from store.objects import reaching
from store.segment_ids import LAST_INDEX, LAST_TRACK, index_of, track_of
from store.shards import Layout, LocalShards, RemoteShards, Shards, read_rows

SHARD_ROWS = 256  # bounds the memory of a writer: 8 MiB of full node matrices at 32 x 512
_CHUNK_BYTES = 64 << 10  # a row is read with its chunk, to check it
_CHUNK_ROWS = 16  # at most: padding of a track costs half a chunk


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written for one track, and what Milvus needs of it."""

    rows: int  # hops; silent segments and the track's end included
    segment_indices: NDArray[np.int64]  # (segments,), rising
    fingerprints: NDArray[np.float32]  # (segments, dimensions), L2-normalised

    def __post_init__(self) -> None:
        if len(self.segment_indices) != len(self.fingerprints):
            raise ValueError(f"{len(self.segment_indices)} indices for {len(self.fingerprints)} fingerprints")


class Nodes:
    """Node matrices, fingerprints and contrast features in Zarr. One writer per track; readers need no coordination."""

    def __init__(
        self, location: str | Path, group: zarr.Group, shards: Shards, identity: Identity, form: NodeForm
    ) -> None:
        self._location, self._group, self._shards, self._identity, self.form = location, group, shards, identity, form
        self._layouts = {layout.name: layout for layout in _layouts(identity, form)}
        self._arrays: dict[str, zarr.Array] = {name: group[name] for name in self._layouts}

    @classmethod
    def open(cls, location: str | Path, identity: Identity, *, form: NodeForm = FULL, read_only: bool = False) -> Self:
        """Open, or create, what one checkpoint keeps at ``location``, a folder or the URL of an object store.

        IndexMismatch where another encoder made it or it is kept in another form; FileNotFoundError where
        ``read_only`` and there is nothing; ObjectsUnavailable, as in all methods, where a store does not answer.
        """
        store, shards = _storage(location, identity.short)
        try:
            with reaching(location):
                group = zarr.open_group(store, path=identity.short, mode="r" if read_only else "a")
                if "digest" not in group.attrs:  # new, or its creation was interrupted
                    _create(group, identity, form)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no node matrices in {location}; run `asid ingest` first") from error
        identity.require(dict(group.attrs), str(location))
        return cls(location, group, shards, identity, form)

    def write(self, track: int, blocks: Iterable[Encoding]) -> Written:
        """Write a track from its consecutive blocks, holding one shard of node matrices at a time."""
        shard, indices, fingerprints, end = _Shard(self, track), [], [], 0
        for block in blocks:
            shard.take(block)
            indices.append(block.segment_indices)
            fingerprints.append(block.fingerprints)
            end = max(end, block.first_hop + len(block.contrast))
        shard.finish()
        self._settle(track)
        found = np.concatenate([np.empty(0, np.int64), *indices])
        return Written(
            rows=max(end, int(found[-1]) + 1 if len(found) else 0),
            segment_indices=found,
            fingerprints=np.concatenate([np.empty((0, self._identity.dimensions), np.float32), *fingerprints]),
        )

    def write_shard(self, track: int, first: int, values: dict[str, NDArray]) -> None:
        """Write one whole shard of each array, which starts at position ``first`` of the track."""
        with reaching(self._location):
            for name, array in self._arrays.items():
                array[track, first : first + SHARD_ROWS] = values[name]

    def node_matrices(self, ids: ArrayLike) -> NDArray[np.float16]:
        """Node matrices (segments, nodes, channels) of any segment ids in any order; zeros where nothing was written.

        DamagedStore where bytes have changed, as in all that reads.
        """
        return self.form.whole(self._rows("node_matrices", ids))

    def fingerprints_of(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Fingerprints (segments, dimensions) of any segment ids in any order, length 1; zeros where there is none."""
        return _unit(self._rows("fingerprints", ids))

    def contrast(self, track: int, rows: int) -> NDArray[np.uint8]:
        """Contrast features of a stored track (rows, frames of a hop, semitones)."""
        return self._track("contrast", track, rows)

    def contrast_of(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Contrast features (hops, frames of a hop, semitones) of any hops in any order; zeros where there are none."""
        return self._rows("contrast", ids)

    def fingerprints(self, track: int, rows: int) -> Written:
        """What Milvus needs of a stored track; silent segments are left out."""
        kept = self._track("fingerprints", track, rows)
        present = np.flatnonzero(kept.any(axis=1))
        return Written(rows=rows, segment_indices=present, fingerprints=_unit(kept[present]))

    def clear(self, track: int) -> None:
        """Free the space of a track; it reads as zeros from now on."""
        with reaching(self._location):
            for name in self._arrays:
                _delete(self._group.store_path / name / "c" / str(track))

    def sizes(self) -> tuple[int, int, int]:
        """Bytes kept of (node matrices, fingerprints, contrast features)."""
        names = ("node_matrices", "fingerprints", "contrast")
        with reaching(self._location):
            return tuple(_bytes(self._group.store_path / name) if name in self._arrays else 0 for name in names)

    def _settle(self, track: int) -> None:
        """Have the disk write what was written: the ledger will call it stored, and a lost shard would be silence."""
        for name in self._arrays:
            path = self._group.store_path / name / "c" / str(track)
            if isinstance(path.store, LocalStore) and (folder := path.store.root / path.path).exists():
                for written in (folder.parent, folder, *folder.rglob("*")):
                    _sync(written)

    def _rows(self, name: str, ids: ArrayLike) -> NDArray:
        return self._read(name, track_of(ids), index_of(ids))

    def _track(self, name: str, track: int, rows: int) -> NDArray:
        return self._read(name, np.full(rows, track, np.int64), np.arange(rows))

    def _read(self, name: str, tracks: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray:
        with reaching(self._location):
            return read_rows(self._shards, tracks, positions, self._layouts[name])


class _Shard:
    """Collects the segments of one track and hands on each shard when it is full."""

    def __init__(self, nodes: Nodes, track: int) -> None:
        self._nodes, self._track = nodes, track
        self._first = 0  # position of the shard's first row
        self._empty = True  # nothing taken yet
        self._new_buffers()

    def take(self, block: Encoding) -> None:
        """Add a block; its segments lie behind all earlier ones."""
        hops = block.first_hop + np.arange(len(block.contrast))
        for shard in np.unique(np.concatenate([block.segment_indices, hops]) // SHARD_ROWS):
            while self._first < shard * SHARD_ROWS:
                self._hand_on()
            here = block.segment_indices // SHARD_ROWS == shard
            positions = block.segment_indices[here] - self._first
            self._buffers["node_matrices"][positions] = self._nodes.form.kept(block.node_matrices[here])
            self._buffers["fingerprints"][positions] = block.fingerprints[here]
            if "contrast" in self._buffers:
                here = hops // SHARD_ROWS == shard
                self._buffers["contrast"][hops[here] - self._first] = block.contrast[here]
            self._empty = False

    def finish(self) -> None:
        """Hand on the last shard, padded with zeros."""
        if not self._empty:
            self._hand_on()

    def _hand_on(self) -> None:
        self._nodes.write_shard(self._track, self._first, self._buffers)
        self._first += SHARD_ROWS
        self._new_buffers()

    def _new_buffers(self) -> None:
        layouts = self._nodes._layouts.values()
        self._buffers = {one.name: np.zeros((SHARD_ROWS, *one.row_shape), one.dtype) for one in layouts}


def delete(location: str | Path, identity: Identity) -> None:
    """Delete everything that a checkpoint keeps at a location; nothing there is no error."""
    store, _ = _storage(location, identity.short)
    with reaching(location):
        _delete(StorePath(store, identity.short))


def bytes_under(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _storage(location: str | Path, folder: str) -> tuple[Any, Shards]:
    if not objects.is_url(location):
        return LocalStore(Path(location)), LocalShards(Path(location) / folder)
    store = objects.opened(str(location))
    return ObjectStore(store), RemoteShards(store, folder)


def _layouts(identity: Identity, form: NodeForm) -> Iterable[Layout]:
    rows = {
        "node_matrices": (identity.nodes, form.channels or identity.channels),
        "fingerprints": (identity.dimensions,),
        "contrast": (identity.contrast_frames, identity.semitones),
    }
    kinds = {"node_matrices": form.dtype, "fingerprints": np.dtype("<f2"), "contrast": np.dtype("u1")}
    for name, shape in rows.items():
        if size := int(np.prod(shape)) * kinds[name].itemsize:
            chunk = 1 << (max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // size)).bit_length() - 1)
            yield Layout(name=name, shard_rows=SHARD_ROWS, chunk_rows=chunk, row_shape=shape, dtype=kinds[name])


def _create(group: zarr.Group, identity: Identity, form: NodeForm) -> None:
    for layout in _layouts(identity, form):
        group.create_array(
            layout.name,
            shape=(LAST_TRACK + 1, LAST_INDEX + 1, *layout.row_shape),
            shards=(1, SHARD_ROWS, *layout.row_shape),
            chunks=(1, layout.chunk_rows, *layout.row_shape),
            dtype=layout.dtype,
            fill_value=0,
            compressors=[Crc32cCodec()],  # no compression: it gains under 10 % and would forbid reading single rows
            overwrite=True,
        )
    group.attrs.update(asdict(identity))  # last, as the sign that everything is there


def _unit(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """Rows of length 1: float16 moves the length by some 1e-4, and similarities are inner products of unit vectors."""
    wide = values.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def _delete(path: StorePath) -> None:
    if not isinstance(path.store, LocalStore):
        sync(path.delete_dir())
    elif (folder := path.store.root / path.path).exists():
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes(path: StorePath) -> int:
    if isinstance(path.store, LocalStore):
        return bytes_under(path.store.root / path.path)
    return sync(path.store.getsize_prefix(path.path))

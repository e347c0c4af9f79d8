"""Single rows out of the shards of Zarr arrays [track, position, ...], on a disk or in an object store.

Zarr's own random access spends 0.7 ms of Python per row, which a search with thousands of candidates feels. A shard of
uncompressed chunks needs none of it: its last bytes say where each chunk begins (Zarr v3, codec "sharding_indexed":
one (offset, length) pair of uint64 per chunk, little endian, then a CRC-32C), and a row lies at a fixed place in its
chunk, which ends with a CRC-32C of its own. Both are checked: bytes that have changed are an error, never an answer.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

_PAIR = struct.Struct("<QQ")
_ABSENT = 2**64 - 1  # offset of a chunk that was never written
_CHECKSUM_BYTES = 4
_REQUESTS = 32  # shards of an object store read at the same time

Chunks = dict[int, bytes]  # number of a chunk in its shard -> its content, checksum included


class DamagedStore(OSError):
    """Bytes in Zarr are not those that were written."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the rows of an array lie in its shards."""

    name: str  # of the array, below its group
    shard_rows: int
    chunk_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def index_bytes(self) -> int:
        return 16 * (self.shard_rows // self.chunk_rows) + _CHECKSUM_BYTES

    def key(self, track: int, shard: int) -> str:
        """Where a shard lies below the group."""
        return "/".join([self.name, "c", str(track), str(shard), *["0"] * len(self.row_shape)])


@dataclass(frozen=True, kw_only=True)
class Request:
    """Chunks wanted of one shard."""

    key: str
    chunks: Sequence[int]  # numbers in the shard, rising


class Shards(Protocol):
    """Where shards lie."""

    def read(self, requests: Sequence[Request], layout: Layout) -> Iterator[Chunks]:
        """The chunks of each request as far as they exist, in the order of the requests."""


def read_rows(shards: Shards, tracks: NDArray[np.int64], positions: NDArray[np.int64], layout: Layout) -> NDArray:
    """Rows (len(tracks), *row_shape) of an array; zeros where nothing was written. DamagedStore."""
    if not len(tracks):
        return np.zeros((0, *layout.row_shape), layout.dtype)
    number = positions // layout.chunk_rows  # of the chunk in its track, through all shards
    order = np.lexsort((number, tracks))
    new = np.r_[True, (np.diff(tracks[order]) != 0) | (np.diff(number[order]) != 0)]
    chunk_of = np.empty(len(order), np.int64)
    chunk_of[order] = np.cumsum(new) - 1
    first = order[new]  # a row of each chunk
    requests = list(_requests(tracks[first], number[first], layout))
    content = np.zeros((len(first), layout.chunk_rows, *layout.row_shape), layout.dtype)
    flat, place = content.reshape(len(first), -1).view(np.uint8), 0
    for request, found in zip(requests, shards.read(requests, layout)):
        for chunk in request.chunks:
            if chunk in found:
                flat[place] = np.frombuffer(_checked(found[chunk], request.key), np.uint8)
            place += 1
    return content[chunk_of, positions % layout.chunk_rows]


class LocalShards:
    """Shards in files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def read(self, requests: Sequence[Request], layout: Layout) -> Iterator[Chunks]:
        """See ``Shards``."""
        for request in requests:
            try:
                file = os.open(f"{self._folder}/{request.key}", os.O_RDONLY)
            except FileNotFoundError:
                yield {}  # Zarr writes no shard for zeros
                continue
            try:
                end = os.fstat(file).st_size - layout.index_bytes
                places = _places(os.pread(file, layout.index_bytes, max(end, 0)), request, layout)
                yield {chunk: os.pread(file, length, offset) for chunk, (offset, length) in places.items()}
            finally:
                os.close(file)


class RemoteShards:
    """Shards in an object store, several at a time."""

    def __init__(self, store: Any, folder: str) -> None:
        """``store`` is one of obstore's, ``folder`` that of the group in it."""
        self._store, self._folder = store, folder

    def read(self, requests: Sequence[Request], layout: Layout) -> Iterator[Chunks]:
        """See ``Shards``."""
        with ThreadPoolExecutor(_REQUESTS) as pool:
            yield from pool.map(lambda request: self._chunks(request, layout), requests)

    def _chunks(self, request: Request, layout: Layout) -> Chunks:
        path = f"{self._folder}/{request.key}"
        try:
            index = self._store.get(path, options={"range": {"suffix": layout.index_bytes}}).bytes()
        except FileNotFoundError:
            return {}
        places = _places(bytes(index), request, layout)
        offsets, lengths = [o for o, _ in places.values()], [n for _, n in places.values()]
        found = self._store.get_ranges(path, starts=offsets, lengths=lengths) if places else []
        return {chunk: bytes(content) for chunk, content in zip(places, found, strict=True)}


def _requests(tracks: NDArray[np.int64], number: NDArray[np.int64], layout: Layout) -> Iterator[Request]:
    """One for each shard; chunks come by track, then number."""
    shard, chunk = np.divmod(number, layout.shard_rows // layout.chunk_rows)
    starts = np.flatnonzero(np.r_[True, (np.diff(tracks) != 0) | (np.diff(shard) != 0)]).tolist()
    for start, end in pairwise([*starts, len(tracks)]):
        yield Request(key=layout.key(int(tracks[start]), int(shard[start])), chunks=chunk[start:end].tolist())


def _places(index: bytes, request: Request, layout: Layout) -> dict[int, tuple[int, int]]:
    """Offset and length of each wanted chunk that was written."""
    if len(index) < layout.index_bytes:
        raise _damaged(request.key)
    pairs = _checked(index, request.key)
    places = {chunk: _PAIR.unpack_from(pairs, _PAIR.size * chunk) for chunk in request.chunks}
    return {chunk: place for chunk, place in places.items() if place[0] != _ABSENT}


def _checked(content: bytes, key: str) -> bytes:
    """The content without its checksum; DamagedStore where they disagree."""
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if google_crc32c.value(body) != int.from_bytes(checksum, "little"):
        raise _damaged(key)
    return body


def _damaged(key: str) -> DamagedStore:
    track = key.split("/c/")[1].partition("/")[0]
    return DamagedStore(
        f"Zarr {key}: the checksum does not fit, so bytes have changed on the disk; `asid remove {track}`, then "
        "`asid ingest --retry` its file again"
    )

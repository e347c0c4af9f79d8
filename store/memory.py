"""References in memory: dictionaries and exact search. For tests and small catalogues."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder.encoding import Encoding
from store.bulk import Rows
from store.candidates import Candidates
from store.catalogue import Catalogue
from store.fingerprints import MOST_CANDIDATES
from store.identity import Identity
from store.nodes import Written
from store.references import References
from store.segment_ids import index_of, segment_id, track_of


class MemoryReferences(References):
    """The same interface and the same write order as ``References``; nothing outlives the object."""

    def __init__(self, identity: Identity) -> None:
        catalogue = Catalogue.open("sqlite://", identity.digest)
        catalogue.adopt(identity)
        super().__init__(
            identity=identity,
            catalogue=catalogue,
            nodes=MemoryNodes(identity),
            fingerprints=MemoryFingerprints(identity),
        )


class MemoryNodes:
    """Segment id -> (node matrix, fingerprint), and segment id -> contrast features."""

    def __init__(self, identity: Identity) -> None:
        self._shape = (identity.nodes, identity.channels)
        self._dimensions = identity.dimensions
        self._rows: dict[int, tuple[NDArray, NDArray]] = {}
        self._silence = np.zeros((identity.contrast_frames, identity.semitones), np.uint8)
        self._contrast: dict[int, NDArray] = {}

    def write(self, track: int, blocks: Iterable[Encoding]) -> Written:
        """Keep every segment of a track."""
        end = 0
        for block in blocks:
            hops = segment_id(track, block.first_hop + np.arange(len(block.contrast)))
            self._contrast |= zip(hops.tolist(), block.contrast)
            ids = segment_id(track, block.segment_indices).tolist()
            kept = zip(block.node_matrices.astype(np.float16), block.fingerprints.astype(np.float32))
            self._rows |= zip(ids, kept)
            end = max([end, block.first_hop + len(block.contrast), *(block.segment_indices + 1).tolist()])
        return self.fingerprints(track, end)

    def node_matrices(self, ids: ArrayLike) -> NDArray[np.float16]:
        """Node matrices of any segments; zeros where there is none."""
        nothing = (np.zeros(self._shape, np.float16), None)
        found = [self._rows.get(int(number), nothing)[0] for number in np.asarray(ids)]
        return np.array(found, np.float16).reshape(-1, *self._shape)

    def contrast(self, track: int, rows: int) -> NDArray[np.uint8]:
        """Contrast features of a stored track (rows, frames of a hop, semitones)."""
        return self.contrast_of(_ids(track, rows))

    def contrast_of(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """The same of any hops; zeros where there are none."""
        found = [self._contrast.get(number, self._silence) for number in np.asarray(ids).tolist()]
        return np.array(found, np.uint8).reshape(len(found), *self._silence.shape)

    def fingerprints(self, track: int, rows: int) -> Written:
        """Fingerprints of a stored track."""
        kept = [number for number in _ids(track, rows) if number in self._rows]
        fingerprints = [self._rows[number][1] for number in kept]
        return Written(
            rows=rows,
            segment_indices=index_of(kept),
            fingerprints=np.array(fingerprints, np.float32).reshape(-1, self._dimensions),
        )

    def clear(self, track: int) -> None:
        """Forget a track."""
        for kept in (self._rows, self._contrast):
            for number in [number for number in kept if track_of(number) == track]:
                del kept[number]

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of (node matrices, fingerprints, contrast features)."""
        pairs = self._rows.values()
        contrast = sum(row.nbytes for row in self._contrast.values())
        return sum(pair[0].nbytes for pair in pairs), sum(pair[1].nbytes for pair in pairs), contrast


def _ids(track: int, rows: int) -> list[int]:
    return segment_id(track, np.arange(rows)).tolist()


class MemoryFingerprints:
    """Segment id -> fingerprint; every search compares with all of them."""

    overfetch, most_candidates = 1, MOST_CANDIDATES

    def __init__(self, identity: Identity) -> None:
        self._dimensions = identity.dimensions
        self._kept: dict[int, NDArray[np.float32]] = {}

    def upsert(self, ids: NDArray[np.int64], fingerprints: NDArray[np.float32]) -> None:
        """Keep segments, replacing those that are there."""
        self._kept |= zip(ids.tolist(), fingerprints)

    def delete(self, ids: Sequence[int]) -> None:
        """Forget segments."""
        for number in ids:
            self._kept.pop(number, None)

    def search(self, fingerprints: NDArray[np.float32], *, limit: int) -> Candidates:
        """The ``limit`` largest inner products of each query."""
        ids = np.array(list(self._kept), np.int64)
        kept = np.array(list(self._kept.values()), np.float32).reshape(-1, self._dimensions)
        rows, columns = np.indices((len(fingerprints), len(ids)))
        similarities = fingerprints @ kept.T
        everything = Candidates(
            query_rows=rows.ravel(), segment_ids=ids[columns.ravel()], similarities=similarities.ravel()
        )
        return everything.ordered().first(limit)

    def count(self) -> int:
        """Segments kept."""
        return len(self._kept)

    def recreate(self, _catalogue: str) -> None:
        """Begin anew."""
        self._kept.clear()

    def fill(self, batches: Iterable[Rows], *, rows: int) -> None:
        """Keep all segments."""
        for ids, fingerprints in batches:
            self.upsert(ids, fingerprints)

    def flush(self) -> None:
        """Nothing waits."""

    def size(self) -> int:
        """Bytes of all fingerprints."""
        return 4 * self._dimensions * len(self._kept)

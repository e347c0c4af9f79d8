"""References in memory: dictionaries and exact search. For tests and small catalogues."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder.encoding import Encoding
from store.candidates import Candidates
from store.catalogue import Catalogue
from store.identity import Identity
from store.nodes import Written
from store.references import References


class MemoryReferences(References):
    """The same interface and the same write order as ``References``; nothing outlives the object."""

    def __init__(
        self, *, digest: str, nodes: int, channels: int, dimensions: int, hop: float, segment_duration: float,
        contrast: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        identity = Identity(
            digest=digest,
            nodes=nodes,
            channels=channels,
            dimensions=dimensions,
            hop=hop,
            segment_duration=segment_duration,
            contrast_frames=contrast[0],
            semitones=contrast[1],
        )
        catalogue = Catalogue.open("sqlite://")
        catalogue.claim(identity)
        super().__init__(
            identity=identity,
            catalogue=catalogue,
            nodes=MemoryNodes(identity),
            fingerprints=MemoryFingerprints(identity),
        )


class MemoryNodes:
    """Row -> (node matrix, fingerprint), and row -> contrast features."""

    def __init__(self, identity: Identity) -> None:
        self._shape = (identity.nodes, identity.channels)
        self._dimensions = identity.dimensions
        self._rows: dict[int, tuple[NDArray, NDArray]] = {}
        self._silence = np.zeros((identity.contrast_frames, identity.semitones), np.uint8)
        self._contrast: dict[int, NDArray] = {}

    def after(self, end: int) -> int:
        """First row for the next track."""
        return end

    def write(self, first_row: int, blocks: Iterable[Encoding]) -> Written:
        """Keep every segment of a track."""
        indices: list[int] = []
        end = 0
        for block in blocks:
            first = first_row + block.first_hop
            self._contrast |= {first + hop: row for hop, row in enumerate(block.contrast)}
            end = max(end, block.first_hop + len(block.contrast))
            for index, node_matrix, fingerprint in zip(block.segment_indices, block.node_matrices, block.fingerprints):
                self._rows[first_row + int(index)] = (node_matrix.astype(np.float16), fingerprint.astype(np.float32))
                indices.append(int(index))
        return self.fingerprints(first_row, max(end, indices[-1] + 1 if indices else 0))

    def node_matrices(self, rows: ArrayLike) -> NDArray[np.float16]:
        """Node matrices of any rows; zeros where there is none."""
        nothing = (np.zeros(self._shape, np.float16), None)
        found = [self._rows.get(int(row), nothing)[0] for row in np.asarray(rows)]
        return np.array(found, np.float16).reshape(-1, *self._shape)

    def contrast(self, first_row: int, rows: int) -> NDArray[np.uint8]:
        """Contrast features of a stored track (rows, frames of a hop, semitones)."""
        found = [self._contrast.get(row, self._silence) for row in range(first_row, first_row + rows)]
        return np.array(found, np.uint8).reshape(rows, *self._silence.shape)

    def fingerprints(self, first_row: int, rows: int) -> Written:
        """Fingerprints of a stored track."""
        indices = [index for index in range(rows) if first_row + index in self._rows]
        kept = [self._rows[first_row + index][1] for index in indices]
        return Written(
            first_row=first_row,
            rows=rows,
            segment_indices=np.array(indices, np.int64),
            fingerprints=np.array(kept, np.float32).reshape(-1, self._dimensions),
        )

    def clear(self, first_row: int, rows: int) -> None:
        """Forget a track."""
        for row in range(first_row, first_row + rows):
            self._rows.pop(row, None)
            self._contrast.pop(row, None)

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of (node matrices, fingerprints, contrast features)."""
        pairs = self._rows.values()
        contrast = sum(row.nbytes for row in self._contrast.values())
        return sum(pair[0].nbytes for pair in pairs), sum(pair[1].nbytes for pair in pairs), contrast


class MemoryFingerprints:
    """Segment id -> fingerprint; every search compares with all of them."""

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

    def flush(self) -> None:
        """Nothing waits."""

    def size(self) -> int:
        """Bytes of all fingerprints."""
        return 4 * self._dimensions * len(self._kept)

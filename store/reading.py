"""Reading: what is stored of the references, from ledger, Zarr and Milvus; nothing here changes it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from store.candidates import Candidates
from store.catalogue import Catalogue, Counts, Track
from store.check import peaks
from store.fingerprints import MOST_CANDIDATES, Fingerprints, IndexIncomplete
from store.identity import Identity
from store.nodes import Nodes, bytes_under
from store.rescore import rescore
from store.segment_ids import index_of, segment_id, track_of

_SAME = 1e-3  # similarity that float16 and another order of additions cost


class MissingNodeMatrix(KeyError):
    """A segment has no node matrix: it was never stored, was removed, or is silent."""

    def __str__(self) -> str:  # KeyError would quote the sentence
        return str(self.args[0])


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes on disk; None where a part lies on a server."""

    node_matrices: int
    fingerprints: int  # the copy in Zarr
    contrast: int
    index: int | None  # Milvus
    ledger: int | None


class Stored:
    """What one encoder made of a catalogue, to be read."""

    def __init__(self, *, identity: Identity, catalogue: Catalogue, nodes: Nodes, fingerprints: Fingerprints) -> None:
        self.identity, self.catalogue = identity, catalogue
        self._nodes, self._fingerprints = nodes, fingerprints

    def candidates(
        self, fingerprints: NDArray[np.float32], *, limit: int, exclude_tracks: Iterable[int] = (), exact: bool = True
    ) -> Candidates:
        """The ``limit`` most similar stored segments for each fingerprint (queries, dimensions).

        Fewer come back only where fewer are stored, or the index gives no more. Unless `exact`, similarities are those
        of the index. ValueError for another shape, NaN, or a limit outside 1..16384.
        """
        fingerprints = self._queries(fingerprints, limit)
        excluded, most = np.array(sorted(exclude_tracks), np.int64), self._fingerprints.most_candidates
        width = min(most, limit * (self._fingerprints.overfetch if exact else 1))
        while True:
            found = self._fingerprints.search(fingerprints, limit=width)
            allowed = self._allowed(found, excluded)
            kept = (self._exact(allowed, fingerprints) if exact else allowed).first(limit)
            short = np.bincount(kept.query_rows, minlength=len(fingerprints)) < limit
            more = np.bincount(found.query_rows, minlength=len(fingerprints)) >= width
            if width == most or not (short & more).any():
                return kept
            width = min(4 * width, most)

    def node_matrices(self, segment_ids: ArrayLike) -> NDArray[np.float16]:
        """Node matrices (segments, nodes, channels) of any segments, in order; MissingNodeMatrix if one is missing."""
        ids = np.asarray(segment_ids, np.int64)
        self._require_all(index_of(ids) < self._lengths(track_of(ids)), ids)
        node_matrices = self._nodes.node_matrices(ids)
        self._require_all(peaks(node_matrices) > 0, ids)
        return node_matrices

    def fingerprints(self, segment_ids: ArrayLike) -> NDArray[np.float32]:
        """Fingerprints (segments, dimensions) of any segments, in order; zeros in silence and behind a track's end."""
        ids = np.asarray(segment_ids, np.int64)
        there = (index_of(ids) < self._lengths(track_of(ids))) & (ids >= 0)
        found = np.zeros((len(ids), self.identity.dimensions), np.float32)
        found[there] = self._nodes.fingerprints_of(ids[there])
        return found

    def features(self, numbers: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """Contrast features (frames, semitones) of whole tracks, as far as they are stored, by number.

        Empty for an encoder that has none. MissingNodeMatrix where a track that is not silent has none.
        """
        if not self.identity.semitones:
            return {}
        stored = [track for track in self.catalogue.by_numbers(numbers) if track.state == "stored"]
        found = {track.number: self._nodes.contrast(track.number, track.rows) for track in stored}
        for track in stored:
            if track.segments and not found[track.number].any():
                raise MissingNodeMatrix(
                    f"track {track.number} ({track.path}) has no contrast features in Zarr; remove it, ingest it again"
                )
        return {number: rows.reshape(-1, self.identity.semitones) for number, rows in found.items()}

    def stretches(self, numbers: ArrayLike, firsts: ArrayLike, *, hops: int) -> NDArray[np.uint8]:
        """Contrast features (stretches, frames, semitones) of so many hops of each track, from its hop `firsts` on.

        Or from the nearest hop from which as many lie in the track; of a shorter one all, and zeros behind.
        MissingNodeMatrix as in `features`.
        """
        numbers = np.asarray(numbers, np.int64)
        lengths = self._lengths(numbers)
        begins = np.maximum(np.minimum(np.asarray(firsts, np.int64), lengths - hops), 0)
        places = begins[:, None] + np.arange(hops)
        inside = places < lengths[:, None]
        frames, semitones = self.identity.contrast_frames, self.identity.semitones
        found = np.zeros((*places.shape, frames, semitones), np.uint8)
        owners = np.broadcast_to(numbers[:, None], places.shape)
        found[inside] = self._nodes.contrast_of(segment_id(owners[inside], places[inside]))
        self.features(numbers[~found.any(axis=(1, 2, 3))].tolist())  # silence, or a track that has lost all it had
        return found.reshape(len(found), hops * frames, semitones)

    def tracks(self, numbers: Iterable[int]) -> dict[int, Track]:
        """Tracks by number; LookupError where one is unknown."""
        wanted = {int(number) for number in numbers}
        found = {track.number: track for track in self.catalogue.by_numbers(wanted)}
        if missing := wanted - found.keys():
            raise LookupError(f"no track {min(missing)} in the catalogue; `asid info` shows what is there")
        return found

    def counts(self) -> Counts:
        """Tracks by state; segments and seconds of the stored ones."""
        return self.catalogue.counts()

    def sizes(self) -> Sizes:
        """Bytes on disk of each part."""
        node_matrices, fingerprints, contrast = self._nodes.sizes()
        database = sa.make_url(self.catalogue.url).database if self.catalogue.url.startswith("sqlite:///") else None
        return Sizes(
            node_matrices=node_matrices,
            fingerprints=fingerprints,
            contrast=contrast,
            index=self._fingerprints.size(),
            ledger=sum(bytes_under(Path(database + end)) for end in ("", "-wal")) if database else None,
        )

    @property
    def index(self) -> str:
        """Milvus' version and the kind of index that the collection has."""
        return f"{self._fingerprints.version} {self._fingerprints.kind}"

    def require_complete(self) -> int:
        """Segments in Milvus; IndexIncomplete where there are fewer than the ledger calls stored."""
        stored, found = self.catalogue.counts().segments, self._fingerprints.count()
        if found < stored:
            raise IndexIncomplete(f"Milvus holds {found} of {stored} stored segments; run `asid reindex`")
        return found

    def require_answers(self, *, segments: int = 100, seed: int = 0) -> int:
        """Look up a sample of stored segments by their own fingerprints; returns how many.

        IndexIncomplete where Milvus holds fewer segments than are stored, or one is not its own first candidate (or as
        similar as the first: a loop repeats itself).
        """
        self.require_complete()
        rng, tracks = np.random.default_rng(seed), [t for t in self.catalogue.tracks("stored") if t.segments]
        chosen = [tracks[place] for place in rng.integers(len(tracks), size=segments if tracks else 0)]
        for track in chosen:
            kept = self._nodes.fingerprints(track.number, track.rows)
            place = rng.integers(len(kept.segment_indices))
            ids = segment_id(track.number, kept.segment_indices)
            found = self.candidates(kept.fingerprints[place : place + 1], limit=1)
            if found.segment_ids.tolist() != [ids[place]] and not (found.similarities > 1 - _SAME).all():
                raise IndexIncomplete(
                    f"segment {index_of(ids[place])} of track {track.number} ({track.path}) is not found by its own "
                    "fingerprint; run `asid reindex`"
                )
        return len(chosen)

    def _lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of each track, 0 where it is not stored."""
        unique, position = np.unique(numbers, return_inverse=True)
        rows = self.catalogue.rows(unique.tolist())
        return np.array([rows.get(number, 0) for number in unique.tolist()], np.int64)[position]

    def _allowed(self, found: Candidates, excluded: NDArray[np.int64]) -> Candidates:
        numbers = track_of(found.segment_ids)
        stored = np.array(list(self.catalogue.rows(np.unique(numbers).tolist())), np.int64)
        return found.pick(np.isin(numbers, stored) & ~np.isin(numbers, excluded))

    def _exact(self, found: Candidates, queries: NDArray[np.float32]) -> Candidates:
        """With exact similarities, where those of the index are approximate."""
        if self._fingerprints.overfetch == 1:
            return found
        return rescore(found, queries, self._nodes.fingerprints_of, limit=len(found))

    def _queries(self, fingerprints: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
        fingerprints = np.asarray(fingerprints, np.float32)
        if fingerprints.ndim != 2 or fingerprints.shape[1] != self.identity.dimensions:
            raise ValueError(f"fingerprints must be (queries, {self.identity.dimensions}), got {fingerprints.shape}")
        if not np.isfinite(fingerprints).all():
            raise ValueError("fingerprints hold NaN or infinity; leave silent segments out")
        if not 1 <= limit <= MOST_CANDIDATES:
            raise ValueError(f"limit must lie in 1..{MOST_CANDIDATES}, got {limit}")
        return fingerprints

    def _require_all(self, present: NDArray[np.bool_], ids: NDArray[np.int64]) -> None:
        if not present.all():
            first = ids[~present][0]
            raise MissingNodeMatrix(
                f"{np.count_nonzero(~present)} of {len(ids)} node matrices are missing, first segment "
                f"{index_of(first)} of track {track_of(first)}; remove the track and ingest it again"
            )

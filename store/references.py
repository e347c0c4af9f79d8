"""The references: ledger, Zarr and Milvus as one.

Adding writes Zarr, then Milvus, then the ledger says ``stored``; removing goes the other way. A candidate counts only
where the ledger says ``stored``, so what is searchable always has its node matrix. What an interrupted run left behind
is taken out when the references are opened for writing again, and the file is added anew.
"""

import threading
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from encoder.encoding import Encoding
from store.candidates import Candidates
from store.catalogue import Catalogue, Counts, Track
from store.check import checked, peaks
from store.directory import INDEX_FOLDER, LEDGER_FILE, NODES_FOLDER, writing_alone
from store.directory import ledger_url as directory_ledger_url
from store.fingerprints import MOST_CANDIDATES, Fingerprints, IndexIncomplete, IndexSettings
from store.identity import Identity
from store.nodes import Nodes, bytes_under
from store.plan import Pending, Plan, plan
from store.segment_ids import index_of, segment_id, track_of


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


class References:
    """All references of one catalogue, made by one encoder. One process writes at a time; threads take turns."""

    def __init__(self, *, identity: Identity, catalogue: Catalogue, nodes: Nodes, fingerprints: Fingerprints) -> None:
        self.identity = identity
        self.catalogue = catalogue
        self._nodes, self._fingerprints = nodes, fingerprints
        self._parts = ExitStack()  # what close() closes
        self._writing = threading.RLock()

    @classmethod
    def open(
        cls, directory: str | Path, *, digest: str, nodes: int, channels: int, dimensions: int, hop: float,
        segment_duration: float, contrast: tuple[int, int] = (0, 0), milvus_uri: str | None = None,
        milvus_token: str = "", alias: str = "asid", ledger_url: str | None = None,
        index: IndexSettings | None = None, read_only: bool = False, verify: bool = True,
    ) -> Self:  # fmt: skip
        """Open what is kept under ``directory``, creating it unless ``read_only``.

        IndexMismatch where another encoder made it; IndexUnavailable where Milvus is away or another process writes;
        IndexIncomplete where ``verify`` finds fewer segments in Milvus than are stored (``rebuild`` mends that);
        FileNotFoundError where ``read_only`` and there is nothing.
        """
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
        directory = Path(directory).absolute()
        if read_only and not (ledger_url or (directory / LEDGER_FILE).exists()):
            raise FileNotFoundError(f"no catalogue in {directory}; run `asid ingest` first")
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as parts:
            if not read_only:
                parts.enter_context(writing_alone(directory))
            catalogue = parts.enter_context(closing(Catalogue.open(ledger_url or directory_ledger_url(directory))))
            catalogue.claim(identity)
            kept_nodes = Nodes.open(directory / NODES_FOLDER, identity, read_only=read_only)
            uri, name = milvus_uri or str(directory / INDEX_FOLDER), catalogue.name()
            settings = {"token": milvus_token, "alias": alias, "index": index, "read_only": read_only}
            fingerprints = parts.enter_context(closing(Fingerprints.open(uri, identity, catalogue=name, **settings)))
            references = cls(identity=identity, catalogue=catalogue, nodes=kept_nodes, fingerprints=fingerprints)
            if not read_only:
                references.settle()
            if verify:
                references.require_complete()
            references._parts = parts.pop_all()
        return references

    def close(self) -> None:
        """Flush and close every part; closing twice is harmless."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    # Writing

    def plan(self, paths: Iterable[str | Path], *, retry: bool = False) -> Plan:
        """What is to be done with these files; takes out what is stored of those that changed."""
        with self._writing:
            outcome = plan(self.catalogue, paths, self.identity.digest, retry=retry)
            self.settle()
            return outcome

    def add(
        self, pending: Pending, blocks: Iterable[Encoding], *, duration: float, title: str = "", artist: str = "",
        isrc: str = "",
    ) -> Track:  # fmt: skip
        """Store one track from its consecutive blocks, consumed one at a time; adding it again replaces it.

        ValueError where a block does not fit this encoder; whatever ``blocks`` raises passes through, and in every case
        the track stays pending and nothing else is touched.
        """
        number = pending.number
        with self._writing:
            self._withdraw(number)
            first_row = self._nodes.after(self.catalogue.end_of_rows())
            written = self._nodes.write(first_row, checked(blocks, self.identity))
            self.catalogue.placed(
                number,
                first_row=first_row,
                rows=written.rows,
                segments=len(written.segment_indices),
                duration=duration,
                title=title,
                artist=artist,
                isrc=isrc,
            )
            self._fingerprints.upsert(segment_id(number, written.segment_indices), written.fingerprints)
            self.catalogue.stored(number)
            return self.catalogue.track(number)

    def failed(self, number: int, reason: str) -> None:
        """Note that a file cannot be used, and why."""
        self.catalogue.failed(number, reason)

    def remove(self, number: int) -> Track:
        """Take a track out; LookupError where there is none with this number."""
        with self._writing:
            self.catalogue.track(number)
            self.catalogue.removed(number)
            self.settle()
            return self.catalogue.track(number)

    def settle(self) -> None:
        """Take out of Milvus and Zarr whatever the ledger does not call stored."""
        with self._writing:
            for track in self.catalogue.leftovers():
                self._clear(track)

    def rebuild(self) -> int:
        """Fill Milvus anew from Zarr, without audio; returns the number of segments."""
        with self._writing:
            self._fingerprints.recreate(self.catalogue.name())
            for track in self.catalogue.tracks("stored"):
                kept = self._nodes.fingerprints(track.first_row, track.rows)
                if len(kept.segment_indices) != track.segments:
                    raise MissingNodeMatrix(
                        f"track {track.number} ({track.path}) has {len(kept.segment_indices)} of {track.segments} "
                        "segments in Zarr; remove it and ingest it again"
                    )
                self._fingerprints.upsert(segment_id(track.number, kept.segment_indices), kept.fingerprints)
            self._fingerprints.flush()
            return self.require_complete()

    # Reading

    def candidates(
        self, fingerprints: NDArray[np.float32], *, limit: int, exclude_tracks: Iterable[int] = ()
    ) -> Candidates:
        """The ``limit`` most similar stored segments for each fingerprint (queries, dimensions).

        Fewer come back only where fewer are stored. ValueError for another shape, NaN, or a limit outside 1..16384.
        """
        fingerprints = self._queries(fingerprints, limit)
        excluded, width = np.array(sorted(exclude_tracks), np.int64), limit
        while True:
            found = self._fingerprints.search(fingerprints, limit=width)
            kept = self._allowed(found, excluded).first(limit)
            short = np.bincount(kept.query_rows, minlength=len(fingerprints)) < limit
            more = np.bincount(found.query_rows, minlength=len(fingerprints)) >= width
            if width == MOST_CANDIDATES or not (short & more).any():
                return kept
            width = min(4 * width, MOST_CANDIDATES)

    def node_matrices(self, segment_ids: ArrayLike) -> NDArray[np.float16]:
        """Node matrices (segments, nodes, channels) of any segments, in order; MissingNodeMatrix if one is missing."""
        ids = np.asarray(segment_ids, np.int64)
        numbers, position = np.unique(track_of(ids), return_inverse=True)
        tracks = {track.number: track for track in self.catalogue.by_numbers(numbers) if track.state == "stored"}
        kept = [tracks.get(int(number)) for number in numbers]
        first_rows = np.array([track.first_row if track else 0 for track in kept], np.int64)[position]
        lengths = np.array([track.rows if track else 0 for track in kept], np.int64)[position]
        self._require_all(index_of(ids) < lengths, ids)
        node_matrices = self._nodes.node_matrices(first_rows + index_of(ids))
        self._require_all(peaks(node_matrices) > 0, ids)
        return node_matrices

    def features(self, numbers: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """Contrast features (frames, semitones) of whole tracks, as far as they are stored, by number.

        Empty for an encoder that has none.
        """
        if not self.identity.semitones:
            return {}
        stored = [track for track in self.catalogue.by_numbers(numbers) if track.state == "stored"]
        kept = {track.number: self._nodes.contrast(track.first_row, track.rows) for track in stored}
        return {number: rows.reshape(-1, self.identity.semitones) for number, rows in kept.items()}

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

    def require_complete(self) -> int:
        """Segments in Milvus; IndexIncomplete where there are fewer than the ledger calls stored."""
        stored, found = self.catalogue.counts().segments, self._fingerprints.count()
        if found < stored:
            raise IndexIncomplete(f"Milvus holds {found} of {stored} stored segments; run `asid reindex`")
        return found

    # Steps

    def _withdraw(self, number: int) -> None:
        track = self.catalogue.track(number)
        self.catalogue.pending(number)
        if track.first_row is not None:
            self._clear(track)

    def _clear(self, track: Track) -> None:
        self._fingerprints.delete(segment_id(track.number, np.arange(track.rows)).tolist())
        self._nodes.clear(track.first_row, track.rows)
        self.catalogue.cleared(track.number)

    def _allowed(self, found: Candidates, excluded: NDArray[np.int64]) -> Candidates:
        numbers = track_of(found.segment_ids)
        tracks = self.catalogue.by_numbers(np.unique(numbers))
        stored = np.array([track.number for track in tracks if track.state == "stored"], np.int64)
        return found.pick(np.isin(numbers, stored) & ~np.isin(numbers, excluded))

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

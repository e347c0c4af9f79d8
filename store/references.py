"""The references: ledger, Zarr and Milvus as one.

Adding claims the track, writes Zarr, then Milvus, then the ledger says ``stored``; removing goes the other way. A
candidate counts only where the ledger says ``stored``, so what is searchable always has its node matrix. What an
interrupted run left behind is taken out when the references are opened for writing again, and the file is added anew.
Several processes may add at the same time where Milvus is a server; a claim keeps each track to one of them.
"""

import threading
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from encoder.encoding import Encoding
from store.bulk import Rows
from store.catalogue import Catalogue, Track
from store.check import checked
from store.directory import INDEX_FOLDER, LEDGER_FILE, NODES_FOLDER, held, room
from store.directory import ledger_url as directory_ledger_url
from store.fingerprints import Fingerprints, IndexSettings
from store.identity import Identity
from store.ledger import LedgerUnavailable
from store.node_form import FULL, NodeForm
from store.nodes import Nodes
from store.plan import Pending, Plan, plan
from store.reading import MissingNodeMatrix, Stored
from store.segment_ids import segment_id


class References(Stored):
    """All references of one catalogue, made by one encoder. Threads of a process take turns at writing."""

    def __init__(self, *, identity: Identity, catalogue: Catalogue, nodes: Nodes, fingerprints: Fingerprints) -> None:
        super().__init__(identity=identity, catalogue=catalogue, nodes=nodes, fingerprints=fingerprints)
        self._parts = ExitStack()  # what close() closes
        self._writing = threading.RLock()

    @classmethod
    def open(
        cls, directory: str | Path, identity: Identity, *, form: NodeForm = FULL, milvus_uri: str | None = None,
        milvus_token: str = "", alias: str = "asid", ledger_url: str | None = None,
        index: IndexSettings | None = None, nodes_url: str | None = None,
        read_only: bool = False, verify: bool = True, beside: bool = False, alone: bool = False,
    ) -> Self:  # fmt: skip
        """Open what is kept under ``directory`` of the encoder of this ``identity``, creating it unless ``read_only``.

        Node matrices may lie in an object store, at ``nodes_url``, in one ``form`` or another. ``beside`` opens what an
        encoder keeps that is not the one in use; ``alone`` keeps other writers out.
        IndexMismatch where another encoder made it; IndexUnavailable where Milvus is away or another process is in the
        way; IndexIncomplete where ``verify`` finds fewer segments in Milvus than are stored (``rebuild`` mends that);
        FileNotFoundError where ``read_only`` and there is nothing.
        """
        identity = replace(identity, node_form=form.name)
        directory = Path(directory).absolute()
        if read_only and not (ledger_url or (directory / LEDGER_FILE).exists()):
            raise FileNotFoundError(f"no catalogue in {directory}; run `asid ingest` first")
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as parts:
            if not read_only:
                parts.enter_context(held(directory, alone=alone))
            url = ledger_url or directory_ledger_url(directory)
            catalogue = parts.enter_context(closing(Catalogue.open(url, identity.digest)))
            if read_only and catalogue.current() is None:  # whoever only looks binds it to no encoder
                raise FileNotFoundError(f"the catalogue in {directory} is empty; run `asid ingest` first")
            catalogue.adopt(identity, beside=beside)
            kept_nodes = Nodes.open(nodes_url or directory / NODES_FOLDER, identity, form=form, read_only=read_only)
            uri, name = milvus_uri or str(directory / INDEX_FOLDER), catalogue.name()
            settings = {"token": milvus_token, "alias": alias, "index": index}
            settings |= {"read_only": read_only, "beside": beside}
            fingerprints = parts.enter_context(closing(Fingerprints.open(uri, identity, catalogue=name, **settings)))
            references = cls(identity=identity, catalogue=catalogue, nodes=kept_nodes, fingerprints=fingerprints)
            if not read_only:
                references.settle()
            if verify:
                references.require_complete()
            references._parts = parts.pop_all()
        return references

    def close(self) -> None:
        """Give up claims, flush and close every part; closing twice is harmless."""
        with suppress(LedgerUnavailable):  # claims end by themselves
            self.catalogue.claims.release()
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    # Writing

    def plan(self, paths: Iterable[str | Path], *, retry: bool = False) -> Plan:
        """What is to be done with these files; takes out what is stored of those that changed."""
        with self._writing:
            outcome = plan(self.catalogue, paths, retry=retry)
            self.settle()
            return outcome

    def claim(self, pending: Pending) -> bool:
        """Take a planned file for this worker, or hold it longer; False where another worker has it or had it."""
        return self.catalogue.claims.take(pending.number)

    def add(
        self, pending: Pending, blocks: Iterable[Encoding], *, duration: float, title: str = "", artist: str = "",
        isrc: str = "",
    ) -> Track:  # fmt: skip
        """Store one track from its consecutive blocks, consumed one at a time; adding it again replaces it.

        ValueError where a block does not fit this encoder, ClaimLost where another worker has the track; whatever
        ``blocks`` raises passes through, and in every case the track stays pending and nothing else is touched.
        """
        number, claims = pending.number, self.catalogue.claims
        with self._writing, room(f"track {number} was stored"):
            if self.catalogue.track(number).state != "pending":
                self.catalogue.pending(number)
            claims.require(number)
            self._clear(self.catalogue.track(number))
            claims.renew(number)  # notes in the ledger that something may be kept again
            written = self._nodes.write(number, checked(claims.kept(number, blocks), self.identity))
            facts = {"duration": duration, "title": title, "artist": artist, "isrc": isrc}
            claims.renew(number)
            self.catalogue.placed(number, rows=written.rows, segments=len(written.segment_indices), **facts)
            self._fingerprints.upsert(segment_id(number, written.segment_indices), written.fingerprints)
            claims.renew(number)
            self.catalogue.stored(number)
            return self.catalogue.track(number)

    def failed(self, number: int, reason: str, *, seen: bool = True) -> None:
        """Note that a file cannot be used, and why; what was written of it is taken out.

        One that was not ``seen``, as a share that has gone away, is tried again by the next plan.
        """
        with self._writing:
            self.catalogue.failed(number, reason, seen=seen)
            self._clear(self.catalogue.track(number))

    def remove(self, number: int) -> Track:
        """Take a track out; LookupError where there is none with this number."""
        with self._writing:
            self.catalogue.track(number)
            self.catalogue.removed(number)
            self.settle()
            return self.catalogue.track(number)

    def settle(self) -> None:
        """Take out of Milvus and Zarr whatever the ledger does not call stored and nobody works on."""
        with self._writing:
            claims = self.catalogue.claims
            claims.release_dead()
            for track in self.catalogue.leftovers():
                if claims.seize(track.number):  # whoever was only slow notices, and does not call it stored
                    self._clear(track)
                    claims.free(track.number)

    def rebuild(self) -> int:
        """Fill Milvus anew from Zarr, without audio; returns the number of segments."""
        with self._writing:
            self._fingerprints.recreate(self.catalogue.name())
            stored = self.catalogue.tracks("stored")
            self._fingerprints.fill(map(self._rows_of, stored), rows=self.counts().segments)
            return self.require_complete()

    def switch(self) -> None:
        """Make these references the ones in use; what another encoder made stays beside them until it is dropped."""
        with self._writing:
            self.catalogue.switch()
            self._fingerprints.switch(self.catalogue.name())

    def _rows_of(self, track: Track) -> Rows:
        """Ids and fingerprints of one track from Zarr; MissingNodeMatrix where some are not there."""
        kept = self._nodes.fingerprints(track.number, track.rows)
        if len(kept.segment_indices) != track.segments:
            raise MissingNodeMatrix(
                f"track {track.number} ({track.path}) has {len(kept.segment_indices)} of {track.segments} "
                "segments in Zarr; remove it and ingest it again"
            )
        return segment_id(track.number, kept.segment_indices), kept.fingerprints

    def _clear(self, track: Track) -> None:
        if track.rows is None:
            return
        if track.rows:
            self._fingerprints.delete(segment_id(track.number, np.arange(track.rows)).tolist())
        self._nodes.clear(track.number)
        self.catalogue.cleared(track.number)

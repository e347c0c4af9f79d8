"""Models: what several encoders keep in one catalogue, beside each other, of which one is in use."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from store import nodes
from store.catalogue import Catalogue, Counts
from store.directory import INDEX_FOLDER, LEDGER_FILE, NODES_FOLDER, held, ledger_url
from store.fingerprints import Fingerprints


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a catalogue lies."""

    directory: Path
    ledger_url: str | None = None
    milvus_uri: str | None = None
    milvus_token: str = ""
    nodes_url: str | None = None
    alias: str = "asid"

    def catalogue(self, digest: str) -> Catalogue:
        """The rows of one encoder; FileNotFoundError where there is no catalogue."""
        if not (self.ledger_url or (self.directory / LEDGER_FILE).exists()):
            raise FileNotFoundError(f"no catalogue in {self.directory}; run `asid ingest` first")
        return Catalogue.open(self.ledger_url or ledger_url(self.directory), digest)


@dataclass(frozen=True, kw_only=True)
class Model:
    """What one encoder keeps in a catalogue."""

    digest: str
    in_use: bool
    counts: Counts


def models(place: Place) -> list[Model]:
    """All models of a catalogue, the one in use first."""
    with closing(place.catalogue("")) as catalogue:
        digests, current = list(catalogue.identities()), catalogue.current()
    found = []
    for digest in sorted(digests, key=lambda digest: (digest != current, digest)):
        with closing(place.catalogue(digest)) as rows:
            found.append(Model(digest=digest, in_use=digest == current, counts=rows.counts()))
    return found


def stored_paths(place: Place) -> list[Path]:
    """The files that the model in use has stored; FileNotFoundError where the catalogue is empty."""
    current = next((model.digest for model in models(place) if model.in_use), None)
    if current is None:
        raise FileNotFoundError(f"the catalogue in {place.directory} is empty; run `asid ingest` first")
    with closing(place.catalogue(current)) as catalogue:
        return [track.path for track in catalogue.tracks("stored")]


def drop(place: Place, wanted: str) -> str:
    """Delete what the model of that digest, or beginning of one, keeps in Milvus, Zarr and ledger; returns the digest.

    LookupError where no model or more than one fits, ValueError where it is in use.
    """
    known = models(place)
    fitting = [model for model in known if model.digest.startswith(wanted)]
    if len(fitting) != 1 or not wanted:
        there = ", ".join(model.digest[:12] for model in known)
        raise LookupError(f"{wanted!r} names {len(fitting)} of the models here, expected one of {there}")
    (model,) = fitting
    if model.in_use:
        raise ValueError(f"{model.digest[:12]} is in use; `asid ingest --checkpoint NEW` makes another one take over")
    with held(place.directory, alone=True), closing(place.catalogue(model.digest)) as catalogue:
        identity = catalogue.identities()[model.digest]
        uri = place.milvus_uri or str(place.directory / INDEX_FOLDER)
        settings = {"token": place.milvus_token, "alias": place.alias, "catalogue": catalogue.name()}
        with closing(Fingerprints.open(uri, identity, beside=True, **settings)) as fingerprints:
            fingerprints.drop()
        nodes.delete(place.nodes_url or place.directory / NODES_FOLDER, identity)
        catalogue.forget()
    return model.digest

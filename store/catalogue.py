"""The catalogue's ledger as one encoder sees it: one row per file, with what became of it.

A track is ``pending`` (to be encoded), ``stored`` (searchable), ``failed`` (with the reason) or ``removed``. A row
keeps its number for ever; a changed file becomes pending again under it, and what was stored of it is taken out. That a
file was removed holds for every encoder's row of it, so that it does not come back when another encoder takes over.
"""

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

import sqlalchemy as sa

from store import ledger
from store.claims import Claims
from store.identity import Identity

State = Literal["pending", "stored", "failed", "removed"]
STATES: tuple[State, ...] = ("pending", "stored", "failed", "removed")
_CURRENT, _IDENTITY = "current", "identity:"  # settings
_BATCH = 500  # values per IN (...); well below every database's limit


@dataclass(frozen=True, kw_only=True)
class Track:
    """One row of the ledger."""

    number: int
    path: Path
    content_hash: str
    size: int  # bytes
    mtime_ns: int
    title: str
    artist: str
    isrc: str
    duration: float  # seconds
    state: State
    reason: str
    digest: str  # of the checkpoint
    rows: int | None  # in Zarr, silent segments included; None where nothing of the track is kept
    segments: int  # in Milvus
    claimed_by: str | None  # the worker that encodes it
    claimed_until: float | None  # seconds since 1970
    created: datetime  # UTC
    updated: datetime  # UTC

    @property
    def claimed(self) -> bool:
        """Whether a worker's claim on it holds."""
        return self.claimed_until is not None and self.claimed_until > time.time()


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many tracks are in each state, and what the stored ones amount to."""

    pending: int
    stored: int
    failed: int
    removed: int
    segments: int  # of the stored tracks
    duration: float  # seconds, of the stored tracks


class Catalogue:
    """The rows of one encoder in a ledger; safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine, digest: str) -> None:
        self._engine, self._digest = engine, digest
        self._url = engine.url.render_as_string(hide_password=False)
        self.claims = Claims(engine, self._url)

    @classmethod
    def open(cls, url: str, digest: str) -> Self:
        """Open or create a ledger (``sqlite://`` is one in memory). LedgerUnavailable, LedgerMismatch."""
        return cls(ledger.open_engine(url), digest)

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @property
    def url(self) -> str:
        """The database's SQLAlchemy URL, password included."""
        return self._url

    # What the catalogue is

    def current(self) -> str | None:
        """Digest of the encoder in use, None as long as the catalogue is new."""
        with ledger.reaching(self._url), self._engine.connect() as connection:
            return ledger.read_setting(connection, _CURRENT)

    def identities(self) -> dict[str, Identity]:
        """Digest -> identity of every encoder that the catalogue was filled with."""
        with ledger.reaching(self._url), self._engine.connect() as connection:
            kept = ledger.read_settings(connection, _IDENTITY)
        return {name.removeprefix(_IDENTITY): Identity(**json.loads(value)) for name, value in kept.items()}

    def adopt(self, identity: Identity, *, beside: bool = False) -> None:
        """Make this the catalogue of one encoder, or of one more ``beside`` it; IndexMismatch where it is another's."""
        where = f"the catalogue {self._engine.url.render_as_string()}"
        current, known = self.current(), self.identities().get(self._digest)
        if current is not None and not beside:
            identity.require({"digest": current}, where)
        if known is not None:
            return identity.require(dataclasses.asdict(known), where)
        try:
            self._begin(identity, beside, where)
        except sa.exc.IntegrityError:  # another process did the same at the same time; what it wrote counts
            self.adopt(identity, beside=beside)
        return None

    def switch(self) -> None:
        """Make this encoder's rows the ones in use."""
        with ledger.reaching(self._url), self._engine.begin() as connection:
            ledger.write_setting(connection, _CURRENT, self._digest)

    def forget(self) -> None:
        """Delete this encoder's rows and identity; that files were removed stays noted with the encoder in use."""
        with ledger.reaching(self._url), self._engine.begin() as connection:
            current = ledger.read_setting(connection, _CURRENT)
            if current not in (None, self._digest):
                connection.execute(_handed_over(self._digest, current))
            connection.execute(sa.delete(ledger.tracks).where(ledger.tracks.c.digest == self._digest))
            ledger.delete_setting(connection, _IDENTITY + self._digest)

    def name(self) -> str:
        """A name no other catalogue has; tells two catalogues on one Milvus server apart."""
        with ledger.reaching(self._url), self._engine.connect() as connection:
            return ledger.read_setting(connection, "catalogue") or ""

    # Reading

    def track(self, number: int) -> Track:
        """The track with this number; LookupError where there is none."""
        found = self.by_numbers([number])
        if not found:
            raise LookupError(f"no track {number} in the catalogue; `asid info` shows what is there")
        return found[0]

    def tracks(self, state: State | None = None) -> list[Track]:
        """All tracks, or those in one state, by number."""
        query = self._select().order_by(ledger.tracks.c.number)
        return self._read(query if state is None else query.where(ledger.tracks.c.state == state))

    def by_numbers(self, numbers: Iterable[int]) -> list[Track]:
        """The tracks with these numbers, by number; unknown numbers are left out."""
        return self._read_where(ledger.tracks.c.number, sorted({int(number) for number in numbers}))

    def by_paths(self, paths: Iterable[Path]) -> list[Track]:
        """The tracks at these absolute paths; unknown paths are left out."""
        return self._read_where(ledger.tracks.c.path, [str(path) for path in paths])

    def by_hashes(self, hashes: Iterable[str]) -> list[Track]:
        """The tracks with this content, wherever they lie."""
        return self._read_where(ledger.tracks.c.content_hash, sorted(set(hashes)))

    def elsewhere(self, paths: Sequence[Path]) -> dict[Path, bool]:
        """Absolute paths that other encoders have rows for -> whether the file was removed from one of them."""
        columns, found = ledger.tracks.c, {}
        query = sa.select(columns.path, columns.state).where(columns.digest != self._digest)
        with ledger.reaching(self._url), self._engine.connect() as connection:
            for start in range(0, len(paths), _BATCH):
                batch = [str(path) for path in paths[start : start + _BATCH]]
                for path, state in connection.execute(query.where(columns.path.in_(batch))):
                    found[Path(path)] = found.get(Path(path), False) or state == "removed"
        return found

    def removed_contents(self, hashes: Iterable[str]) -> list[tuple[str, Path]]:
        """(content hash, path) of the files with this content that were removed from any encoder."""
        columns, wanted, found = ledger.tracks.c, sorted(set(hashes)), []
        query = sa.select(columns.content_hash, columns.path).where(columns.state == "removed")
        with ledger.reaching(self._url), self._engine.connect() as connection:
            for start in range(0, len(wanted), _BATCH):
                fits = columns.content_hash.in_(wanted[start : start + _BATCH])
                found += [(content, Path(path)) for content, path in connection.execute(query.where(fits))]
        return found

    def rows(self, numbers: Sequence[int]) -> dict[int, int]:
        """Number -> rows in Zarr, of those of these tracks that are stored."""
        columns, found = ledger.tracks.c, {}
        query = sa.select(columns.number, columns.rows).where(columns.digest == self._digest, columns.state == "stored")
        with ledger.reaching(self._url), self._engine.connect() as connection:
            for start in range(0, len(numbers), _BATCH):
                batch = numbers[start : start + _BATCH]
                found |= {row.number: row.rows for row in connection.execute(query.where(columns.number.in_(batch)))}
        return found

    def find(self, wanted: int | str | Path) -> list[Track]:
        """Tracks not removed whose number, path or title (any case) is ``wanted``."""
        columns, text = ledger.tracks.c, str(wanted)
        fits = (columns.path == str(spelling(text))) | (sa.func.lower(columns.title) == text.lower())
        if text.isdecimal() and len(text) < 19:
            fits |= columns.number == int(text)
        return self._read(self._select().where(fits, columns.state != "removed").order_by(columns.number))

    def counts(self) -> Counts:
        """Tracks by state; segments and seconds of the stored ones."""
        columns = ledger.tracks.c
        sums = (sa.func.count(), sa.func.sum(columns.segments), sa.func.sum(columns.duration))
        query = sa.select(columns.state, *sums).where(columns.digest == self._digest).group_by(columns.state)
        with ledger.reaching(self._url), self._engine.connect() as connection:
            by_state = {state: rest for state, *rest in connection.execute(query)}
        _, segments, duration = by_state.get("stored", (0, 0, 0.0))
        numbers = {state: by_state[state][0] if state in by_state else 0 for state in STATES}
        return Counts(**numbers, segments=int(segments), duration=float(duration))

    def leftovers(self) -> list[Track]:
        """Tracks that are not stored, that nobody works on, and that may have segments in Milvus or rows in Zarr."""
        columns = ledger.tracks.c
        kept = self._read(self._select().where(columns.rows.is_not(None), columns.state != "stored"))
        return [track for track in kept if not track.claimed]

    # Writing: each of these is one transaction

    def placed(self, number: int, *, rows: int, segments: int, **facts: str | float) -> None:
        """The track's rows are in Zarr (``facts``: duration, title, artist, isrc); it is not searchable yet."""
        self._update(number, rows=rows, segments=segments, **facts)

    def stored(self, number: int) -> None:
        """The track is complete in Zarr and Milvus."""
        self._settle(number, "stored")

    def failed(self, number: int, reason: str, *, seen: bool = True) -> None:
        """The file cannot be used, and why; one that was not ``seen`` is looked at again by the next plan."""
        self._settle(number, "failed", reason, **({} if seen else {"content_hash": ""}))

    def pending(self, number: int) -> None:
        """The track is to be encoded again; what is kept of it becomes a leftover."""
        self._settle(number, "pending")

    def removed(self, number: int) -> None:
        """The file is no longer searchable, with any encoder; what is kept of it becomes a leftover."""
        rows = sa.update(ledger.tracks).where(ledger.tracks.c.path == str(self.track(number).path))
        values = {"state": "removed", "reason": "", "claimed_by": None, "claimed_until": None}
        with ledger.reaching(self._url), self._engine.begin() as connection:
            connection.execute(rows.values(updated=datetime.now(UTC), **values))

    def cleared(self, number: int) -> None:
        """Nothing of the track is left in Milvus or Zarr."""
        self._update(number, rows=None, segments=0)

    def write(self, *, new: Sequence[dict], changed: dict[int, dict], revived: Sequence[Path] = ()) -> list[int]:
        """Insert rows and change others in one transaction; returns the numbers of the new ones, in order.

        Files at the paths ``revived`` are no longer removed from other encoders; their next ingestion takes them.
        """
        now = datetime.now(UTC)
        with ledger.reaching(self._url), self._engine.begin() as connection:
            for number, values in changed.items():
                change = sa.update(ledger.tracks).where(ledger.tracks.c.number == number)
                connection.execute(change.values(updated=now, **values))
            for start in range(0, len(revived), _BATCH):
                connection.execute(_revival([str(path) for path in revived[start : start + _BATCH]], now))
            insert = sa.insert(ledger.tracks)
            stamps = {"created": now, "updated": now, "digest": self._digest}
            rows = [connection.execute(insert.values(**stamps, **values)) for values in new]
            return [row.inserted_primary_key.number for row in rows]

    def _begin(self, identity: Identity, beside: bool, where: str) -> None:
        """Note an encoder that is new to this catalogue, and the catalogue itself where it is new."""
        with ledger.reaching(self._url), self._engine.begin() as connection:
            # Written first: of two that begin a catalogue at the same time, one waits here and reads what the other is.
            ledger.write_setting(connection, _IDENTITY + self._digest, json.dumps(dataclasses.asdict(identity)))
            current = ledger.read_setting(connection, _CURRENT)
            if current is None:
                ledger.write_setting(connection, _CURRENT, self._digest)
                ledger.write_setting(connection, "catalogue", uuid.uuid4().hex)
            elif not beside:
                identity.require({"digest": current}, where)

    def _settle(self, number: int, state: State, reason: str = "", **facts: str) -> None:
        self._update(number, state=state, reason=reason, claimed_by=None, claimed_until=None, **facts)

    def _update(self, number: int, **values: str | float | None) -> None:
        change = sa.update(ledger.tracks).where(ledger.tracks.c.number == number)
        with ledger.reaching(self._url), self._engine.begin() as connection:
            result = connection.execute(change.values(updated=datetime.now(UTC), **values))
        if result.rowcount != 1:
            raise LookupError(f"no track {number} in the catalogue; plan the file before adding it")

    def _select(self) -> sa.Select:
        return sa.select(ledger.tracks).where(ledger.tracks.c.digest == self._digest)

    def _read_where(self, column: sa.Column, values: Sequence[int | str]) -> list[Track]:
        query = self._select().order_by(ledger.tracks.c.number)
        batches = (values[i : i + _BATCH] for i in range(0, len(values), _BATCH))
        return [track for batch in batches for track in self._read(query.where(column.in_(batch)))]

    def _read(self, query: sa.Select) -> list[Track]:
        with ledger.reaching(self._url), self._engine.connect() as connection:
            return [_track(row) for row in connection.execute(query)]


def _revival(paths: Sequence[str], now: datetime) -> sa.Update:
    columns = ledger.tracks.c
    removed = sa.update(ledger.tracks).where(columns.state == "removed", columns.path.in_(paths))
    return removed.values(state="pending", updated=now)


def _handed_over(digest: str, current: str) -> sa.Update:
    """Give an encoder's removed files to the one in use, unless that one has rows for them."""
    columns, other = ledger.tracks.c, ledger.tracks.alias()
    known = sa.select(other.c.path).where(other.c.digest == current)
    removed = (columns.digest == digest, columns.state == "removed", columns.path.not_in(known))
    return sa.update(ledger.tracks).where(*removed).values(digest=current, rows=None, segments=0)


def spelling(path: str | Path) -> Path:
    """The one absolute path that a file has in the ledger, without ``..``.

    Behind a link to a folder ``..`` leads elsewhere than the name says; such a path stays as it was given.
    """
    given, plain = Path(path).absolute(), Path(os.path.abspath(path))
    elsewhere = given != plain and given.exists() and not (plain.exists() and given.samefile(plain))
    return given if elsewhere else plain


def _track(row: sa.Row) -> Track:
    values = dict(row._mapping)
    # SQLite forgets time zones; everything written here is UTC.
    times = {name: values[name].replace(tzinfo=UTC) for name in ("created", "updated")}
    return Track(**{**values, **times, "path": Path(values["path"])})

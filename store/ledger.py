"""The ledger's tables and how its database is opened: SQLite by default, any SQLAlchemy URL.

``tracks`` holds one row per file and checkpoint. ``rows`` is set as long as the track may have rows in Zarr or segments
in Milvus; a row that has it without being ``stored`` is a leftover of an interrupted addition or removal, unless a
worker's claim on it still holds. ``settings`` holds the schema version, the catalogue's own name, the identity of each
encoder that it was filled with and the digest of the one in use.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

SCHEMA_VERSION = "2"
BUSY_TIMEOUT = 30.0  # seconds a writer waits for another one before it gives up

_tables = sa.MetaData()

tracks = sa.Table(
    "tracks",
    _tables,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("path", sa.Text, nullable=False),  # absolute
    sa.Column("content_hash", sa.Text, nullable=False, index=True),  # blake2b, hexadecimal; empty if unreadable
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("title", sa.Text, nullable=False, default=""),
    sa.Column("artist", sa.Text, nullable=False, default=""),
    sa.Column("isrc", sa.Text, nullable=False, default=""),
    sa.Column("duration", sa.Float, nullable=False, default=0.0),  # seconds
    sa.Column("state", sa.Text, nullable=False, index=True),  # pending, stored, failed, removed
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("digest", sa.Text, nullable=False),  # of the checkpoint
    sa.Column("rows", sa.BigInteger),  # in Zarr, silent segments included; NULL where nothing is kept
    sa.Column("segments", sa.BigInteger, nullable=False, default=0),  # in Milvus
    sa.Column("claimed_by", sa.Text),  # the worker that encodes it
    sa.Column("claimed_until", sa.Float),  # seconds since 1970
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),  # UTC
    sa.Column("updated", sa.DateTime(timezone=True), nullable=False),  # UTC
    sa.UniqueConstraint("digest", "path"),
    sqlite_autoincrement=True,  # a number is never given twice
)

settings = sa.Table(
    "settings",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


class LedgerUnavailable(ConnectionError):
    """The ledger's database cannot be opened or is held by another writer."""


class LedgerMismatch(ValueError):
    """The ledger was written by another version of this program."""


def open_engine(url: str) -> sa.Engine:
    """Engine for ``url`` with all tables there and the schema version checked."""
    try:
        engine = sa.create_engine(url, **_options(url))
    except (sa.exc.ArgumentError, ImportError) as error:  # not a URL, no such database, its driver is not installed
        reason = " ".join(str(error).split())
        raise LedgerUnavailable(f"ledger URL: {reason}; expected such as sqlite:///ledger.db") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    try:
        with reaching(url):
            _tables.create_all(engine)
    except sa.exc.ProgrammingError as error:
        raise LedgerUnavailable(f"ledger {_shown(url)}: {error.orig}; let its user create tables") from error
    with reaching(url), engine.begin() as connection:
        version = read_setting(connection, "schema")
        if version is None:
            write_setting(connection, "schema", SCHEMA_VERSION)
    if version not in (None, SCHEMA_VERSION):
        engine.dispose()
        raise LedgerMismatch(
            f"ledger {_shown(url)} has schema {version}, this version of asid reads schema {SCHEMA_VERSION}; "
            "use the version of asid that wrote it, or ingest into another data directory"
        )
    return engine


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a database driver says of a dead, locked or foreign database into LedgerUnavailable."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
        if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
            raise
        raise LedgerUnavailable(
            f"ledger {_shown(url)}: {error.orig}; check that it can be written and that no other process holds it"
        ) from error


def read_setting(connection: sa.Connection, name: str) -> str | None:
    """Value of a setting, None where it was never written."""
    return connection.scalar(sa.select(settings.c.value).where(settings.c.name == name))


def read_settings(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """Settings whose names begin so, by name."""
    found = connection.execute(sa.select(settings).where(settings.c.name.startswith(prefix, autoescape=True)))
    return {row.name: row.value for row in found}


def delete_setting(connection: sa.Connection, name: str) -> None:
    """Delete a setting; one that is not there is no error."""
    connection.execute(sa.delete(settings).where(settings.c.name == name))


def write_setting(connection: sa.Connection, name: str, value: str) -> None:
    """Write a setting, replacing what was there."""
    delete_setting(connection, name)
    connection.execute(sa.insert(settings).values(name=name, value=value))


def _options(url: str) -> dict:
    if not url.startswith("sqlite"):
        return {"pool_pre_ping": True}
    in_memory = sa.make_url(url).database in (None, "", ":memory:")
    # An in-memory database lives in one connection, which all threads share.
    pool = {"poolclass": StaticPool} if in_memory else {}
    return {"connect_args": {"timeout": BUSY_TIMEOUT, "check_same_thread": False}, **pool}


def _prepare_sqlite(connection, _record) -> None:
    # SQLite's own knows no letters but those of ASCII.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)
    connection.execute("PRAGMA journal_mode=WAL")  # readers go on while one process writes
    connection.execute("PRAGMA synchronous=FULL")  # what is called stored survives a power cut


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)

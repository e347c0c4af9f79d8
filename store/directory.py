"""The data directory: where each part lies in it, and how processes share it or one holds it for itself."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from store.connection import IndexUnavailable

LEDGER_FILE = "ledger.sqlite"
INDEX_FOLDER = "fingerprints.db"  # pymilvus takes the ending as the sign of Milvus Lite
NODES_FOLDER = "nodes"


def ledger_url(directory: str | Path) -> str:
    """URL of the ledger that lies in a data directory by default."""
    database = str(Path(directory).absolute() / LEDGER_FILE)
    return sa.URL.create("sqlite", database=database).render_as_string()


@contextmanager
def held(directory: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the data directory together with others who write to it, or ``alone``; IndexUnavailable where others do.

    Who adds tracks shares it, since claims keep workers apart; who fills or drops a whole index needs it alone.
    """
    with (directory / "writer.lock").open("w") as file:
        try:
            # Freed by the system when the process ends, however it ends.
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IndexUnavailable(f"another process is writing to {directory}; wait for it to finish") from error
        yield


@contextmanager
def room(while_what: str) -> Iterator[None]:
    """Tell a full disk in one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            f"{error.strerror} while {while_what}: {error.filename or 'the data directory'}; free some space and run "
            "the same command again, nothing stored is lost"
        ) from error

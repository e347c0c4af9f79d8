"""Claims: which worker encodes which track, so that two never take the same one and a dead one's come back.

A claim is a worker's name and the time until which it holds, written in one statement that succeeds only where nobody
else's claim holds. A worker renews its claim while it works; one that died loses it when the time is over, or at once
where the next worker runs on the same host and sees that the process is gone.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import TypeVar

import sqlalchemy as sa

from store import ledger

HOLDS = 120.0  # seconds; far longer than a worker needs from one renewal to the next
_BATCH = 500  # numbers per IN (...)

Item = TypeVar("Item")


class ClaimLost(LookupError):
    """Another worker has taken the track over, since this one's claim had run out."""


class Claims:
    """The claims of one worker on the tracks of a ledger."""

    def __init__(self, engine: sa.Engine, url: str, *, holds: float = HOLDS) -> None:
        self._engine, self._url, self._holds = engine, url, holds
        self._taken = False
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def take(self, number: int) -> bool:
        """Claim a pending track, or renew the claim; False where another worker's holds or it is no longer pending."""
        columns, now = ledger.tracks.c, time.time()
        free = columns.claimed_by.is_(None) | (columns.claimed_by == self.worker) | (columns.claimed_until < now)
        change = sa.update(ledger.tracks).where(columns.number == number, columns.state == "pending", free)
        values = {"claimed_by": self.worker, "claimed_until": now + self._holds}
        values["rows"] = sa.func.coalesce(columns.rows, 0)  # from here on something of it may be kept
        with ledger.reaching(self._url), self._engine.begin() as connection:
            taken = connection.execute(change.values(values)).rowcount == 1
        self._taken |= taken
        return taken

    def require(self, number: int) -> None:
        """ClaimLost unless the track can be claimed or is this worker's already."""
        if not self.take(number):
            raise ClaimLost(f"track {number} is being added by another worker, or was taken out; nothing is to be done")

    def kept(self, number: int, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on and renew the claim of the track that they are of; ClaimLost where it is lost meanwhile."""
        renewed = time.monotonic()
        for item in items:
            if time.monotonic() - renewed > self._holds / 4:
                self.require(number)
                renewed = time.monotonic()
            yield item

    def release(self) -> None:
        """Give up all claims of this worker, so that nobody waits for what it has left undone."""
        if not self._taken:
            return
        mine = sa.update(ledger.tracks).where(ledger.tracks.c.claimed_by == self.worker)
        with ledger.reaching(self._url), self._engine.begin() as connection:
            connection.execute(mine.values(claimed_by=None, claimed_until=None))
        self._taken = False

    def release_dead(self) -> None:
        """Give up the claims of workers of this host whose process is gone."""
        columns = ledger.tracks.c
        with ledger.reaching(self._url), self._engine.begin() as connection:
            held = sa.select(columns.claimed_by).where(columns.claimed_by.is_not(None)).distinct()
            gone = [worker for worker in connection.scalars(held) if _is_gone(worker)]
            for start in range(0, len(gone), _BATCH):
                theirs = columns.claimed_by.in_(gone[start : start + _BATCH])
                connection.execute(sa.update(ledger.tracks).where(theirs).values(claimed_by=None, claimed_until=None))


def _is_gone(worker: str) -> bool:
    host, process, _ = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's process of that number
        return False
    return False

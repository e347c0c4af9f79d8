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
_COLUMNS = ledger.tracks.c

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
        return self._hold(number, _COLUMNS.state == "pending", self._mine | _nobodys(), begun=True)

    def require(self, number: int) -> None:
        """ClaimLost unless the track can be claimed or is this worker's already."""
        if not self.take(number):
            raise _lost(number)

    def renew(self, number: int) -> None:
        """Hold a pending track longer; ClaimLost where this worker's claim has run out and others have seen it.

        What was written under it may be gone then, even where the track is free again.
        """
        if not self._hold(number, _COLUMNS.state == "pending", self._mine, begun=True):
            raise _lost(number)

    def seize(self, number: int) -> bool:
        """Claim a track that is not stored, to take out what is left of it; False where somebody works on it."""
        return self._hold(number, _COLUMNS.state != "stored", _nobodys(), begun=False)

    def free(self, number: int) -> None:
        """Give up this worker's claim on one track."""
        self._give_up(_COLUMNS.number == number, self._mine)

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        return _COLUMNS.claimed_by == self.worker

    def _hold(self, number: int, *where: sa.ColumnElement[bool], begun: bool) -> bool:
        change = sa.update(ledger.tracks).where(_COLUMNS.number == number, *where)
        values = {"claimed_by": self.worker, "claimed_until": time.time() + self._holds}
        if begun:
            values["rows"] = sa.func.coalesce(_COLUMNS.rows, 0)  # from here on something of it may be kept
        with ledger.reaching(self._url), self._engine.begin() as connection:
            held = connection.execute(change.values(values)).rowcount == 1
        self._taken |= held
        return held

    def _give_up(self, *where: sa.ColumnElement[bool]) -> None:
        change = sa.update(ledger.tracks).where(*where).values(claimed_by=None, claimed_until=None)
        with ledger.reaching(self._url), self._engine.begin() as connection:
            connection.execute(change)

    def kept(self, number: int, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on and renew the claim of the track that they are of; ClaimLost where it is lost meanwhile."""
        renewed = time.monotonic()
        for item in items:
            if time.monotonic() - renewed > self._holds / 4:
                self.renew(number)
                renewed = time.monotonic()
            yield item

    def release(self) -> None:
        """Give up all claims of this worker, so that nobody waits for what it has left undone."""
        if not self._taken:
            return
        self._give_up(self._mine)
        self._taken = False

    def release_dead(self) -> None:
        """Give up the claims of workers of this host whose process is gone."""
        columns = _COLUMNS
        with ledger.reaching(self._url), self._engine.begin() as connection:
            held = sa.select(columns.claimed_by).where(columns.claimed_by.is_not(None)).distinct()
            gone = [worker for worker in connection.scalars(held) if _is_gone(worker)]
            for start in range(0, len(gone), _BATCH):
                theirs = columns.claimed_by.in_(gone[start : start + _BATCH])
                connection.execute(sa.update(ledger.tracks).where(theirs).values(claimed_by=None, claimed_until=None))


def _nobodys() -> sa.ColumnElement[bool]:
    return _COLUMNS.claimed_by.is_(None) | (_COLUMNS.claimed_until < time.time())


def _lost(number: int) -> ClaimLost:
    return ClaimLost(f"track {number} is being added by another worker, or was taken out; nothing is to be done")


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

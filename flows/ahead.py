"""Encoding ahead: tracks are encoded in threads while one writer stores them in their order."""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from queue import Full, Queue

from encoder.encode import Encoder
from encoder.encoding import Encoding
from flows.decoding import Source

_WAITING = 2  # encoded blocks that wait for the writer, per track


def encoded(
    batch: Iterable[Source], encoder: Encoder, workers: int
) -> Generator[tuple[Source, Iterable[Encoding]], None, None]:
    """Each track with its blocks, `workers` tracks being encoded ahead in threads of their own.

    A thread is told to stop when its track's turn is over, whether its blocks were taken or not.
    """
    coming, running = iter(batch), deque()
    try:
        while True:
            for source in islice(coming, workers + 1 - len(running)):
                running.append((source, _Ahead(source.blocks(encoder))))
            if not running:
                return
            yield running[0]
            running.popleft()[1].stop()
    finally:
        for _, ahead in running:
            ahead.stop()


class _Ahead:
    """An iterator worked off in a thread; a few items wait, so that a long track cannot fill the memory."""

    def __init__(self, items: Iterator[Encoding]) -> None:
        self._items, self._queue, self._stopped = items, Queue(_WAITING), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Encoding]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def stop(self) -> None:
        """Give up what was not taken, once the block that is being worked on is finished.

        A thread left inside PyTorch at the end of the process would abort it.
        """
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                self._put((item, None))
                if self._stopped.is_set():
                    return
            self._put((None, None))
        except Exception as error:  # noqa: BLE001 (raised again in the thread that reads)
            self._put((None, error))

    def _put(self, item: tuple[Encoding | None, Exception | None]) -> None:
        while not self._stopped.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=1)
                return

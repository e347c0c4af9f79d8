"""The ingestion flow: audio files -> Zarr, Milvus, ledger.

1. Discover the audio files under the given paths.
2. Plan: compare them with the ledger; what is stored unchanged is skipped.
3. Encode and store batch by batch, each batch one task; a bad file becomes a failed row and never stops the rest.
4. Summarise.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Full, Queue

import torch
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from encoder import audio
from encoder.encode import Encoder
from encoder.encoding import Encoding
from flows import assembly
from flows.settings import Settings
from store.plan import Pending
from store.references import References

BATCH = 16  # tracks per task
_WAITING = 2  # encoded blocks that wait for the writer, per track


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file."""

    path: Path
    state: str  # stored, skipped or failed
    seconds: float = 0.0  # of audio
    segments: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One ingestion."""

    outcomes: tuple[Outcome, ...]
    seconds: float  # wall time

    def having(self, state: str) -> list[Outcome]:
        """Outcomes in that state."""
        return [o for o in self.outcomes if o.state == state]

    @property
    def audio_seconds(self) -> float:
        """Audio stored in this run."""
        return sum(o.seconds for o in self.having("stored"))


Progress = Callable[[Outcome, int, int], None]  # outcome, bytes of its file, bytes of all files to do


def _silent(outcome: Outcome, size: int, total: int) -> None:
    pass


@flow(name="ingest-catalogue")
def ingest_catalogue(
    paths: list[Path], settings: Settings, *, retry: bool = False, progress: Progress | None = None
) -> Summary:
    """Store every audio file under `paths` that is not stored yet; running it again goes on where it stopped."""
    began = time.perf_counter()
    files = discover(paths)
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder) as references:
        todo = references.plan(files, retry=retry)
        outcomes = [Outcome(path=t.path, state="skipped") for t in todo.unchanged]
        outcomes += [Outcome(path=t.path, state="skipped", reason="removed earlier") for t in todo.removed]
        outcomes += [Outcome(path=t.path, state="failed", reason=t.reason) for t in todo.failed]
        total = sum(p.size for p in todo.pending)
        for start in range(0, len(todo.pending), BATCH):
            batch = todo.pending[start : start + BATCH]
            outcomes += store_batch(batch, encoder, references, settings.workers, progress or _silent, total)
    summary = Summary(outcomes=tuple(outcomes), seconds=time.perf_counter() - began)
    publish(summary)
    return summary


@task(name="store-batch", cache_policy=NO_CACHE, persist_result=False)
def store_batch(
    batch: tuple[Pending, ...], encoder: Encoder, references: References, workers: int, progress: Progress, total: int
) -> list[Outcome]:
    """Encode the tracks of one batch side by side, store them one after the other."""
    outcomes = []
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # one track a core beats all cores on one track
    try:
        with closing(_encoded(batch, encoder, workers)) as encoded:
            for pending, blocks in encoded:
                outcomes.append(store(pending, blocks, references))
                progress(outcomes[-1], pending.size, total)
    finally:
        torch.set_num_threads(threads)
    return outcomes


def store(pending: Pending, blocks: Iterable[Encoding], references: References) -> Outcome:
    """One track into Zarr, Milvus and ledger; what cannot be used is a failed row with its reason."""
    try:
        tags = audio.info(pending.path)
        track = references.add(
            pending, blocks, duration=tags.duration, title=tags.title, artist=tags.artist, isrc=tags.isrc
        )
    except ValueError as error:  # AudioError, or what the store refuses: a recording of more than nine hours
        reason = error.reason if isinstance(error, audio.AudioError) else str(error)
        references.failed(pending.number, reason)
        return Outcome(path=pending.path, state="failed", reason=reason)
    return Outcome(path=track.path, state="stored", seconds=track.duration, segments=track.segments)


def discover(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and every audio file (by its suffix) below the folders given, in order of name."""
    files = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; check the path")
        found = sorted(p for p in path.rglob("*") if _is_audio(p))
        if path.is_dir() and not found:
            raise FileNotFoundError(
                f"{path}: holds no audio file, expected at least one (wav, flac, mp3, ogg, m4a ...)"
            )
        files += found if path.is_dir() else [path]
    return files


def _is_audio(path: Path) -> bool:
    # Hidden files bear the names of others without their content (`._song.mp3` of macOS).
    return path.suffix.lower() in audio.SUFFIXES and not path.name.startswith(".") and path.is_file()


def publish(summary: Summary) -> None:
    """The run's table in the Prefect UI."""
    rows = [{"file": str(o.path), "state": o.state, "reason": o.reason} for o in summary.having("failed")]
    counts = {state: len(summary.having(state)) for state in ("stored", "skipped", "failed")}
    create_table_artifact(key="ingestion", table=rows or [counts], description=f"{counts}, {summary.seconds:.0f} s")


def _encoded(
    batch: Iterable[Pending], encoder: Encoder, workers: int
) -> Generator[tuple[Pending, Iterable[Encoding]], None, None]:
    """Each track with its blocks, `workers` tracks being encoded ahead in threads of their own.

    A thread is told to stop when its track's turn is over, whether its blocks were taken or not.
    """
    coming, running = iter(batch), deque()
    try:
        while True:
            for pending in islice(coming, workers + 1 - len(running)):
                running.append((pending, _Ahead(encoder.blocks(pending.path))))
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
        threading.Thread(target=self._work, daemon=True).start()

    def __iter__(self) -> Iterator[Encoding]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def stop(self) -> None:
        """Give up what was not taken; the block that is being worked on is finished by itself."""
        self._stopped.set()

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

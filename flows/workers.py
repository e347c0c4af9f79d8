"""Workers: who encodes and stores the tracks of an ingestion, and what happens when one dies.

`threads`: this process, some tracks encoded ahead side by side. `processes`: a pool on this machine. `dask`: the
workers of a Dask cluster, which need the same settings, files and stores within reach; there, some may decode for
others that encode (flows/decoding.py). Other processes than this one need a Milvus server, since Milvus Lite is one
process's.

Tracks whose worker died come back one by one; a track that takes its third worker with it is a failed row. What another
ingestion has claimed is waited for: it is stored in the end, or comes free when its worker dies.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner

from encoder import audio
from encoder.encode import Encoder
from encoder.encoding import Encoding
from encoder.limits import Limits
from flows import assembly, runners
from flows.ahead import encoded
from flows.decoding import Decoded, File, Source, decode_batch
from flows.settings import Settings
from store.claims import ClaimLost
from store.plan import Pending
from store.references import References

BATCH = 16  # tracks per task
_DECODED = 4  # the same where their waveforms travel: 13 MB for 210 s
_DEATHS = 3  # workers that a track may take with it
_DEAD = ("KilledWorker", "TaskRunError", "CommClosedError")  # distributed's; it is imported only where it is asked for
_LOOK_AGAIN = 1.0  # seconds, while others hold claims

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file."""

    path: Path
    state: str  # stored, skipped or failed
    seconds: float = 0.0  # of audio
    segments: int = 0
    reason: str = ""


Tell = Callable[[Outcome], None]


class Ingestion:
    """The tracks of one ingestion, worked off until none is pending."""

    def __init__(
        self, references: References, encoder: Encoder, settings: Settings, *, beside: bool, tell: Tell
    ) -> None:  # fmt: skip
        self._references, self._encoder = references, encoder
        self._settings, self._beside, self._tell = settings, beside, tell
        self._deaths: Counter[int] = Counter()  # track number -> workers that died over it

    def __call__(self, pending: Sequence[Pending]) -> Iterator[Outcome]:
        """What became of each track."""
        while pending:
            new = list(self._round(pending))
            new += self._settled(_without(pending, new))
            yield from new
            pending = _without(pending, new)
            if pending and not new:
                time.sleep(_LOOK_AGAIN)

    def _round(self, pending: Sequence[Pending]) -> Iterator[Outcome]:
        """Every track is tried once; those that others hold, or whose worker died, have no outcome."""
        batches = list(self._batches(pending))
        if self._settings.runner == "threads":
            for batch in batches:
                yield from store_batch(batch, self._references, self._encoder, self._settings.workers, self._tell)
            return
        with runners.runner(self._settings) as runner:
            if self._settings.decoding == "apart":
                runners.require_resources(runner)
                yield from self._decoded_apart(runner, deque(batches))
                return
            futures = {runner.submit(store_apart, self._parameters(batch)): batch for batch in batches}
            for future in as_completed(list(futures)):
                yield from self._result(future, futures[future])

    def _decoded_apart(self, runner: TaskRunner, waiting: deque[tuple[Pending, ...]]) -> Iterator[Outcome]:
        """As many batches under way as the cluster can work on, since decoded ones wait in its memory."""
        most, running = 2 * runners.slots(runner), {}
        while waiting or running:
            while waiting and len(running) < most:
                batch = waiting.popleft()
                with runners.on("CPU"):
                    decoded = runner.submit(decode_batch, self._to_decode(batch))
                with runners.on("GPU"):
                    given = {"sources": decoded, "settings": self._settings, "beside": self._beside}
                    running[runner.submit(store_decoded, given)] = batch
            future = next(iter(as_completed(list(running))))
            yield from self._result(future, running.pop(future))

    def _batches(self, pending: Sequence[Pending]) -> Iterator[tuple[Pending, ...]]:
        together = [one for one in pending if not self._deaths[one.number]]
        size = BATCH if self._settings.decoding == "along" else _DECODED
        yield from (tuple(together[start : start + size]) for start in range(0, len(together), size))
        yield from ((one,) for one in pending if self._deaths[one.number])

    def _parameters(self, batch: tuple[Pending, ...]) -> dict[str, Any]:
        return {"batch": batch, "settings": self._settings, "beside": self._beside}

    def _to_decode(self, batch: tuple[Pending, ...]) -> dict[str, Any]:
        return {"batch": batch, "sample_rate": self._encoder.grid.sample_rate, "limits": self._settings.limits}

    def _result(self, future: PrefectFuture, batch: tuple[Pending, ...]) -> list[Outcome]:
        try:
            outcomes = future.result()
        except Exception as error:
            if not isinstance(error, BrokenExecutor) and type(error).__name__ not in _DEAD:
                raise
            log.warning("a worker died with %d tracks: %s", len(batch), " ".join(str(error).split()))
            self._deaths.update(one.number for one in batch)
            return []
        for outcome in outcomes:
            self._tell(outcome)
        return outcomes

    def _settled(self, pending: Sequence[Pending]) -> Iterator[Outcome]:
        """Outcomes of tracks that others have settled meanwhile, or that have cost too many workers."""
        self._references.settle()  # gives up the claims of the dead
        tracks = {track.number: track for track in self._references.catalogue.by_numbers(one.number for one in pending)}
        for one in pending:
            state, reason = tracks[one.number].state, tracks[one.number].reason
            if state == "pending" and self._deaths[one.number] >= _DEATHS:
                state, reason = "failed", f"{_DEATHS} workers died over it; look at the file before trying it again"
                self._references.failed(one.number, reason)
            if state != "pending":
                state = "failed" if state == "failed" else "skipped"
                outcome = Outcome(path=one.path, state=state, reason=reason or "another ingestion took it")
                self._tell(outcome)
                yield outcome


@task(name="store-batch", cache_policy=NO_CACHE, persist_result=False)
def store_batch(
    batch: tuple[Pending, ...], references: References, encoder: Encoder, workers: int, tell: Tell
) -> list[Outcome]:
    """Encode the tracks of one batch side by side, store them one after the other."""
    return list(_stored(map(_file, batch), references, encoder, workers, tell))


@task(name="store-batch-apart", cache_policy=NO_CACHE, persist_result=False)
def store_apart(batch: tuple[Pending, ...], settings: Settings, beside: bool) -> list[Outcome]:
    """The same in a worker's process, which opens the stores for itself."""
    return _stored_apart(map(_file, batch), settings, beside)


@task(name="store-decoded", cache_policy=NO_CACHE, persist_result=False)
def store_decoded(sources: list[Decoded], settings: Settings, beside: bool) -> list[Outcome]:
    """The same for tracks that another worker has decoded."""
    return _stored_apart(sources, settings, beside)


def _stored_apart(sources: Iterable[Source], settings: Settings, beside: bool) -> list[Outcome]:
    encoder = _encoder(settings)
    with assembly.references(settings, encoder, verify=False, beside=beside) as references:
        return list(_stored(sources, references, encoder, workers=1, tell=lambda _: None))


def _stored(
    batch: Iterable[Source], references: References, encoder: Encoder, workers: int, tell: Tell
) -> Iterator[Outcome]:
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # one track a core beats all cores on one track
    claimed = (one for one in batch if references.claim(one.pending))  # each when its turn to be encoded comes
    try:
        with closing(encoded(claimed, encoder, workers)) as blocks_of:
            for source, blocks in blocks_of:
                if outcome := _store(source, blocks, references, encoder.limits):
                    tell(outcome)
                    yield outcome
    finally:
        torch.set_num_threads(threads)


def _store(source: Source, blocks: Iterable[Encoding], references: References, limits: Limits) -> Outcome | None:
    """One track into Zarr, Milvus and ledger; what cannot be used is a failed row with its reason.

    None where this worker was so slow that another one has taken the track over.
    """
    pending = source.pending
    if not references.claim(pending):
        return None
    try:
        tags = source.info(limits)
        track = references.add(
            pending, blocks, duration=tags.duration, title=tags.title, artist=tags.artist, isrc=tags.isrc
        )
    except ClaimLost:
        return None
    except ValueError as error:  # AudioError, or what the store refuses: a recording of more than nine hours
        if not references.claim(pending):
            return None
        reason = error.reason if isinstance(error, audio.AudioError) else str(error)
        references.failed(pending.number, reason, seen=_opens(pending.path))
        return Outcome(path=pending.path, state="failed", reason=reason)
    return Outcome(path=track.path, state="stored", seconds=track.duration, segments=track.segments)


def _opens(path: Path) -> bool:
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def _without(pending: Sequence[Pending], outcomes: Iterable[Outcome]) -> list[Pending]:
    settled = {outcome.path for outcome in outcomes}
    return [one for one in pending if one.path not in settled]


@lru_cache(maxsize=1)
def _encoder(settings: Settings) -> Encoder:
    """The encoder of a worker's process, read once."""
    return assembly.encoder(settings)


def _file(pending: Pending) -> File:
    return File(pending=pending)

"""The watched folder, or prefix of an object store: what lies in it is in the catalogue at the next tick.

0. Objects of a prefix are fetched into fetched/ under the data directory (flows/bucket.py).
1. Look which files are there whole (flows/arrivals.py); with nothing new since the last look, that is all.
2. Ingest them: what is stored unchanged is skipped, a file that changed is stored anew.
3. Publish counts, failures with their reasons and the throughput; log each track.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from encoder.whole import whole
from flows import arrivals, bucket, logs
from flows.arrivals import Arrivals
from flows.installation import installed, made, taking_turns
from flows.settings import Settings
from store import objects

if TYPE_CHECKING:  # brings PyTorch, which an idle tick can do without
    from flows.ingest import Outcome, Summary

SEEN = "watch.json"  # in the data directory: what the last complete tick saw
_FORGET = 3600  # seconds after which all is looked at again, whether it changed or not
_BAR, _BARS = 30, 20  # characters, lines


@flow(name="ingest-watched")
def ingest_watched(folder: str | None = None, *, settle: float = 30.0, retry: bool = False) -> str:
    """Ingest what lies in the folder, or below a prefix like s3://bucket/music (None: watch/ under the data directory).

    Says what became of it. Files changed in the last `settle` seconds wait for the next tick; objects do not. `retry`
    takes unchanged files again that failed or were removed. FileNotFoundError where one that is named is not there,
    ConnectionError where the object store does not answer.
    """
    settings = installed()
    with taking_turns(settings.data, "watch") as alone:
        if not alone:
            return "the last tick is still at work"
        if folder is not None and objects.is_url(folder):
            copies = settings.data / "fetched" / hashlib.sha256(folder.encode()).hexdigest()[:12]
            copies.mkdir(parents=True, exist_ok=True)
            for key in bucket.mirror(folder, copies).refused:
                reason = "no file below the folder can have this name"
                logs.tell("refused", level=logging.WARNING, path=key, state="refused", reason=reason)
            return tick(copies, settings, settle=0, retry=retry)
        return tick(Path(folder) if folder else made(settings.data / "watch"), settings, settle=settle, retry=retry)


def tick(folder: Path, settings: Settings, *, settle: float, retry: bool) -> str:
    """One look at the folder, and the ingestion of what is new."""
    arrived = arrivals.look(folder, settle=settle)
    for path in arrived.refused:
        logs.tell("refused", level=logging.WARNING, path=path, state="refused", reason="leads out of the folder")
    seen = _digest(arrived, settings)
    if not arrived.ready or (not retry and _seen_before(settings.data, seen)):
        return f"nothing new, {len(arrived.waiting)} waiting, {len(arrived.refused)} refused"
    from flows.ingest import ingest_catalogue

    pace = Pace()
    summary = ingest_catalogue.fn(list(arrived.ready), settings, retry=retry, progress=pace)
    with whole(settings.data / SEEN) as unfinished:
        unfinished.write_text(json.dumps({"digest": seen, "time": time.time()}))
    publish(summary, arrived, pace)
    counts = Counter(outcome.state for outcome in summary.outcomes)
    logs.tell("ingested", **counts, audio_seconds=summary.audio_seconds, seconds=summary.seconds)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


class Pace:
    """Progress of an ingestion: logs each track, and remembers when how much audio was stored."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.stored: list[tuple[float, float]] = []  # seconds since the beginning, seconds of audio

    def __call__(self, outcome: "Outcome", size: int, total: int) -> None:
        """Note one outcome."""
        logs.tell("ingested", path=outcome.path, state=outcome.state, reason=outcome.reason)
        if outcome.seconds:
            self.stored.append((time.monotonic() - self._began, outcome.seconds))


def publish(summary: "Summary", arrived: Arrivals, pace: Pace) -> None:
    """Counts, failures with their reasons, and throughput in the Prefect UI."""
    counts = Counter(outcome.state for outcome in summary.outcomes)
    rate = summary.audio_seconds / max(summary.seconds, 1e-9)
    row = {**counts, "waiting": len(arrived.waiting), "refused": len(arrived.refused)}
    row |= {"minutes of audio": round(summary.audio_seconds / 60, 1), "seconds": round(summary.seconds, 1)}
    create_table_artifact(key="ingestion-summary", table=[row | {"x real time": round(rate, 1)}])
    failures = [{"file": str(one.path), "reason": one.reason} for one in summary.having("failed")]
    failures += [{"file": str(path), "reason": "leads out of the watched folder"} for path in arrived.refused]
    if failures:
        create_table_artifact(key="ingestion-failures", table=failures)
    if pace.stored:
        create_markdown_artifact(key="ingestion-throughput", markdown=throughput(pace.stored))


def throughput(stored: list[tuple[float, float]]) -> str:
    """Audio stored over time as a table of bars: (seconds since the beginning, seconds of audio) -> Markdown."""
    width = max(1.0, max(at for at, _ in stored) / _BARS)
    per_bin: Counter[int] = Counter()
    for at, seconds in stored:
        per_bin[int(at / width)] += seconds
    most = max(per_bin.values())
    lines = ["| from second | x real time | |", "| ---: | ---: | :--- |"]
    for place in range(max(per_bin) + 1):
        bar = "█" * round(_BAR * per_bin[place] / most)
        lines.append(f"| {place * width:.0f} | {per_bin[place] / width:.1f} | {bar} |")
    return "\n".join(lines)


def _digest(arrived: Arrivals, settings: Settings) -> str:
    """What the ready files and the settings are; equal where there is nothing new."""
    listed = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in arrived.ready]
    return hashlib.sha256(json.dumps([repr(settings), listed]).encode()).hexdigest()


def _seen_before(data: Path, digest: str) -> bool:
    """Whether the last tick saw the same, not long ago; a note that cannot be read is none."""
    try:
        last = json.loads((data / SEEN).read_text(encoding="utf-8"))
        return last["digest"] == digest and time.time() - float(last["time"]) < _FORGET
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, KeyError) as error:
        logs.tell("unreadable", level=logging.WARNING, path=data / SEEN, reason=f"{error}; all is looked at again")
        return False

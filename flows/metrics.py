"""Metrics for operators, in Prometheus' text form: what Prefect's own /api/metrics does not know.

    asid_tracks{encoder, state}      tracks in the ledger
    asid_segments{encoder, state}    of the stored tracks
    asid_audio_seconds{...}          of the stored tracks; its rate is the ingestion rate
    asid_disk_bytes{part}            of what lies on this machine: nodes, fingerprints, ledger
    asid_disk_free_bytes             left where the data directory is
    asid_query_seconds               histogram of query times since the catalogue was begun
    asid_query_failures_total        queries that could not be read

The first five are looked up when they are asked for. Flow runs are processes that end, so query times are kept in
metrics.json under the data directory, of which each machine has its own.
"""

import fcntl
import json
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.settings import Settings
from store import ledger
from store.directory import INDEX_FOLDER, LEDGER_FILE, NODES_FOLDER
from store.directory import ledger_url as directory_ledger_url
from store.nodes import bytes_under

FILE = "metrics.json"
_KEEP_BYTES = 600  # seconds
_BOUNDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)  # seconds a query takes
_NOTHING = {"counts": [0] * (len(_BOUNDS) + 1), "sum": 0.0, "failed": 0}
_PARTS = {"nodes": NODES_FOLDER, "fingerprints": INDEX_FOLDER, "ledger": LEDGER_FILE}


def count_queries(data: Path, seconds: Sequence[float], *, failed: int) -> None:
    """Add queries to those this machine has answered; several processes may do so at a time."""
    with (data / FILE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        kept = _read(file)
        for one in seconds:
            kept["counts"][bisect_left(_BOUNDS, one)] += 1
        kept["sum"] += sum(seconds)
        kept["failed"] += failed
        file.seek(0)
        file.truncate()
        file.write(json.dumps(kept))


def text(settings: Settings) -> str:
    """All metrics as Prometheus reads them. Raises what the ledger raises where it cannot be opened."""
    return generate_latest(_registry(settings)).decode()


def serve(settings: Settings, *, port: int, host: str = "127.0.0.1") -> int:
    """Serve them under http://host:port/metrics in threads of this process; returns the port (0 takes a free one).

    OSError where it is taken.
    """
    try:
        server, _ = start_http_server(port, addr=host, registry=_registry(settings))
    except OSError as error:
        raise OSError(f"port {port} on {host} cannot be taken for metrics ({error}); choose another") from error
    return server.server_port


def _registry(settings: Settings) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Installation(settings))
    return registry


class _Installation(Collector):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self) -> Iterable[Metric]:
        return ()  # else the ledger would be read at registration

    def collect(self) -> Iterator[Metric]:
        data = self._settings.data
        if self._settings.ledger_url or (data / LEDGER_FILE).exists():
            yield from _of_ledger(self._settings.ledger_url or directory_ledger_url(data))
        if data.is_dir():
            yield from _of_disk(data)
            yield from _of_queries(data)


def _of_ledger(url: str) -> Iterator[Metric]:
    columns = ledger.tracks.c
    sums = (sa.func.count(), sa.func.sum(columns.segments), sa.func.sum(columns.duration))
    query = sa.select(columns.digest, columns.state, *sums).group_by(columns.digest, columns.state)
    engine = ledger.open_engine(url)
    try:
        with ledger.reaching(url), engine.connect() as connection:
            found = {(digest[:12], state): sums for digest, state, *sums in connection.execute(query)}
    finally:
        engine.dispose()
    yield _family("asid_tracks", "Tracks in the ledger.", {key: count for key, (count, *_) in found.items()})
    stored = {key: sums for key, (_, *sums) in found.items() if key[1] == "stored"}
    yield _family("asid_segments", "Segments of the stored tracks.", {key: one for key, (one, _) in stored.items()})
    yield _family("asid_audio_seconds", "Audio of the stored tracks.", {key: one for key, (_, one) in stored.items()})


def _family(name: str, about: str, values: Mapping[tuple[str, str], float]) -> Metric:
    """A gauge with a value by (encoder, state)."""
    family = GaugeMetricFamily(name, about, labels=["encoder", "state"])
    for labels, value in values.items():
        family.add_metric(labels, value or 0)
    return family


def _of_disk(data: Path) -> Iterator[Metric]:
    used = GaugeMetricFamily("asid_disk_bytes", "Bytes on this machine.", labels=["part"])
    for part, place in _PARTS.items():
        used.add_metric([part], _bytes_under(data / place, int(time.monotonic() / _KEEP_BYTES)))
    yield used
    free = shutil.disk_usage(data).free
    yield GaugeMetricFamily("asid_disk_free_bytes", "Bytes left where the data directory is.", value=free)


@lru_cache(maxsize=len(_PARTS))
def _bytes_under(path: Path, period: int) -> int:
    """Bytes below a path, counted once a period: there may be millions of files."""
    return bytes_under(path)


def _of_queries(data: Path) -> Iterator[Metric]:
    if not (data / FILE).is_file():
        return
    with (data / FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        kept = _read(file)
    seen, buckets = 0, []
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), kept["counts"], strict=True):
        seen += count
        buckets.append((bound, seen))
    yield HistogramMetricFamily("asid_query_seconds", "Time of a query.", buckets=buckets, sum_value=kept["sum"])
    yield CounterMetricFamily("asid_query_failures", "Queries that could not be read.", value=kept["failed"])


def _read(file: Any) -> dict[str, Any]:
    file.seek(0)
    return json.loads(file.read() or json.dumps(_NOTHING))

"""Serve: everything on one machine, without containers: Prefect's server, Milvus Lite, a worker, metrics.

    prefect server      on loopback, its database under the data directory; none where PREFECT_API_URL names one
    milvus-lite server  on loopback; none where the settings name a Milvus
    prefect worker      runs the deployments, each flow run a process of its own
    metrics             /metrics on loopback, in this process

Milvus Lite opens a catalogue for one process only. Served on loopback, queries are answered while an ingestion of hours
goes on; with a slot that runs take turns for, they would wait for its end. A tick of `watch`
that finds the last one still at work ends at once.

A child that dies ends all with an error, for systemd or its like to start anew. What is stopped goes on where it was at
the next start.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from flows import deployments, metrics
from flows.settings import Settings
from store.directory import INDEX_FOLDER

LOOPBACK = "127.0.0.1"
_START = 180  # seconds a child has to answer
_GRACE = 20  # seconds children have to stop
_RUNS = 8  # flow runs at a time


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the parts listen, on loopback."""

    prefect: int = 4200
    milvus: int = 19530
    metrics: int = 9464


class Stopped(Exception):  # noqa: N818 (no error: somebody asked for it)
    """SIGTERM or Ctrl-C."""


def serve(
    settings: Settings, *, described: Mapping, settings_file: Path | None = None, ports: Ports = Ports(),  # noqa: B008
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Run until SIGTERM or Ctrl-C; `described` are the deployments, `tell` gets a line for each part that is up.

    ChildProcessError where a part does not start or dies, OSError where a port is taken.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    for folder in ("watch", "inbox"):
        (settings.data / folder).mkdir(exist_ok=True)
    try:
        with ExitStack() as parts:
            parts.enter_context(_told_to_stop())
            environment = _environment(settings, settings_file)
            port = metrics.serve(settings, port=ports.metrics)
            tell(f"metrics: http://{LOOPBACK}:{port}/metrics")
            children = [*_prefect_server(parts, environment, ports), *_milvus(parts, environment, settings, ports)]
            os.environ |= environment  # for `prefect deploy`, which runs in this one
            tell(f"deployments: {', '.join(deployments.register(dict(described)))}")
            children.append(_worker(parts, environment))
            tell(f"Prefect: {environment['PREFECT_API_URL'].removesuffix('/api')}")
            if "ASID_MILVUS_URI" in environment:
                tell(f"for other commands meanwhile: export ASID_MILVUS_URI={environment['ASID_MILVUS_URI']}")
            tell("serving; Ctrl-C stops")
            _watch(children)
    except Stopped:
        tell("stopped")


@dataclass(frozen=True, kw_only=True)
class Child:
    """A part that runs as a process."""

    name: str
    process: subprocess.Popen


def _environment(settings: Settings, file: Path | None) -> dict[str, str]:
    """What flow runs get: the installation's settings, and Prefect quiet and at home in the data directory."""
    home = settings.data.absolute() / "prefect"
    home.mkdir(exist_ok=True)
    given = {
        "ASID_DATA": str(settings.root.absolute()),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_TO_API_ENABLED": "true",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "asid",
    }
    given |= {"ASID_SETTINGS": str(file.absolute())} if file else {}
    given |= {"ASID_MILVUS_URI": settings.milvus_uri} if settings.milvus_uri else {}
    given |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json"} if os.environ.get("ASID_LOG") == "json" else {}
    return {**os.environ, **given}


def _prefect_server(parts: ExitStack, environment: dict[str, str], ports: Ports) -> Iterator[Child]:
    if "PREFECT_API_URL" in environment:
        return
    url = f"http://{LOOPBACK}:{_free(ports.prefect, 'Prefect')}/api"
    environment["PREFECT_API_URL"] = environment["PREFECT_UI_API_URL"] = url
    place = ["--host", LOOPBACK, "--port", str(ports.prefect)]
    child = _begun(parts, "Prefect's server", [sys.executable, "-m", "prefect", "server", "start", *place], environment)
    _await(child, lambda: _answers(f"{url}/health"))
    yield child


def _milvus(parts: ExitStack, environment: dict[str, str], settings: Settings, ports: Ports) -> Iterator[Child]:
    if settings.milvus_uri:
        return
    place = ["--host", LOOPBACK, "--port", str(_free(ports.milvus, "Milvus Lite"))]
    data = ["--data-dir", str(settings.data.absolute() / INDEX_FOLDER)]
    child = _begun(parts, "Milvus Lite", [sys.executable, "-m", "milvus_lite", "server", *data, *place], environment)
    _await(child, lambda: _listens(ports.milvus))
    environment["ASID_MILVUS_URI"] = f"http://{LOOPBACK}:{ports.milvus}"
    yield child


def _worker(parts: ExitStack, environment: Mapping[str, str]) -> Child:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", deployments.POOL, "--limit", str(_RUNS)]
    return _begun(parts, "the worker", command, environment)


def _begun(parts: ExitStack, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
    # A session of its own: Ctrl-C reaches this process alone, which then stops the parts in their order.
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    parts.callback(_stop, process)
    return Child(name=name, process=process)


def _stop(process: subprocess.Popen) -> None:
    """End a child and what it has begun: flow runs end as crashed and are begun anew at the next tick."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    for one in family:
        _quietly(one.terminate)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in psutil.wait_procs(family, timeout=_GRACE)[1]:
        _quietly(one.kill)


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except psutil.NoSuchProcess:
        return  # it ended by itself


def _watch(children: Sequence[Child]) -> None:
    while True:
        for child in children:
            if child.process.poll() is not None:
                raise ChildProcessError(f"{child.name} ended with status {child.process.returncode}; see its messages")
        time.sleep(1)


def _await(child: Child, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _START
    while not ready():
        if child.process.poll() is not None:
            raise ChildProcessError(f"{child.name} did not start: status {child.process.returncode}; see its messages")
        if time.monotonic() > until:
            raise ChildProcessError(f"{child.name} did not answer within {_START} s")
        time.sleep(0.2)


def _free(port: int, name: str) -> int:
    if _listens(port):
        raise OSError(f"port {port} on {LOOPBACK} is taken, {name} needs it; choose another with an option")
    return port


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((LOOPBACK, port)) == 0


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 (an address of our own)
            return answer.status == 200
    except (URLError, OSError):
        return False


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise Stopped, once; further ones wait until all is stopped."""

    def stop(*_signal) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

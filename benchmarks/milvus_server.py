"""A Milvus standalone server for tests and benchmarks, from the ``milvus`` package (extra ``server-test``).

    python -m benchmarks.milvus_server COMMAND ...      runs the command with ASID_TEST_MILVUS_URI set, then stops

It is Milvus 2.3.5 for CPUs, with its data in a temporary folder. One runs per machine: the port of its etcd is fixed.
Its other ports listen on every interface, which no setting of Milvus changes: for machines behind a firewall.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ETCD_PORT = 2380
_SECONDS_TO_START = 90
_COMPONENTS = ["rootCoord", "proxy", "queryCoord", "queryNode", "indexCoord", "indexNode", "dataCoord", "dataNode"]


class ServerUnavailable(RuntimeError):
    """The server cannot be started here."""


@contextmanager
def standalone() -> Iterator[str]:
    """The address of a fresh server, which is stopped and erased afterwards; ServerUnavailable."""
    with running() as server:
        yield f"http://127.0.0.1:{server.listen_port}"


@contextmanager
def running(*, merging: bool = True) -> Iterator:
    """The ``milvus.MilvusServer`` itself, whose ``server_proc.pid`` tells what to measure; ServerUnavailable.

    Without ``merging`` it leaves segments as they were sealed: it comes to rest soon after it was filled.
    """
    try:
        from milvus import MilvusServer, MilvusServerConfig
    except ImportError as error:
        raise ServerUnavailable("the milvus package is missing; pip install -e '.[server-test]'") from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whoever is terminated stops the server
    with tempfile.TemporaryDirectory(prefix="asid-milvus-", ignore_cleanup_errors=True) as folder:
        config = MilvusServerConfig(data_dir=folder, proxy_port=_free_port())
        for component in _COMPONENTS:  # they find each other here, not at the address of the network card
            config.set(f"{component}.ip", "127.0.0.1")
        config.set("dataCoord.enableCompaction", merging)
        server = MilvusServer(config, wait_for_started=False)
        try:
            server.start()
            _wait(server)
            yield server
        finally:
            server.stop()


def memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def _free_port() -> int:
    for port in (_ETCD_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ServerUnavailable(f"port {port} is taken, by another Milvus or etcd; stop that one") from error
            free = probe.getsockname()[1]
    return free


def _wait(server) -> None:
    began = time.monotonic()
    while time.monotonic() - began < _SECONDS_TO_START:
        if server.server_proc.poll() is not None:
            raise ServerUnavailable(f"Milvus ended with exit code {server.server_proc.returncode} while it started")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.webservice_port}/healthz", timeout=5) as answer:
                if b"OK" in answer.read():
                    return
        except OSError:
            pass  # not listening yet
        time.sleep(0.2)
    raise ServerUnavailable(f"Milvus did not start within {_SECONDS_TO_START} s")


def main() -> int:
    """Run a command beside a server; without one where it cannot start, so that tests say what they skip."""
    try:
        with standalone() as uri:
            return subprocess.run(
                sys.argv[1:], env={**os.environ, "ASID_TEST_MILVUS_URI": uri, "ASID_TEST_MILVUS_LOCAL": "1"}
            ).returncode
    except ServerUnavailable as error:
        print(f"no Milvus server: {error}", file=sys.stderr)
        return subprocess.run(sys.argv[1:]).returncode


if __name__ == "__main__":
    sys.exit(main())

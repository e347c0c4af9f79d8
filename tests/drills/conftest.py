"""`asid` as its own process, talking to one Prefect server for all drills; no drill talks to the user's."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One command that ended by itself."""

    status: int  # negative: killed by that signal
    output: str
    errors: str
    seconds: float
    megabytes: int  # at the most


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment of a command that finds a running server."""
    before = dict(os.environ)
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from flows.options import prepare_prefect

    prepare_prefect()
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        found = {name: os.environ[name] for name in ("PREFECT_HOME",)}
        yield found | {"PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def asid(prefect_server, tmp_path_factory) -> Callable[..., Ended]:
    """``asid("ingest", folder, limit=60)``: ended after so many seconds, which fails the test."""

    def asid(*arguments: str | Path, limit: float) -> Ended:
        where, began = tmp_path_factory.mktemp("asid"), time.monotonic()
        command = [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)]
        environment = os.environ | prefect_server | {"OMP_NUM_THREADS": "1"}
        with (where / "out").open("w") as out, (where / "err").open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, stdin=subprocess.DEVNULL)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            if time.monotonic() - began > limit:
                process.kill()
                pytest.fail(f"asid {arguments[0]} still runs after {limit:.0f} s")
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        return Ended(
            status=process.returncode,
            output=(where / "out").read_text(),
            errors=(where / "err").read_text(errors="replace"),
            seconds=time.monotonic() - began,
            megabytes=ended[2].ru_maxrss // 1024,
        )

    return asid

"""The parts of `asid serve`: begun, watched, and ended with all that they began. test_serve_drill.py has it whole."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from flows import serve, settings
from flows.installation import installed
from flows.serve import Ports
from flows.settings import Settings

# A child that has a child in a session of its own, as a worker has flow runs; neither minds SIGINT.
FAMILY = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True); time.sleep(100)"
)


def family_of(process):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if found := psutil.Process(process.pid).children(recursive=True):
            return found
        time.sleep(0.05)
    raise AssertionError("no child was begun")


def test_what_a_part_began_ends_with_it():
    with ExitStack() as parts:
        child = serve._begun(parts, "the worker", [sys.executable, "-c", FAMILY], os.environ)
        family = family_of(child.process)
    assert child.process.poll() is not None
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_part_that_does_not_mind_is_killed(monkeypatch):
    monkeypatch.setattr(serve, "_GRACE", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    serve._stop(process)
    assert process.returncode == -signal.SIGKILL


def test_a_part_that_dies_ends_all_with_its_name():
    with ExitStack() as parts:
        child = serve._begun(parts, "Milvus Lite", [sys.executable, "-c", "raise SystemExit(3)"], os.environ)
        with pytest.raises(ChildProcessError, match="Milvus Lite ended with status 3"):
            serve._watch([child])
        with pytest.raises(ChildProcessError, match="did not start"):
            serve._await(child, lambda: False)


def test_a_signal_stops_once_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(serve.Stopped), serve._told_to_stop():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_taken_port_is_told_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} on 127.0.0.1 is taken"):
            serve.serve(Settings(data=tmp_path), described={}, ports=Ports(prefect=port), tell=print)


def test_servers_that_the_user_names_are_not_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    settings = Settings(data=tmp_path, milvus_uri="http://milvus:19530")
    with ExitStack() as parts:
        environment = serve._environment(settings, None)
        assert list(serve._prefect_server(parts, environment, Ports())) == []
        assert list(serve._milvus(parts, environment, settings, Ports())) == []
    assert environment["ASID_MILVUS_URI"] == "http://milvus:19530"
    assert environment["ASID_DATA"] == str(tmp_path)
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_flow_runs_of_another_system_find_the_folder_that_is_served(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    file = tmp_path / "s.toml"
    file.write_text(f'data = "{tmp_path}/data"\nsystem = "grafprint"\n')
    served = settings.load(file)
    served.data.mkdir(parents=True)
    monkeypatch.setattr("os.environ", serve._environment(served, file))
    assert installed().data == served.data == tmp_path / "data" / "grafprint"

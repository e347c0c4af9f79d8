"""`asid serve` on a fresh data directory, from the outside: folders, the Prefect API, pages, signals.

Takes two to four minutes, so it runs only where ASID_TEST_SERVE is set.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml

from flows import deployments

pytestmark = pytest.mark.skipif(
    not os.environ.get("ASID_TEST_SERVE"), reason="takes minutes; ASID_TEST_SERVE=1 runs `asid serve` as a whole"
)
SIZE = {"references": 1, "queries": 2, "sample_free": 1, "distractors": 1, "interference": 1, "seed": 0}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def free_port():
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def until(what, found, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (result := found()) is not None and result is not False:
            return result
        time.sleep(1)
    raise AssertionError(f"{what}: not within {seconds} s")


class Api:
    """Prefect's API, as any client sees it."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/api"

    def post(self, path, body):
        request = Request(self.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return self._answer(request)

    def get(self, path):
        return self._answer(Request(self.base + path))

    def _answer(self, request):
        """Asked again where the server says 503, as Prefect's own clients do: its SQLite was busy."""

        def asked():
            try:
                with urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except HTTPError as error:
                if error.code != 503:
                    raise
                return None

        return until("an answer of the API", asked)

    def run(self, name, parameters):
        """Begin a deployment, wait for its end; the finished run."""
        deployment = self.get(f"/deployments/name/{name}")
        begun = self.post(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        def look():
            run = self.get(f"/flow_runs/{begun['id']}")
            return run if run["state"]["type"] in ended else None

        return until(f"the end of {name}", look)

    def artifacts(self, run_id):
        """Key -> data of what a run published."""
        found = self.post("/artifacts/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        return {one["key"]: one["data"] for one in found}


def listening(process):
    """Addresses that a process and its descendants listen on."""
    family = [process, *process.children(recursive=True)]
    opened = [one for member in family for one in member.net_connections(kind="inet")]
    return {one.laddr.ip for one in opened if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def served(tmp_path_factory, music):
    """A running `asid serve` with short waits: (process, API, data directory, metrics port)."""
    data = tmp_path_factory.mktemp("served")
    described = deployments.fitted(deployments.read(), music=music)
    for deployment in described["deployments"]:
        deployment["parameters"] |= {"settle": 2.0} if "settle" in deployment["parameters"] else {}
    file = tmp_path_factory.mktemp("deploy") / "prefect.yaml"
    file.write_text(yaml.safe_dump(described))
    ports = [free_port() for _ in range(3)]
    options = ["--data", data, "--file", file, "--music", music, "--port", ports[0], "--milvus-port", ports[1]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (data / "serve.log").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-c", "from flows.cli_deploy import serve; serve()", *map(str, options),
             "--metrics-port", str(ports[2])],
            stderr=log, stdout=log, env=kept | {"ASID_LOG": "json"},
        )  # fmt: skip
    try:
        until("serving", lambda: process.poll() is not None or "Ctrl-C stops" in (data / "serve.log").read_text())
        assert process.poll() is None, (data / "serve.log").read_text()
        yield process, Api(ports[0]), data, ports[2]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_serve_ingests_answers_evaluates_and_stops(served, music, excerpt):
    process, api, data, metrics_port = served
    query, source = excerpt
    assert all(ip_address(one.removeprefix("::ffff:")).is_loopback for one in listening(process))

    for file in music.iterdir():
        shutil.copy(file, data / "watch")
    secret = data / "outside.flac"
    shutil.copy(source, secret)
    (data / "watch" / "link.flac").symlink_to(secret)
    began = time.monotonic()
    seen = data / "watch.json"
    until("ingestion at the next tick", seen.exists)
    print(f"ingested {time.monotonic() - began:.0f} s after the drop")

    run = api.run("find-samples/ask", {"queries": [str(query)]})
    assert run["state"]["type"] == "COMPLETED", run["state"]
    matches = json.loads(api.artifacts(run["id"])["matches"])
    assert matches[0]["file"] == str(data / "watch" / source.name)
    assert not any("link.flac" in match["file"] for match in matches)

    shutil.copy(query, data / "inbox" / "asked.wav")
    answered = data / "inbox" / "answered" / "asked.wav.json"
    until("an answer beside the query", answered.exists)
    (reply,) = json.loads(answered.read_text())["queries"]
    assert reply["matches"][0]["reference"]["path"] == str(data / "watch" / source.name)
    assert answered.with_suffix(".html").is_file()
    assert not (data / "inbox" / "asked.wav").exists()
    stamp = answered.stat().st_mtime_ns

    run = api.run("evaluate-nightly/evaluate", {"size": SIZE})
    assert run["state"]["type"] == "COMPLETED", run["state"]
    link = api.artifacts(run["id"])["evaluation-dashboard"]
    assert "dashboard.html" in link
    shows_a_dashboard(data / "evaluations" / "dashboard.html")

    assert answered.stat().st_mtime_ns == stamp  # not answered again by the ticks meanwhile
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=30) as answer:
        lines = answer.read().decode()
    assert 'state="stored"} 4.0' in lines  # the pieces of `music`
    assert "asid_query_seconds_count 2.0" in lines
    logged = [json.loads(line) for line in (data / "serve.log").read_text().splitlines() if '"flow"' in line]
    assert {"stored", "refused"} <= {one.get("state") for one in logged if isinstance(one, dict)}

    family = process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert psutil.wait_procs(family, timeout=5)[1] == []


def shows_a_dashboard(page: Path):
    """The page opens in headless Chromium and has the one run in its table."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert chromium, "no Chromium to look at the dashboard with"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page()
        complaints = []
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(page.as_uri())
        assert shown.locator("#runs tbody tr").count() == 1
        assert complaints == []
        browser.close()


def test_a_taken_port_is_told_and_nothing_is_left_running(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli_deploy import serve; serve()", "--data", tmp_path, "--port", port],
            capture_output=True, text=True, env=kept, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"port {port}" in done.stderr


def test_after_kill_9_of_everything_the_next_start_goes_on(tmp_path, music):
    """A run that dies with the server must give its slot back, else the watched folder is never looked at again."""
    data = tmp_path / "data"
    described = deployments.fitted(deployments.read())
    described["deployments"][0]["parameters"]["settle"] = 1.0
    (file := tmp_path / "prefect.yaml").write_text(yaml.safe_dump(described))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    options = ["--data", data, "--file", file]
    for option in ("--port", "--milvus-port", "--metrics-port"):
        options += [option, free_port()]
    command = [sys.executable, "-c", "from flows.cli_deploy import serve; serve()", *map(str, options)]
    (data / "watch").mkdir(parents=True)
    for source in music.glob("*.wav"):
        shutil.copy(source, data / "watch")
    with (tmp_path / "log").open("w") as log:
        process = psutil.Popen(command, stderr=log, stdout=log, env=kept)
        until("the ingestion", lambda: (data / "ledger.sqlite").exists())
        for one in [process, *process.children(recursive=True)]:
            one.kill()
        process.wait()
        assert not (data / "watch.json").exists()
        process = psutil.Popen(command, stderr=log, stdout=log, env=kept)
        try:
            began = time.monotonic()
            until("the next ingestion", (data / "watch.json").exists, seconds=480)
            print(f"ingested {time.monotonic() - began:.0f} s after the next start")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0

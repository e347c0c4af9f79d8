"""deploy/prefect.yaml: Prefect's own command line registers it, and what it names is there."""

import importlib
import inspect
import subprocess

import pytest
from click.testing import CliRunner
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL

from flows import cli_deploy, deployments


def described():
    return {one["name"]: one for one in deployments.read()["deployments"]}


def test_entrypoints_are_flows_in_modules_and_take_the_parameters():
    for deployment in described().values():
        assert ":" not in deployment["entrypoint"]  # a path would put flows/ on sys.path
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert isinstance(flow, Flow)
        assert set(deployment["parameters"]) <= set(inspect.signature(flow.fn).parameters)


def test_schedules_are_valid_and_no_run_waits_for_a_slot():
    found = described()
    for deployment in found.values():
        for schedule in deployment.get("schedules", []):
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    # Slots stay taken where a run dies together with Prefect's server.
    assert not any("concurrency_limit" in one for one in found.values())


def test_folders_are_set_and_the_night_is_scheduled_only_where_there_is_music(tmp_path):
    without = {one["name"]: one for one in deployments.fitted(deployments.read())["deployments"]}
    assert without["watch"]["parameters"]["folder"] is None
    assert not without["evaluate"]["schedules"][0]["active"]
    folders = {"watch": tmp_path / "w", "inbox": tmp_path / "i", "music": tmp_path / "m"}
    given = {one["name"]: one for one in deployments.fitted(deployments.read(), **folders)["deployments"]}
    assert given["watch"]["parameters"]["folder"] == str(tmp_path / "w")
    assert given["inbox"]["parameters"]["folder"] == str(tmp_path / "i")
    assert given["evaluate"]["parameters"]["music"] == str(tmp_path / "m")
    assert given["evaluate"]["schedules"][0]["active"]


def test_all_are_registered_with_prefect(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    done = CliRunner().invoke(cli_deploy.deploy, ["--watch", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert done.stdout.split() == ["watch", "ask", "inbox", "evaluate", "train"]
    with get_client(sync_client=True) as client:
        found = {one.name: one for one in client.read_deployments()}
        assert client.read_work_pool("asid").type == "process"
    assert set(found) == {"watch", "ask", "inbox", "evaluate", "train"}
    assert found["watch"].entrypoint == "flows.watch.ingest_watched"
    assert found["watch"].parameters["folder"] == str(tmp_path)
    assert [one.schedule.cron for one in found["watch"].schedules] == ["* * * * *"]
    assert found["ask"].parameter_openapi_schema["properties"]["queries"]["items"]["type"] == "string"


def test_without_a_server_or_a_file_nothing_is_registered_and_the_cure_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ValueError, match="PREFECT_API_URL"):
        CliRunner().invoke(cli_deploy.deploy, [], catch_exceptions=False)
    with pytest.raises(FileNotFoundError, match="--file"):
        deployments.read(tmp_path / "prefect.yaml")
    refused = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nConnectError: refused\nsorry\n")
    monkeypatch.setattr(deployments, "_prefect", lambda *_: refused)
    with pytest.raises(ConnectionError, match="Prefect could not create the work pool: ConnectError: refused"):
        deployments.register(deployments.read())

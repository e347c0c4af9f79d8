"""Logs: one JSON object a line, with the fields that operators search by."""

import json
import logging

import pytest
from prefect import flow

from flows import logs


@pytest.fixture
def logger(monkeypatch):
    """The logger, as it was before and after."""
    one = logging.getLogger("asid")
    before = one.handlers[:], one.propagate, one.level
    one.handlers[:] = []
    yield one
    one.handlers[:], one.propagate, one.level = before


def test_an_event_is_one_json_object_with_the_run_it_belongs_to(logger, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("ASID_LOG", "json")

    @flow(name="a-flow")
    def work():
        logs.configure()
        logs.configure()  # changes nothing
        logs.tell("ingested", path=tmp_path / "a.wav", state="failed", reason="no\naudio")

    work()
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "ingested" in one]
    told = json.loads(line)
    assert told["flow"] == "a-flow"
    assert len(told["run"]) == 36
    assert (told["path"], told["state"], told["reason"]) == (str(tmp_path / "a.wav"), "failed", "no\naudio")
    assert told["level"] == "INFO"


def test_nothing_is_written_unless_asked_for_and_other_forms_are_refused(logger, monkeypatch, capsys):
    monkeypatch.delenv("ASID_LOG", raising=False)
    logs.configure()
    logs.tell("ingested")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("ASID_LOG", "xml")
    with pytest.raises(ValueError, match="expected json"):
        logs.configure()

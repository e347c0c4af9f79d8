"""The comparison of all systems: who takes part, what the table says, what it costs."""

import json

import pytest

from encoder.encode import Encoder, shipped
from evaluation.own.listing import Music
from flows import compare as comparing
from flows.cli_compare import text
from flows.compare import Compared, Row, compare, cost, installed


@pytest.fixture
def how(tmp_path):
    def how(**given):
        return Compared(music=Music(path=tmp_path), out=tmp_path / "out", cache=tmp_path / "cache", **given)

    return how


def test_a_task_that_is_none_is_refused(how):
    with pytest.raises(ValueError, match="tasks are .*'songs'.*, expected some of samples, noise, versions, sounds"):
        how(tasks=("songs",))
    with pytest.raises(ValueError, match="expected some of"):
        how(tasks=())


def test_systems_with_weights_take_part_and_the_others_are_told_how_to_get_them():
    found, without = installed()
    assert {"asid", "neuralsampleid-published"} <= found.keys()
    assert all(path.is_file() for path in found.values())
    assert "train them" in without["neuralsampleid"]
    assert not found.keys() & without.keys()
    assert not [name for name in (*found, *without) if name.endswith("-small")]


def test_cost_is_that_of_the_network_per_segment_and_minute():
    encoder = Encoder(shipped())
    found = cost(encoder)
    assert found["parameters"] == sum(weight.numel() for weight in encoder.network.parameters())
    segments = found["CPU ms a minute"] / found["CPU ms a segment"]
    assert segments == pytest.approx(encoder.grid.count(60 * encoder.grid.sample_rate))


def test_only_the_tasks_asked_for_are_run_and_the_table_is_kept(how, monkeypatch):
    def task(name):
        return lambda how, systems, progress: [
            Row(task=name, system="asid", measure="map", value=0.5, low=0.4, high=0.6, queries=9)
        ]

    def never(how, systems, progress):
        pytest.fail("was not asked for")

    tasks = {"samples": task("samples"), "noise": never, "versions": never, "sounds": task("sounds")}
    monkeypatch.setattr(comparing, "_TASKS", tasks)
    monkeypatch.setattr(comparing, "installed", lambda: ({"asid": shipped()}, {"clews": "no weights of clews"}))
    asked = how(tasks=("sounds", "samples"), seed=3)
    result = compare(asked)
    assert [row["task"] for row in result["rows"]] == ["sounds", "samples"]
    assert json.loads((asked.out / "compare.json").read_text()) == result
    assert result["seeds"]["intervals"] == 3
    table = text(result)
    assert "0.500  [0.400, 0.600]       9" in table
    assert "no weights of clews" in table


def test_the_seed_of_intervals_is_every_tasks(how, monkeypatch):
    asked = []
    monkeypatch.setattr(comparing.synthetic, "write", lambda *_: [])

    def evaluated(folder, out, protocol, **_):
        asked.append(protocol.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing.versions, "evaluate_versions", evaluated)
    with pytest.raises(KeyboardInterrupt):
        compare(how(tasks=("versions",), seed=3))
    assert asked == [3]


def test_the_untrained_self_of_a_version_finder_has_the_size_of_its_weights(how, monkeypatch):
    asked = []

    def evaluated(*_, untrained, **__):
        asked.extend(untrained)
        return {"measures": {}, "queries": 0}

    monkeypatch.setattr(comparing.synthetic, "write", lambda *_: [])
    monkeypatch.setattr(comparing.versions, "evaluate_versions", evaluated)
    weights = shipped("clews")
    assert list(comparing._versions(how(), {"clews": weights}, print)) == []
    assert asked == [Encoder(weights).system]

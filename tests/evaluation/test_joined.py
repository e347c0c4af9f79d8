"""Joined runs: every query once under the name of its run, and only what may be joined is."""

import json

import pytest

from evaluation import joined, protocols


def edit(folder, change):
    """The run in the folder, with its summary changed."""
    summary = json.loads((folder / "summary.json").read_text())
    change(summary)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_all_queries_of_all_runs_are_there_under_the_name_of_their_run(tmp_path, write_run, made_frame):
    found = joined.load([write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=2)])
    assert len(found.frame) == 2 * len(made_frame)
    assert not found.frame.duplicated(["system", "query", "excerpt"]).any()
    assert set(found.frame["query"].str.split("/").str[0]) == {"a", "b"}
    assert (found.frame["full_query"].str.split("/").str[0] == found.frame["query"].str.split("/").str[0]).all()
    assert found.protocol == "strict"
    assert [facts["seed"] for facts in found.benchmark["runs"].values()] == [1, 2]
    assert set(found.peers["audfprint"]["failed"]) == {'a/<b>&"x', 'b/<b>&"x'}


def test_what_runs_tell_otherwise_is_no_fact_of_the_joined_one(tmp_path, write_run):
    runs = []
    for seed, segments in ((1, 100), (2, 200)):
        told = {"segments": segments, "encoder": "abc", "rejection_study": {"auroc": 0.9 / seed}}
        run = write_run(tmp_path / str(seed), seed=seed)
        runs.append(edit(run, lambda summary, told=told: summary["peers"]["asid"].update(told)))
    facts = joined.load(runs).peers["asid"]
    assert facts["encoder"] == "abc"
    assert not {"segments", "rejection_study"} & set(facts)


def test_only_systems_that_all_runs_have_are_kept(tmp_path, write_run):
    one = write_run(tmp_path / "a")
    other = edit(write_run(tmp_path / "b", seed=2), lambda summary: summary["peers"].pop("audfprint"))
    found = joined.load([one, other])
    assert set(found.frame["system"]) == set(found.peers) == {"asid", "asid-candidates", "neuralsampleid-published"}


def test_what_cannot_be_joined_is_refused(tmp_path, write_run):
    one = write_run(tmp_path / "a")
    with pytest.raises(ValueError, match="expected two or more folders of different names"):
        joined.load([one])
    with pytest.raises(ValueError, match="different names"):
        joined.load([one, write_run(tmp_path / "deep" / "a")])
    with pytest.raises(FileNotFoundError, match="no summary.json, expected a finished run"):
        joined.load([one, tmp_path])
    with pytest.raises(ValueError, match="protocols published, strict"):
        joined.load([one, write_run(tmp_path / "p", protocol=protocols.PUBLISHED)])
    changed = edit(write_run(tmp_path / "c"), lambda summary: summary["peers"]["asid"].update(digest="f" * 12))
    with pytest.raises(ValueError, match="asid is 000000000000, ffffffffffff in these runs, expected one digest"):
        joined.load([one, changed])
    nobody = edit(write_run(tmp_path / "d"), lambda summary: summary["peers"].clear())
    with pytest.raises(ValueError, match="no system in common"):
        joined.load([one, nobody])
    with pytest.raises(ValueError, match="runs a and again asked the same benchmark, expected others; give one"):
        joined.load([one, write_run(tmp_path / "again")])
    part = edit(write_run(tmp_path / "j"), lambda s: s.update(benchmark={"runs": {"x": {}, "y": s["benchmark"]}}))
    with pytest.raises(ValueError, match="runs a and j asked the same benchmark"):
        joined.load([one, part])

"""Evaluation from the command line: a benchmark out of rendered music, two systems, the files of a run."""

import json

import pandas as pd
import pytest

SMALL = ("--references", 1, "--queries", 2, "--sample-free", 1, "--distractors", 1, "--interference", 1, "--length", 5)
SYSTEMS = ("--system", "asid", "--system", "neuralsampleid-published")


@pytest.fixture(scope="module")
def runs(music, tmp_path_factory):
    """A folder with room for runs and cache."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def own_run(music, runs):
    """The folder of one run of `asid evaluate own`, and what it printed."""
    from click.testing import CliRunner

    from flows.cli import main

    how = ("--out", runs / "first", "--cache", runs / "cache", "--export", runs / "exported", "--json")
    done = CliRunner().invoke(main, [str(a) for a in ("evaluate", "own", music, *SMALL, *SYSTEMS, *how)])
    assert done.exit_code == 0, done.stderr
    return runs / "first", json.loads(done.stdout)


def test_a_run_leaves_rows_summary_and_report(own_run):
    folder, printed = own_run
    assert json.loads((folder / "summary.json").read_text()) == printed
    assert set(printed["systems"]) == {"asid", "neuralsampleid-published"}
    assert printed["protocol"]["name"] == "strict"
    assert printed["systems"]["asid"]["map"].keys() == {"value", "low", "high"}
    rows = pd.read_parquet(folder / "results.parquet")
    assert (rows[rows["excerpt"].isna()].groupby("system").size() == 3).all()  # 2 queries and a sample-free one
    report = (folder / "report.md").read_text()
    assert "strict" in report
    assert printed["peers"]["asid"]["encoder"] in report
    assert (folder / "report.html").is_file()
    assert list((folder / "figures").glob("*.png"))


def test_the_same_seed_gives_the_same_table_and_another_another_benchmark(own_run, music, runs, asid):
    _, first = own_run
    cache = ("--cache", runs / "cache", "--json")
    again = asid("evaluate", "own", music, *SMALL, *SYSTEMS, "--out", runs / "again", *cache)
    asid("evaluate", "own", music, *SMALL, "--system", "asid", "--seed", 1, "--out", runs / "other", *cache)
    volatile = {"command", "created"}
    assert _without(json.loads(again.stdout), volatile) == _without(first, volatile)
    rows, changed = (pd.read_parquet(runs / name / "results.parquet") for name in ("again", "other"))
    mine = rows[rows["system"] == "asid"]
    assert list(mine["tempo_ratio"]) != list(changed["tempo_ratio"])


def test_runs_are_joined_to_one_over_all_their_queries(own_run, music, runs, asid):
    folder, first = own_run
    how = ("--system", "asid", "--no-excerpts", "--seed", 2, "--out", runs / "second", "--cache", runs / "cache")
    second = json.loads(asid("evaluate", "own", music, *SMALL, *how, "--json").stdout)
    done = asid("evaluate", "joined", folder, runs / "second", "--out", runs / "both", "--json")
    assert done.exit_code == 0, done.stderr
    both = json.loads(done.stdout)
    assert list(both["systems"]) == ["asid"]  # the second run has no other
    assert (both["counts"]["sampled"], both["counts"]["sample_free"]) == (4, 2)
    halves = [summary["systems"]["asid"]["map"]["value"] for summary in (first, second)]
    assert both["systems"]["asid"]["map"]["value"] == pytest.approx(sum(halves) / 2)
    assert (runs / "both" / "report.md").is_file()
    again = asid("evaluate", "joined", folder, "--out", runs / "x")
    assert again.exit_code == 1
    assert "expected two or more folders" in again.stderr


def test_what_was_exported_is_read_back_and_gives_the_same_figures(own_run, runs, asid):
    _, first = own_run
    exported = ("--annotations", runs / "exported", "--audio", runs / "exported" / "audio")
    done = asid(
        "evaluate", "sample100", *exported, "--system", "asid", "--no-excerpts", "--out", runs / "read",
        "--cache", runs / "cache2", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for metric in ("map", "hit_rate_1", "candidate_recall", "false_alarm_rate"):
        assert json.loads(done.stdout)["systems"]["asid"][metric] == first["systems"]["asid"][metric]


def test_the_dashboard_lists_every_run_below_the_folder(own_run, runs, asid):
    done = asid("dashboard", runs)
    assert done.exit_code == 0, done.stderr
    page = (runs / "dashboard.html").read_text()
    assert "neuralsampleid-published" in page
    assert "first" in page


def test_misuse_and_missing_music_are_told_in_one_line(runs, music, asid, tmp_path):
    too_few = asid("evaluate", "own", music, "--references", 50, "--queries", 50, "--out", tmp_path / "x")
    unknown = asid("evaluate", "own", music, "--system", "nobody", "--out", tmp_path / "x")
    protocol = asid("evaluate", "own", music, "--protocol", "fair", "--out", tmp_path / "x")
    (tmp_path / "file").write_text("")
    unwritable = asid("evaluate", "own", music, "--out", tmp_path / "file" / "run", "--cache", tmp_path)
    nowhere = asid("evaluate", "sample100", "--annotations", tmp_path, "--describe")
    assert unwritable.exit_code == 1
    assert "file" in unwritable.stderr
    for done, words in ((too_few, "too few tracks"), (unknown, "nobody"), (protocol, "fair"), (nowhere, "samples.csv")):
        assert done.exit_code == 1
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert asid("evaluate", "own", music).exit_code == 2  # no --out


def _without(summary, names):
    return {name: value for name, value in summary.items() if name not in names}

"""Accepted: what differs from the accepted run is told with an interval, what cannot be compared with a reason."""

import numpy as np
import pytest

from evaluation import accepted
from evaluation.pages import dashboard


def missed(frame):
    """The frame of a system `asid` that finds nothing at first rank."""
    mine = (frame["system"] == "asid") & (frame["relevant"] > 0)
    frame.loc[mine, "hit_1"] = 0.0
    frame.loc[mine, "correct"] = False
    frame.loc[mine, ["best_rank"]] = frame.loc[mine, "best_rank"].clip(lower=2)
    frame.loc[mine, "ap"] = np.minimum(frame.loc[mine, "ap"], 0.5)
    return frame


def test_a_run_beside_itself_has_not_changed(tmp_path, write_run):
    changes = accepted.compare(write_run(tmp_path / "b"), write_run(tmp_path / "a"))
    assert {change.metric for change in changes} == {"map", "hit_rate_1", "hit_rate_10", "auroc"}
    assert len({change.system for change in changes}) == 4
    assert all((change.value, change.low, change.high, change.mark) == (0, 0, 0, "") for change in changes)


def test_a_drop_is_told_for_the_system_and_the_metrics_that_dropped(tmp_path, write_run):
    before, after = write_run(tmp_path / "before"), write_run(tmp_path / "after", change=missed)
    worse = {(c.system, c.metric) for c in accepted.compare(after, before) if c.mark == "worse"}
    assert worse == {("asid", "map"), ("asid", "hit_rate_1")}
    better = {(c.system, c.metric) for c in accepted.compare(before, after) if c.mark == "better"}
    assert better == worse
    (first,) = [c for c in accepted.compare(after, before) if (c.system, c.metric) == ("asid", "hit_rate_1")]
    (run,) = dashboard.scan(before)
    assert first.value == pytest.approx(-run.entries[0].metrics["hit_rate_1"][0])
    assert first.low <= first.value <= first.high < 0


def test_another_benchmark_or_system_and_an_unfinished_run_cannot_be_compared(tmp_path, write_run):
    before = write_run(tmp_path / "before")
    other = write_run(tmp_path / "other", seed=2)
    with pytest.raises(ValueError, match="other benchmark"):
        accepted.compare(other, before)
    three = write_run(tmp_path / "three", change=lambda frame: frame[frame["system"] != "audfprint"], peers={})
    with pytest.raises(ValueError, match="audfprint is not in the accepted run"):
        accepted.compare(before, three)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="neither summary.json nor"):
        accepted.compare(tmp_path / "empty", before)
    (before / "results.parquet").unlink()
    with pytest.raises(ValueError, match="did not finish"):
        accepted.compare(other, before)


def test_the_accepted_run_is_remembered_and_a_lost_one_told(tmp_path, write_run):
    assert accepted.accepted(tmp_path) is None
    run = write_run(tmp_path / "run")
    accepted.accept(run)
    assert accepted.accepted(tmp_path) == run
    run.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="asid accept"):
        accepted.accepted(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="expected the folder of a finished run"):
        accepted.accept(tmp_path / "none")

"""The nightly evaluation: a drop fails loudly, chance does not; old nights go, the accepted one stays."""

import json
from pathlib import Path

import pytest

from evaluation import accepted
from evaluation.accepted import Change
from flows import nightly
from flows.nightly import SignificantDrop, evaluate_nightly, judged


def change(metric, low, high):
    return Change(system="asid", metric=metric, value=(low + high) / 2, low=low, high=high)


def test_a_metric_whose_whole_interval_is_worse_fails_the_run():
    fine = (change("map", -0.02, 0.01), change("auroc", 0.01, 0.03))
    assert "mAP −0.005 [−0.020, +0.010]" in judged(fine, Path("night"))
    with pytest.raises(SignificantDrop, match=r"accepted run night: asid: hit rate, first −0.020 .* worse"):
        judged((*fine, change("hit_rate_1", -0.03, -0.01)), Path("night"))


def test_what_is_better_when_lower_drops_by_rising():
    with pytest.raises(SignificantDrop, match="false alarms"):
        judged((change("false_alarm_rate", 0.01, 0.03),), Path("night"))


def test_the_last_nights_and_the_accepted_one_stay(tmp_path):
    for night in range(5):
        (tmp_path / f"{night}").mkdir()
        (tmp_path / f"{night}" / "summary.json").write_text("{}")
    (tmp_path / accepted.FILE).write_text(json.dumps({"run": "1"}))
    nightly.forget(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["1", "3", "4"]
    with pytest.raises(ValueError, match="1 night or more"):
        nightly.forget(tmp_path, keep=0)


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """Nights with made-up verdicts: `nights(changes)` runs one; the evaluation itself writes nothing but its folder."""
    monkeypatch.setenv("ASID_DATA", str(tmp_path))
    count = iter(range(100))

    class Flow:
        @staticmethod
        def fn(size, sources, how):
            how.out.mkdir(parents=True)
            (how.out / "summary.json").write_text("{}")

    class Clock:
        @staticmethod
        def now(_zone):
            return Clock

        @staticmethod
        def strftime(_form):
            return f"night-{next(count)}"

    monkeypatch.setattr(nightly, "evaluate_own", Flow)
    monkeypatch.setattr(nightly, "datetime", Clock)
    monkeypatch.setattr(accepted, "_read", lambda folder: folder)
    for name in ("create_link_artifact", "create_table_artifact"):
        monkeypatch.setattr(nightly, name, lambda **_: None)

    def night(*changes, **how):
        monkeypatch.setattr(accepted, "compare", lambda run, before, metrics: changes)
        return evaluate_nightly.fn(tmp_path, **how)

    return night, tmp_path / nightly.RUNS


def test_the_first_night_is_accepted_and_stays_so_until_somebody_accepts_another(nights):
    night, runs = nights
    assert night() == "night-0 accepted"
    night(change("map", 0.01, 0.02))
    assert accepted.accepted(runs).name == "night-0"
    with pytest.raises(SignificantDrop):
        night(change("map", -0.02, -0.01))
    assert (runs / "dashboard.html").is_file()
    assert accepted.accepted(runs).name == "night-0"
    assert night(change("map", -0.02, -0.01), accept=True) == "night-3 accepted"
    assert accepted.accepted(runs).name == "night-3"

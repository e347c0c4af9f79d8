"""The dashboard: runs are found, compared where they may be, and shown side by side."""

import json
import re
from urllib.parse import unquote

import pytest

from evaluation import protocols
from evaluation.pages import dashboard
from evaluation.pages.dashboard import Broken, Run

CURSED = '<b>&"x'  # as a folder may be called


def better(frame):
    """The frame of a system `asid` that finds everything at once."""
    mine = (frame["system"] == "asid") & (frame["relevant"] > 0)
    found = {"ap": 1.0, "hit_1": 1.0, "hit_3": 1.0, "hit_5": 1.0, "hit_10": 1.0, "best_rank": 1.0, "correct": True}
    frame.loc[mine, list(found)] = list(found.values())
    return frame.astype({"correct": bool})


def data_of(page):
    """What the page was given."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def place_of(data, run, system):
    (place,) = [n for n, e in enumerate(data["entries"]) if (e["run"], e["system"]) == (run, system)]
    return place


def test_runs_are_found_at_any_depth_by_name(tmp_path, write_run):
    for name in ("b", "a/deep/er", CURSED):
        write_run(tmp_path / name)
    found = list(dashboard.scan(tmp_path))
    assert sorted(run.name for run in found) == sorted(["a/deep/er", "b", CURSED])
    assert all(isinstance(run, Run) and len(run.entries) == 4 for run in found)


def test_the_folder_of_a_single_run_is_a_folder_of_runs(tmp_path, write_run):
    (run,) = dashboard.scan(write_run(tmp_path / "only"))
    assert run.name == "only"


def damaged(name, text=None):
    def damage(folder):
        (folder / name).unlink() if text is None else (folder / name).write_text(text)

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damaged("results.parquet"), "results.parquet is missing: the run did not finish"),
        (damaged("summary.json"), "summary.json is missing"),
        (damaged("summary.json", "{"), "Expecting property name"),
        (damaged("summary.json", "{}"), "not in the form that asid evaluate writes (KeyError('systems')"),
        (damaged("summary.json", "[]"), "not in the form that asid evaluate writes"),
        (damaged("results.parquet", "x"), "Parquet"),
    ],
)
def test_a_broken_run_is_a_line_with_its_reason_and_stops_nobody(tmp_path, write_run, damage, reason):
    write_run(tmp_path / "good")
    damage(write_run(tmp_path / "bad"))
    broken, good = dashboard.scan(tmp_path)
    assert isinstance(broken, Broken)
    assert isinstance(good, Run)
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert str(tmp_path) not in broken.reason
    assert "<strong>bad</strong>" in dashboard.write(tmp_path, tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.drop(columns="ap"), "column 'ap' is missing"),
        (lambda frame: frame.drop(columns="level"), "no column 'level'"),
        (lambda frame: frame[frame["system"] != "asid"], "no full query of asid"),
        (lambda frame: frame.assign(ap=2.0), "ap is 2.0, expected 0 to 1"),
    ],
)
def test_rows_that_do_not_fit_the_summary_make_a_broken_run(tmp_path, write_run, made_frame, change, reason):
    folder = write_run(tmp_path / "run")
    change(made_frame).to_parquet(folder / "results.parquet")
    (broken,) = dashboard.scan(tmp_path)
    assert reason in broken.reason


def test_within_a_run_differences_are_those_of_its_report(tmp_path, write_run, made_summary):
    write_run(tmp_path / "run")
    data = data_of(dashboard.write(tmp_path, tmp_path / "page.html"))
    first, last = place_of(data, "run", "asid"), place_of(data, "run", "audfprint")
    assert (first, last) == (0, 3)
    for key, (value, low, high) in data["differences"]["0 3"].items():
        there = made_summary["differences"]["audfprint"][key]
        assert (-value, -high, -low) == pytest.approx((there["value"], there["low"], there["high"]), abs=1e-6)
    assert "calibration_error" not in data["differences"]["0 3"]  # audfprint has no confidences


def test_systems_of_two_runs_over_the_same_queries_are_compared_pairwise(tmp_path, write_run):
    write_run(tmp_path / "first")
    write_run(tmp_path / "second", change=better, created="2026-11-22T10:11:12+00:00")
    data = data_of(dashboard.write(tmp_path, tmp_path / "page.html"))
    assert len(data["differences"]) == 8 * 7 / 2
    old, new = place_of(data, "first", "asid"), place_of(data, "second", "asid")
    value, low, high = data["differences"][f"{old} {new}"]["hit_rate_1"]
    assert value == pytest.approx(data["entries"][old]["metrics"]["hit_rate_1"][0] - 1)
    assert low < value < high < 0
    unchanged = data["differences"][f"{place_of(data, 'first', 'audfprint')} {place_of(data, 'second', 'audfprint')}"]
    assert unchanged["map"] == [0, 0, 0]
    assert data["entries"][new]["created"] == "2026-11-22 10:11"


def one_level(frame):
    frame.loc[frame["query"] == "query_001", "level"] += 1.0
    return frame


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"protocol": protocols.PUBLISHED}, "protocol_id"),
        ({"benchmark": {"name": "own", "seed": 1, "references": 61}}, "benchmark_id"),
        ({"change": one_level}, "queries_id"),
        ({"change": lambda frame: frame[frame["query"] != "query_001"]}, "queries_id"),
    ],
)
def test_what_was_measured_otherwise_is_never_compared(tmp_path, write_run, other, field):
    write_run(tmp_path / "first")
    write_run(tmp_path / "second", **other)
    data = data_of(dashboard.write(tmp_path, tmp_path / "page.html"))
    assert len(data["differences"]) == 2 * (4 * 3 / 2)  # within each run only
    apart = [name for name, _ in data["reasons"] if data["entries"][0][name] != data["entries"][4][name]]
    assert apart == [field]


def test_a_metric_of_a_protocol_is_told_with_its_sentence(tmp_path, write_run):
    write_run(tmp_path / "run")
    data = data_of(dashboard.write(tmp_path, tmp_path / "page.html"))
    assert data["protocols"] == {"strict": protocols.STRICT.about}


def test_reports_are_linked_from_where_the_page_lies(tmp_path, write_run):
    report = write_run(tmp_path / "runs" / "a run #1") / "report.html"
    write_run(tmp_path / "runs" / "without")
    report.touch()
    data = data_of(dashboard.write(tmp_path / "runs", tmp_path / "pages" / "new" / "page.html"))
    assert data["reports"]["without"] is None
    assert "#" not in data["reports"]["a run #1"]
    assert (tmp_path / "pages" / "new" / unquote(data["reports"]["a run #1"])).resolve() == report


def test_the_same_runs_give_the_same_page(tmp_path, write_run):
    write_run(tmp_path / "runs" / "one")
    write_run(tmp_path / "runs" / "two", seed=2)
    one, two = (dashboard.write(tmp_path / "runs", tmp_path / f"{name}.html") for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_names_of_folders_are_text(tmp_path, write_run):
    write_run(tmp_path / CURSED)
    (write_run(tmp_path / f"{CURSED}</script>" / "bad") / "results.parquet").unlink()
    text = dashboard.write(tmp_path, tmp_path / "page.html").read_text()
    assert CURSED not in text
    assert "&lt;b&gt;&amp;&#34;x&lt;/script&gt;/bad" in text


def test_a_folder_without_runs_gives_a_page_that_says_so(tmp_path):
    assert "No finished run here" in dashboard.write(tmp_path, tmp_path / "page.html").read_text()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="is no folder, expected one with runs"):
        dashboard.write(tmp_path / "nowhere", tmp_path / "page.html")


@pytest.fixture(scope="module")
def four_runs(tmp_path_factory, write_run):
    """Page over two comparable runs, one under another protocol, one of another benchmark, and a broken one."""
    tmp_path = tmp_path_factory.mktemp("runs")
    (write_run(tmp_path / "1" / CURSED) / "report.html").write_text("<title>A report</title>")
    write_run(tmp_path / "2 better", change=better)
    write_run(tmp_path / "3 published", protocol=protocols.PUBLISHED)
    write_run(tmp_path / "4 other music", seed=2, benchmark={"name": "sample100"})
    (tmp_path / "5" / "summary.json").parent.mkdir()
    (tmp_path / "5" / "summary.json").write_text("{}")
    return dashboard.write(tmp_path, tmp_path / "page.html")


def cells(page, system, run, metric="mAP"):
    """Lines of the cell of a metric."""
    heads = page.locator("#runs thead th").all_inner_texts()
    (column,) = [n for n, head in enumerate(heads) if head.startswith(f"{metric} ")]
    rows = page.locator("#runs tbody tr").filter(has_text=run)
    (row,) = [row for row in rows.all() if row.locator("th").inner_text().split("\n")[0].endswith(f"\xa0{system}")]
    return row.locator(":scope > *").nth(column).inner_text().split("\n")


def test_the_page_looks_right_and_the_chosen_baseline_changes_the_differences(four_runs, open_page):
    page = open_page(four_runs)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#runs tbody tr").count() == 16
    assert cells(page, "asid", CURSED)[1] == "baseline"
    assert cells(page, "asid", "2 better")[1].startswith("▲ +")
    assert cells(page, "asid", "3 published")[1] == "other protocol"
    assert cells(page, "asid", "4 other music")[1] == "other benchmark"

    page.select_option("#baseline", label="asid, 2 better")
    assert cells(page, "asid", "2 better")[1] == "baseline"
    assert cells(page, "asid", f"1/{CURSED}")[1].startswith("▼ −")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints == []


def test_the_page_filters_draws_the_chosen_metric_and_leads_to_reports(four_runs, open_page):
    page = open_page(four_runs)
    assert page.locator("#chart circle").count() == 16
    page.select_option("#protocol", "published")
    assert page.locator("#runs tbody tr").count() == page.locator("#chart circle").count() == 4
    assert page.locator("#about").inner_text() == protocols.PUBLISHED.about
    page.select_option("#protocol", "")
    page.select_option("#metric", label="tempo error, median")
    assert "tempo error, median (ratio), 95 % interval" in page.locator("#chart").text_content()
    assert page.locator("#chart circle").count() == 4  # only asid aligns
    assert page.locator("#runs thead th").count() == 9
    page.check("#all")
    assert page.locator("#runs thead th").count() == 25
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name=f"1/{CURSED}").first.click()
    assert page.title() == "A report"
    assert page.complaints == []

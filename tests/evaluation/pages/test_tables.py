"""Tables of a run: what stands in them, what is marked."""

import copy

import pytest

from evaluation import groups
from evaluation.pages import tables
from evaluation.pages.tables import Cell, Row, Table


@pytest.fixture
def summary(made_summary):
    return copy.deepcopy(made_summary)


def row(table, name):
    (found,) = [row for row in table.rows if row.name == name]
    return found


def test_the_metrics_table_has_every_system_and_every_metric_that_somebody_has(summary):
    table = tables.of_metrics(summary)
    assert table.head == ("metric (unit)", "asid", "asid-candidates", "neuralsampleid-published", "audfprint")
    assert [row.name for row in table.rows][:2] == ["mAP", "hit rate, first"]
    value = summary["systems"]["asid"]["map"]
    assert row(table, "mAP").cells[0].text == f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    assert row(table, "candidate recall").cells[3] == Cell(text="–")  # audfprint has no such stage
    for system in summary["systems"].values():
        system["tempo_error"] = None
    assert "tempo error, median" not in [row.name for row in tables.of_metrics(summary).rows]


def test_cells_are_marked_by_the_paired_difference_and_never_by_the_two_intervals(summary):
    summary["differences"]["audfprint"]["map"] = {"value": -0.1, "low": -0.2, "high": -0.01}
    summary["differences"]["audfprint"]["hit_rate_1"] = {"value": -0.1, "low": -0.2, "high": 0.01}
    for table in (tables.of_metrics(summary), tables.of_differences(summary)):
        assert row(table, "mAP").cells[-1].mark == "worse"
        assert row(table, "hit rate, first").cells[-1].mark == ""
    assert row(tables.of_metrics(summary), "mAP").cells[0].mark == ""  # the baseline itself


def test_differences_say_how_many_would_show_by_chance(summary):
    table = tables.of_differences(summary)
    compared = sum(cell.text != "–" for row in table.rows for cell in row.cells)
    assert f"Of {compared} such comparisons, about {round(compared / 20)} would" in table.about


def test_a_system_alone_has_no_differences(summary):
    assert tables.of_differences(summary | {"differences": {}}).rows == ()


def test_classes_and_lengths_count_their_queries(summary):
    assert list(tables.of_classes(summary).grouped) == ["mAP (0-1)", "hit rate, first (share 0-1)",
                                                        "hit rate, first 10 (share 0-1)"]  # fmt: skip
    assert [row.name for row in tables.of_classes(summary).rows][:2] == ["riff, n=40", "beat, n=20"]
    assert [row.name for row in tables.of_lengths(summary).rows][:2] == ["5 s, n=45", "7 s, n=30"]


def test_places_stand_by_length_and_level_with_how_many_they_are_of(summary):
    table = tables.of_places(summary)
    assert table.head == ("sample", *summary["systems"])
    assert list(table.grouped) == [
        "span in the query, median (IoU 0-1)", "tempo within 2 % (share 0-1)",
        "transposition within half a semitone (share 0-1)", "transposition stated (share 0-1)",
        "repetitions listed (share 0-1)",
    ]  # fmt: skip
    repetitions = table.grouped["repetitions listed (share 0-1)"]
    assert [row.name.split(", n=")[0] for row in repetitions] == ["all", *groups.SAMPLES]
    assert repetitions[0].name == "all, n=60"
    counts = summary["counts"]["right"]["asid"]
    assert repetitions[0].cells[0].text == f"0.750 [0.750, 0.750] of {counts['all']['repetitions']}"  # 3 of 4 in each
    assert repetitions[1].cells[0].text == "–"  # under 2 s nothing is longer than 2 s
    spans = table.grouped["span in the query, median (IoU 0-1)"]
    value = summary["by_sample"]["asid"]["all"]["right_query_iou"]["value"]
    assert spans[0].cells[0].text.startswith(f"{value:.3f} [")
    assert spans[0].cells[0].text.endswith(f"] of {counts['all']['matches']}")


def test_what_no_system_says_of_places_is_left_out(summary):
    for parts in summary["by_sample"].values():
        for values in parts.values():
            values["tempo_within_2_percent"] = None
    assert "tempo within 2 % (share 0-1)" not in tables.of_places(summary).grouped
    summary["counts"]["samples"] = {}
    assert tables.of_places(summary).rows == ()


def test_troubles_are_named_with_their_place_and_reason(summary):
    summary["benchmark"] = {"missing": ["T001", "T002"], "left_out": {"a.mp3": "is silent"}}
    summary["peers"] = {"asid": {"failed_queries": {"q1": "ValueError: no"}, "failed": [{"path": "b", "reason": "c"}]}}
    table = tables.of_troubles(summary)
    told = {(row.name, *(cell.text for cell in row.cells)) for row in table.rows}
    assert told == {
        ("T001", "benchmark", "missing", "–"),
        ("T002", "benchmark", "missing", "–"),
        ("a.mp3", "benchmark", "left out", "is silent"),
        ("q1", "asid", "query failed", "ValueError: no"),
        ("b", "asid", "failed", "c"),
    }
    assert table.about == "5 left out or failed."


def test_where_nothing_went_wrong_the_table_says_so(summary):
    table = tables.of_troubles(summary | {"benchmark": {}, "peers": {}})
    assert table.rows == ()
    assert table.about == "Nothing failed, nothing was left out."


def test_systems_tell_their_digest_and_facts_without_what_stands_elsewhere(summary):
    facts = {"about": "ours", "digest": "abc", "failed": {"x": "y"}, "options": ["-a", 8], "deep": {"k": 1}, "no": None}
    (system,) = tables.of_systems(summary | {"peers": {"asid": facts}}).rows
    assert [cell.text for cell in system.cells] == ["ours", "abc", "options: -a, 8; deep: k: 1"]


def test_a_rejection_study_is_shown_where_one_was_made(summary):
    assert tables.of_rejection(summary).rows == ()
    study = {"auroc": 0.8, "low": 0.7, "high": 0.9, "positives": 300, "negatives": 290, "positive_tracks": 60,
             "negative_tracks": 290, "shortfall": "290 of 300 excerpts of noise"}  # fmt: skip
    (row,) = tables.of_rejection(summary | {"peers": {"asid": {"rejection_study": study}}}).rows
    assert [cell.text for cell in row.cells][:3] == ["0.800 [0.700, 0.900]", "300 of 60 tracks", "290 of 290 tracks"]


def test_a_row_that_does_not_fit_its_head_is_refused():
    with pytest.raises(ValueError, match="row 'x' has 0 cells, expected 1"):
        Table(title="t", about="", head=("a", "b"), rows=(Row(name="x", cells=()),))

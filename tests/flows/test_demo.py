"""The demo at a smaller size: planted samples are rendered, ingested, found and reported."""

from flows.demo import DemoSize, run_demo


def test_the_demo_reports_what_was_planted_beside_what_was_found(tmp_path):
    report = run_demo(tmp_path, size=DemoSize(references=3, queries=2, sample_free=1))
    shown = report.to_json()
    assert (shown["planted"], shown["sample_free"]) == (2, 1)
    # Recomputed from the rows: first found equals planted.
    rows = [q for q in shown["queries"] if q["planted"]]
    assert shown["found_first"] == sum(q["found"][:1] == [q["planted"]] for q in rows) >= 1
    assert "planted" in report.to_text()

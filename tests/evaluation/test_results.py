"""Results: rows and summaries of a small made-up run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation import bootstrap, groups, metrics, results
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers.interface import Found, Response
from evaluation.protocols import PUBLISHED, STRICT
from reranker.rank import Occurrence

PLACE = Occurrence(query_span=(1, 5), reference_span=(20, 24), tempo_ratio=1.1, transposition=2.0)
RIFF = Sampled(
    sample_id="S001", reference="r1", occurrences=(PLACE,), tempo_ratio=1.1, transposition=2.0, sample_type="riff",
    length=3.5, level=-4.0,
)  # fmt: skip
BEAT = replace(RIFF, sample_id="S002", reference="r2", sample_type="beat", tempo_ratio=0.96, length=7.0, level=2.0)


def make_queries():
    """Twelve sampled ones, riffs of r1 and beats of r2 in turn, and four sample-free ones."""
    return tuple(
        Query(id=f"q{i}", path=Path(f"q{i}"), sampled=(() if i >= 12 else (RIFF,) if i % 2 else (BEAT,)))
        for i in range(16)
    )


QUERIES = make_queries()
EXCERPTS = tuple(
    replace(query, id=f"{query.id}-{part}-{length:g}s", excerpt=length)
    for query in QUERIES[:6]
    for length in (5.0, 7.5)
    for part in (1, 2)
)
BENCHMARK = Benchmark(
    name="made up",
    references={"r1": Path(), "r2": Path()},
    distractors={"n1": Path(), "n2": Path()},
    queries=QUERIES,
    excerpts=EXCERPTS,
)


def answer(*pairs, **known):
    """Found references by falling score, at the right place; the first is 60 % sure."""
    found = tuple(Found(reference=n, score=s, occurrences=(PLACE,), confidence=0.6) for n, s in pairs)
    return Response(
        **{"found": found, "candidates": frozenset(n for n, _ in pairs), "answered": True, "seconds": 0.5} | known
    )


NOTHING = Response(found=(), candidates=frozenset(), answered=False, seconds=0.25)


def row(query, response, *, system="one", protocol=STRICT):
    return results.row(query, response, system=system, benchmark=BENCHMARK, protocol=protocol)


def run(systems=("one", "two"), *, protocol=STRICT, seed=1):
    """Rows of systems that find r1 (riffs) with the score of chance."""
    rng = np.random.default_rng(seed)
    rows = []
    for system in systems:
        for query in (*QUERIES, *EXCERPTS):
            score = float(rng.integers(1, 9))
            given = answer(("n1", score + 1), ("r1", score)) if rng.random() < 0.5 else answer(("r1", score))
            rows.append(row(query, given if score > 2 else NOTHING, system=system, protocol=protocol))
    return results.table(rows)


def summed(frame, **changes):
    known = {"protocol": STRICT, "seed": 5, "benchmark": {"seed": 3, "files": Path("a")}, "command": "asid evaluate"}
    known |= {"peers": {"one": {"digest": "abc"}, "two": {}}, "created": "2026-01-01T00:00:00", "draws": 200}
    return results.summary(frame, **known | changes)


def test_a_row_holds_what_was_found_and_what_is_true():
    made = row(QUERIES[1], answer(("n1", 9.0), ("r1", 7.0), ("r2", 3.0)))
    assert set(made) == set(results.COLUMNS)
    assert made == {
        "system": "one", "query": "q1", "full_query": "q1", "excerpt": pytest.approx(np.nan, nan_ok=True),
        "relevant": 1, "best_rank": 2, "ap": 0.5, "hit_1": 0, "hit_3": 1, "hit_5": 1, "hit_10": 1,
        "candidate_recall": 1, "top_reference": "n1", "top_score": 9, "true_score": 7, "wrong_score": 9,
        "answered": True, "confidence": 0.6, "correct": False, "query_iou": 1, "reference_iou": 1, "start_error": 0,
        "tempo_error": 0, "transposition_error": 0, "repetitions": 0, "repetitions_listed": 0,
        "normalised_rank": pytest.approx(1 / 3), "seconds": 0.5,
        "classes": "riff;tempo beyond 5 %;shorter than 4 s", "sample_type": "riff", "sample_length": 3.5,
        "tempo_ratio": 1.1, "transposition": 2, "level": -4,
    }  # fmt: skip


def test_a_row_of_a_sample_free_query_has_no_truth():
    made = row(QUERIES[15], answer(("n1", 9.0)))
    assert (made["relevant"], made["correct"], made["top_score"], made["wrong_score"]) == (0, False, 9, 9)
    assert (made["classes"], made["sample_type"]) == ("", "")
    without = ("best_rank", "ap", "hit_1", "hit_10", "candidate_recall", "true_score", "normalised_rank", "query_iou",
               "start_error", "sample_length", "tempo_ratio", "level")  # fmt: skip
    assert np.isnan([made[name] for name in without]).all()


def test_a_row_of_an_empty_answer_is_a_loss_and_no_error():
    made = row(QUERIES[0], NOTHING)
    assert (made["ap"], made["hit_10"], made["candidate_recall"], made["normalised_rank"]) == (0, 0, 0, 1)
    assert (made["top_reference"], made["answered"], made["correct"]) == (None, False, False)
    assert np.isnan([made[name] for name in ("best_rank", "top_score", "true_score", "confidence", "query_iou")]).all()


def test_distractors_are_gone_from_the_rows_of_the_published_protocol():
    made = row(QUERIES[1], answer(("n1", 9.0), ("r1", 7.0)), protocol=PUBLISHED)
    assert (made["top_reference"], made["top_score"], made["best_rank"], made["correct"]) == ("r1", 7, 1, True)
    assert made["normalised_rank"] == 0
    free = row(QUERIES[15], answer(("n1", 9.0)), protocol=PUBLISHED)
    assert free["top_reference"] is None


def test_a_query_of_several_samples_belongs_to_the_classes_they_share():
    query = replace(QUERIES[0], sampled=(RIFF, BEAT))  # tempo ratios 1.1 and 0.96, lengths 3.5 and 7
    made = row(query, answer(("r1", 1.0)))
    assert made["classes"] == ""
    assert (made["sample_type"], made["sample_length"], made["level"]) == ("beat", 7, 2)  # the longest
    assert (made["relevant"], made["ap"]) == (2, 0.5)
    same = replace(query, sampled=(RIFF, replace(BEAT, sample_type="riff", tempo_ratio=1.05)))
    assert row(same, NOTHING)["classes"] == "riff;tempo beyond 5 %"


def test_places_are_those_of_the_best_ranked_relevant_reference():
    elsewhere = replace(PLACE, query_span=(50, 54))
    query = replace(QUERIES[0], sampled=(replace(RIFF, occurrences=(elsewhere,)), BEAT))  # another's place is no help
    found = (
        Found(reference="r2", score=2.0, occurrences=(elsewhere,)),
        Found(reference="r1", score=1.0, occurrences=(PLACE,)),
    )
    made = row(query, Response(found=found, candidates=None, answered=True, seconds=0.0))
    assert (made["query_iou"], made["start_error"]) == (0, 49)
    assert np.isnan(made["candidate_recall"])


def test_an_answer_from_outside_the_catalogue_is_refused():
    with pytest.raises(ValueError, match="one found 'x' for q1, expected an id of the catalogue"):
        row(QUERIES[1], answer(("x", 1.0)))


def test_an_excerpt_belongs_to_the_query_it_was_cut_from():
    names = ("q1-S001-001-5s", "q12-S1-2-5s", "q2", "x-1", "q17-S001-001-5s")
    cut = {name: replace(QUERIES[0], id=name, excerpt=5.0) for name in names}
    assert results.full_query(cut["q1-S001-001-5s"], BENCHMARK) == "q1"
    assert results.full_query(cut["q12-S1-2-5s"], BENCHMARK) == "q12"
    assert results.full_query(cut["q2"], BENCHMARK) == "q2"
    for stranger in ("x-1", "q17-S001-001-5s"):  # q17 is not q1 with a 7
        with pytest.raises(ValueError, match=f"excerpt '{stranger}' is of no query of made up; begin its id"):
            results.full_query(cut[stranger], BENCHMARK)


def test_the_table_keeps_its_columns_and_types_in_parquet(tmp_path):
    frame = run()
    frame.to_parquet(tmp_path / "results.parquet")
    read = pd.read_parquet(tmp_path / "results.parquet")
    pd.testing.assert_frame_equal(read, frame)
    assert list(results.table([])) == list(results.COLUMNS)
    assert {n: str(t) for n, t in frame.dtypes.items()} == results.COLUMNS


def test_a_query_asked_twice_is_refused():
    rows = [row(QUERIES[0], NOTHING), row(QUERIES[0], answer(("r1", 1.0)))]
    with pytest.raises(ValueError, match="one has two rows for 'q0', expected one"):
        results.table(rows)


def test_the_summary_says_what_the_metrics_and_the_bootstrap_say():
    frame = run()
    summary = summed(frame)
    whole = frame[(frame["system"] == "two") & frame["excerpt"].isna()].sort_values("query")
    columns = {name: whole[name].to_numpy() for name in whole}
    expected = bootstrap.intervals(columns, seed=5, draws=200)
    assert list(summary["systems"]["two"]) == list(metrics.KEYS)
    for key, interval in expected.items():
        assert summary["systems"]["two"][key] == (interval and pytest.approx(vars(interval)))


def test_differences_are_those_from_the_baseline():
    summary = summed(run())
    assert summary["baseline"] == "one"
    assert list(summary["differences"]) == ["two"]
    one, two = (summary["systems"][name]["map"]["value"] for name in ("one", "two"))
    assert summary["differences"]["two"]["map"]["value"] == pytest.approx(two - one)
    assert list(summed(run(), baseline="two")["differences"]) == ["one"]


def test_lengths_and_classes_are_measured_apart():
    summary = summed(run())
    assert summary["counts"] == {
        "queries": 16, "sampled": 12, "sample_free": 4, "excerpts": {"5": 12, "7.5": 12},
        "classes": {
            "riff": 6, "beat": 6, "tempo within 5 %": 6, "tempo beyond 5 %": 6, "shorter than 4 s": 6,
            "4 s and longer": 6,
        },
        "samples": {"all": 12, "2 to 4 s": 6, "4 to 8 s": 6, "under −3 dB": 6, "0 to 3 dB": 6},
        "right": summary["counts"]["right"],
        "bootstrap_draws": 200,
    }  # fmt: skip
    assert list(summary["by_length"]["one"]) == ["5", "7.5"]
    assert list(summary["by_class"]["two"]) == list(groups.CLASSES)
    assert summary["by_class"]["one"]["beat"]["map"]["value"] == 0  # r2 is never found
    assert summary["by_class"]["one"]["riff"]["map"]["value"] > 0
    assert summary["by_length"]["one"]["5"]["auroc"] is None  # no sample-free excerpts
    assert "auroc" not in summary["by_class"]["one"]["riff"]


def test_right_matches_are_measured_by_length_and_level_of_the_sample():
    twice = (PLACE, replace(PLACE, query_span=(6, 10)))
    loop = replace(QUERIES[1], sampled=(replace(RIFF, occurrences=twice),))  # 3.5 s, -4 dB
    rows = [row(QUERIES[0], answer(("r2", 3.0))), row(loop, answer(("r1", 3.0))), row(QUERIES[3], answer(("n1", 3.0)))]
    summary = summed(results.table([*rows, row(QUERIES[15], NOTHING)]), peers={"one": {}})
    assert summary["counts"]["samples"] == {"all": 3, "2 to 4 s": 2, "4 to 8 s": 1, "under −3 dB": 2, "0 to 3 dB": 1}
    right = {"matches": 1, "repetitions": 2}
    assert summary["counts"]["right"]["one"] == {
        "all": {"matches": 2, "repetitions": 2}, "2 to 4 s": right, "under −3 dB": right,
        "4 to 8 s": {"matches": 1, "repetitions": 0}, "0 to 3 dB": {"matches": 1, "repetitions": 0},
    }  # fmt: skip
    short, long = (summary["by_sample"]["one"][name] for name in ("2 to 4 s", "4 to 8 s"))
    assert short["repetitions_listed"] == {"value": 0.5, "low": 0.5, "high": 0.5}  # the first of two
    assert short["right_query_iou"]["value"] == 0.5  # 4 of 8 s
    assert long["repetitions_listed"] is None
    assert long["tempo_within_2_percent"]["value"] == 1
    assert "auroc" not in long


def test_intervals_by_length_draw_whole_full_queries():
    frame = run()
    excerpts = frame[(frame["system"] == "one") & (frame["excerpt"] == 5)].sort_values("query")
    columns = {name: excerpts[name].to_numpy() for name in excerpts}
    grouped = bootstrap.intervals(columns, seed=5, draws=200, groups=columns["full_query"])["map"]
    assert summed(frame)["by_length"]["one"]["5"]["map"] == pytest.approx(vars(grouped))


def test_the_same_rows_give_the_same_summary_in_any_order():
    frame = run()
    shuffled = frame.sample(frac=1, random_state=7).sort_values("system", kind="stable")  # another order in each
    assert summed(frame) == summed(shuffled) == summed(frame.assign(seconds=9.0))
    assert summed(frame, seed=6)["systems"] != summed(frame)["systems"]


def test_the_summary_is_json_and_records_how_it_was_made():
    summary = summed(run(), benchmark={"seed": 3, "folder": Path("music"), "unknown": np.nan, "ids": frozenset("ba")})
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["benchmark"] == {"seed": 3, "folder": "music", "unknown": None, "ids": ["a", "b"]}
    assert summary["protocol"] == {"name": "strict", "about": STRICT.about}
    assert (summary["seed"], summary["command"], summary["created"]) == (5, "asid evaluate", "2026-01-01T00:00:00")
    assert {"python", "asid", "numpy", "torch"} <= set(summary["versions"])
    with pytest.raises(TypeError, match="object in the facts of a run, expected what JSON has"):
        summed(run(), benchmark={"seed": object()})


def test_systems_that_were_asked_different_queries_are_refused():
    frame = run()
    with pytest.raises(ValueError, match="has query 'q3', expected the same"):
        summed(frame[(frame["system"] == "one") | (frame["query"] != "q3")])
    with pytest.raises(ValueError, match="baseline 'three' has no rows, expected one of one, two"):
        summed(frame, baseline="three")
    with pytest.raises(ValueError, match="has no rows"):
        summed(results.table([]))


def test_a_run_of_full_queries_alone_has_no_lengths():
    frame = run()
    summary = summed(frame[frame["excerpt"].isna()])
    assert summary["by_length"] == {"one": {}, "two": {}}
    assert summary["systems"] == summed(frame)["systems"]

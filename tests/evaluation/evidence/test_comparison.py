"""Two results are the same within what another processor may change, and what differs is told in one line each."""

from copy import deepcopy

import pytest

from evaluation.evidence import comparison, exports


@pytest.fixture
def result(reply, empty):
    return exports.document([reply, empty])


def changed(result, change):
    other = deepcopy(result)
    change(other["queries"][0])
    return other


def test_a_result_agrees_with_itself(result):
    assert comparison.differences(result, deepcopy(result)) == []


def set_score(query):
    query["matches"][0]["score"] *= 1 + 0.9e-3


def move_by_a_millisecond(query):
    query["matches"][0]["occurrences"][0]["query_span"] = [3.001, 9.0]


@pytest.mark.parametrize("change", [set_score, move_by_a_millisecond])
def test_what_lies_within_the_tolerance_is_no_difference(result, change):
    assert comparison.differences(result, changed(result, change)) == []


def other_score(query):
    query["matches"][0]["score"] *= 1 + 1.1e-3


def lost_confidence(query):
    query["matches"][0]["confidence"] = None


def moved(query):
    query["matches"][0]["occurrences"][1]["reference_span"][1] += 0.002


def fewer(query):
    query["matches"][0]["occurrences"].pop()


def other_tempo(query):
    query["matches"][0]["occurrences"][0]["tempo_ratio"] = 1.1002


def other_pitch(query):
    query["matches"][1]["occurrences"][0]["transposition"] = 0.0


def other_order(query):
    query["matches"].reverse()


def unread(query):
    query["error"] = "is empty"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (other_score, "query 1, match 1: score 431.25 then, 431.7"),
        (lost_confidence, "query 1, match 1: confidence 0.97 then, None now"),
        (moved, "query 1, match 1, occurrence 2: reference_span 20.000-21.650 s then, 20.000-21.652 s now"),
        (fewer, "query 1, match 1: 2 occurrences then, 1 now"),
        (other_tempo, "query 1, match 1, occurrence 1: tempo_ratio 1.1 then, 1.1002 now"),
        (other_pitch, "query 1, match 2, occurrence 1: transposition None then, 0.0 now"),
        (other_order, 'query 1: found <b>&"x 1, <b>&"x 2 then, <b>&"x 2, <b>&"x 1 now'),
        (unread, "query 1: was answered then, is empty now"),
    ],
)
def test_each_difference_is_one_line(result, change, line):
    (found,) = comparison.differences(result, changed(result, change))
    assert found.startswith(line)


def test_another_same_recording_is_a_difference_and_older_results_name_none(result):
    copy = {"reference": {"content_hash": "c", "title": "Song"}}
    other = changed(result, lambda query: query.update(same_recording=[copy]))
    assert comparison.differences(result, other) == ["query 1: the same recording as nothing then, Song now"]
    older = changed(result, lambda query: query.pop("same_recording"))
    assert comparison.differences(older, result) == []

"""Relation: the same recording is told apart from a sample of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reranker.rank import Match, Occurrence
from reranker.relation import is_same, is_whole, relation


def place(start, end, *, likeness=0.93, ratio=1.0, semitones=0.0):
    return Occurrence(
        query_span=(start, end), reference_span=(start, end), tempo_ratio=ratio, transposition=semitones,
        likeness=likeness,
    )  # fmt: skip


def match(*places):
    return Match(
        reference=SimpleNamespace(number=1, path=Path("1.wav")), score=1.0, confidence=None, occurrences=places
    )


@pytest.mark.parametrize(
    ("changed", "same"),
    [({}, True), ({"ratio": 1.008}, True), ({"ratio": 1.02}, False), ({"semitones": 0.5}, False),
     ({"likeness": 0.72}, False), ({"likeness": None}, False), ({"ratio": None}, False)],
)  # fmt: skip
def test_only_what_is_unchanged_is_the_same(changed, same):
    assert is_same(place(0, 10, **changed)) is same


def test_the_longest_place_tells_the_relation():
    assert relation(match(place(0, 3), place(3, 10, likeness=0.5))) == "sample"
    assert relation(match(place(0, 3, likeness=0.5), place(3, 10))) == "same recording"
    assert relation(match()) is None
    assert relation(match(place(0, 3, likeness=None))) is None


def test_a_query_is_that_recording_as_a_whole_where_nothing_else_is_heard():
    assert is_whole(match(place(0, 5), place(4, 9.5)), 10.0)  # 9.5 of 10 s; what two places share counts once
    assert not is_whole(match(place(0, 5), place(0, 5)), 10.0)
    assert not is_whole(match(place(0, 8), place(8, 10, likeness=0.5)), 10.0)
    assert not is_whole(match(), 10.0)
    assert not is_whole(match(), 0.0)

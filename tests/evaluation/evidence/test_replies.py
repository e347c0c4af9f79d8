"""Replies and the words in which they are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from encoder.audio import AudioError
from evaluation.evidence.replies import answer, certainty, percent, tally, warp
from store.connection import IndexUnavailable
from store.reading import MissingNodeMatrix
from store.shards import DamagedStore


def test_the_longest_occurrence_stands_for_a_match_and_none_for_a_match_without(reply, case):
    first = reply.matches[0]
    assert first.longest == case.occurrence
    assert replace(first, occurrences=first.occurrences[::-1]).longest == case.occurrence
    assert replace(first, occurrences=()).longest is None


def test_what_two_occurrences_cover_counts_once(reply):
    first = reply.matches[0]
    twice = replace(first, occurrences=(*first.occurrences, replace(first.occurrences[0], query_span=(8.0, 9.25))))
    assert first.covered == 6.0 + 1.5
    assert twice.covered == 6.25 + 1.5  # 3 to 9.25 and 9.5 to 11


def test_a_match_is_told_with_its_confidence_and_without_one_with_its_score(reply):
    assert [certainty(match) for match in reply.matches] == ["confidence 97 %", "score 130.5"]


def test_a_score_has_four_digits_or_all_before_the_point():
    assert [tally(score) for score in (0.0, 57.612, 130.5, 999.7, 1736692.38)] == [
        "0", "57.61", "130.5", "999.7", "1,736,692",
    ]  # fmt: skip


def test_nothing_is_told_as_certain():
    assert [percent(c) for c in (0.123, 0.9949, 0.995, 1.0)] == ["12 %", "99 %", "over 99 %", "over 99 %"]


def test_tempo_and_pitch_are_told_as_far_as_they_are_known(case, reply):
    assert warp(case.occurrence) == "tempo x 1.10, +2.0 semitones"
    assert warp(replace(case.occurrence, transposition=None)) == "tempo x 1.10"
    assert warp(reply.matches[1].occurrences[0]) == ""
    assert warp(replace(case.occurrence, transposition=-0.02)) == "tempo x 1.10, +0.0 semitones"


def test_what_concerns_one_query_is_its_reply_and_the_next_one_is_asked():
    def searcher(query, *, include_self):
        raise {
            "short.wav": AudioError(query, "too short"),
            "missing.wav": MissingNodeMatrix("track 7 has no contrast features"),
            "damaged.wav": DamagedStore("Zarr contrast/c/7/0: bytes have changed"),
            "away.wav": IndexUnavailable("Milvus does not answer"),
        }[query.name]

    errors = [answer(searcher, Path(name)).error for name in ("short.wav", "missing.wav", "damaged.wav")]
    assert errors == ["too short", "track 7 has no contrast features", "Zarr contrast/c/7/0: bytes have changed"]
    with pytest.raises(IndexUnavailable):
        answer(searcher, Path("away.wav"))

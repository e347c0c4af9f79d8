"""Windows: they cover a long query, and what they find of one reference becomes one match."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reranker import windows
from reranker.rank import Match, Occurrence
from reranker.windows import cut, later


def match(number, score, *places, confidence=None):
    """Places as (query start, query end, reference start, tempo ratio)."""
    occurrences = tuple(
        Occurrence(query_span=(s, e), reference_span=(r, r + (e - s) * ratio), tempo_ratio=ratio, transposition=0.0)
        for s, e, r, ratio in places
    )
    reference = SimpleNamespace(number=number, path=Path(f"{number}.wav"))
    return Match(reference=reference, score=score, confidence=confidence, occurrences=occurrences)


def united(parts, bar=0.0):
    return windows.united(parts, enough=lambda match: match.score >= bar)


def spans(match):
    return [(o.query_span, o.reference_span) for o in match.occurrences]


@pytest.mark.parametrize("hops", [0, 1, 79, 80, 81, 144, 145, 360, 7200])
def test_windows_cover_every_hop_and_share_what_was_asked(hops):
    made = cut(hops, longest=80, overlap=16)
    assert made[0].start == 0
    assert made[-1].stop == hops
    assert len({w.stop - w.start for w in made}) == 1
    assert all(w.stop - w.start <= 80 for w in made)
    assert all(before.stop - after.start >= 16 for before, after in zip(made, made[1:]))


def test_there_are_no_more_windows_than_needed():
    # two windows of 80 that share 16 cover 144; 145 need a third, and then 59 each: 3 x 59 - 2 x 16 = 145
    assert [len(cut(hops, longest=80, overlap=16)) for hops in (80, 81, 144, 145)] == [1, 2, 2, 3]
    assert cut(145, longest=80, overlap=16)[0] == slice(0, 59)


def test_windows_that_share_more_than_they_hold_are_refused():
    with pytest.raises(ValueError, match="windows of 16 hops overlap by 16"):
        cut(100, longest=16, overlap=16)


def test_a_reference_counts_with_the_window_that_is_surest_of_it():
    first = [match(1, 50.0, confidence=0.4), match(2, 30.0, confidence=0.2)]
    second = [match(2, 90.0, confidence=0.9), match(1, 60.0, confidence=0.3)]
    found = united([first, second])
    assert [(m.reference.number, m.score, m.confidence) for m in found] == [(2, 90.0, 0.9), (1, 50.0, 0.4)]
    assert [m.reference.number for m in united([[match(1, 5.0)], [match(2, 7.0)]])] == [2, 1]  # by score without
    assert united([]) == ()


def test_what_two_windows_see_of_one_line_is_one_occurrence():
    # 20 to 40 s and, 8 s shared, 32 to 50 s, from 5 s of the reference on at 1.1 times the tempo: 5 + 12 x 1.1 = 18.2
    one, other = match(1, 9.0, (20, 40, 5, 1.1)), match(1, 8.0, (32, 50, 18.2, 1.1))
    (found,) = united([[one], [other]])
    assert spans(found) == [((20, 50), (5, pytest.approx(38.0)))]  # 5 + 30 x 1.1
    assert found.score == 9.0


def test_places_apart_stay_apart_and_of_two_lines_in_one_place_the_longer_stays():
    apart = united([[match(1, 9.0, (0, 4, 5, 1.0))], [match(1, 8.0, (60, 64, 5, 1.0))]])
    assert spans(apart[0]) == [((0, 4), (5, 9)), ((60, 64), (5, 9))]
    contrary = united([[match(1, 9.0, (30, 36, 5, 1.0))], [match(1, 8.0, (32, 44, 80, 1.0))]])
    assert spans(contrary[0]) == [((32, 44), (80, 92))]
    touching = united([[match(1, 9.0, (30, 36, 5, 1.0), (35.8, 40, 5, 1.0))]])  # a loop that begins anew
    assert len(touching[0].occurrences) == 2


def test_a_window_in_which_a_reference_is_not_enough_places_nothing():
    strong, weak, second = (
        match(1, 200.0, (0, 4, 5, 1.0)), match(1, 20.0, (60, 64, 9, 1.0)), match(1, 150.0, (90, 94, 5, 1.0))
    )  # fmt: skip
    (found,) = united([[strong], [weak], [second]], bar=120.0)
    assert spans(found) == [((0, 4), (5, 9)), ((90, 94), (5, 9))]
    (found,) = united([[weak]], bar=120.0)  # nothing else is known of it
    assert spans(found) == [((60, 64), (9, 13))]


def test_a_match_moves_with_its_window():
    moved = later(match(1, 1.0, (0, 4, 5, 1.0), (6, 8, 5, 1.0)), 32.0)
    assert spans(moved) == [((32, 36), (5, 9)), ((38, 40), (5, 7))]

"""Ranking: equations 11 and 12 by hand, rejection, ties, and hits grouped into occurrences."""

import time

import numpy as np
import pytest

from reranker.rank import Occurrence, Ranking, Scored, by_reference, occurrences
from store.segment_ids import segment_id


def scored(*rows):
    """Rows of (query segment, track, reference segment, score)."""
    query, track, reference, scores = np.array(rows, float).reshape(-1, 4).T
    return Scored(
        query_indices=query.astype(np.int64),
        segment_ids=segment_id(track.astype(np.int64), reference.astype(np.int64)),
        scores=scores.astype(np.float32),
    )


def test_a_candidate_counts_with_its_best_score_and_a_reference_with_their_sum():
    pairs = scored(
        (0, 5, 10, 0.6),
        (1, 5, 10, 0.9),  # candidate 10 of track 5: max(0.6, 0.9) = 0.9
        (1, 5, 11, 0.7),  # track 5: 0.9 + 0.7 = 1.6
        (0, 2, 10, 0.75),
        (3, 2, 40, 0.5),  # track 2: 0.75 + 0.5 = 1.25
        (2, 9, 10, 0.99),  # track 9: 0.99
    )
    ranked = by_reference(pairs, threshold=0.5)
    assert list(ranked) == [5, 2, 9]
    assert list(ranked.values()) == pytest.approx([1.6, 1.25, 0.99])


def test_rejected_candidates_leave_the_ranking():
    pairs = scored((0, 1, 0, 0.49), (0, 1, 1, 0.49), (0, 1, 2, 0.49), (0, 2, 0, 0.5), (1, 2, 1, 0.49))
    assert by_reference(pairs, threshold=0.5) == {2: 0.5}
    assert by_reference(pairs, threshold=0.6) == {}
    assert by_reference(scored(), threshold=0.5) == {}


def test_ties_are_ordered_by_track_number():
    pairs = scored((0, 8, 0, 0.75), (0, 3, 0, 0.75), (0, 5, 0, 0.25), (0, 5, 1, 0.5))
    assert list(by_reference(pairs, threshold=0.1)) == [3, 5, 8]


def test_similarities_under_zero_are_summed_as_they_are():
    assert by_reference(scored((0, 1, 0, -0.5), (1, 1, 0, -0.25)), threshold=-1) == {1: -0.25}


def test_equations_11_and_12_on_random_scores():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 9, (500, 3)), rng.random(500)])
    best = {}
    for _, track, reference, score in rows:
        if score >= 0.4:
            best[track, reference] = max(best.get((track, reference), 0), score)
    totals = {track: sum(s for (t, _), s in best.items() if t == track) for track in range(9)}
    found = by_reference(scored(*rows), threshold=0.4)
    assert list(found) == sorted(totals, key=lambda track: -totals[track])
    assert found == pytest.approx(totals, rel=1e-5)


def test_hits_close_in_both_tracks_are_one_occurrence():
    # Segments of 4 s every 0.5 s; hits up to 2 s apart belong together.
    pairs = scored(
        (0, 1, 100, 0.6),
        (2, 1, 102, 0.6),
        (6, 1, 106, 0.6),  # 2 s after the one before: 0 - 3 s in the query, 50 - 53 s in the reference
        (40, 1, 100, 0.95),  # another place in the query
        (2, 1, 300, 0.7),  # another place in the reference
    )
    first, second, third = occurrences(pairs, hop=0.5, duration=4.0)
    assert first == Occurrence(query_span=(0.0, 7.0), reference_span=(50.0, 57.0))  # strongest: 3 x 0.6
    assert second == Occurrence(query_span=(20.0, 24.0), reference_span=(50.0, 54.0))
    assert third == Occurrence(query_span=(1.0, 5.0), reference_span=(150.0, 154.0))
    assert (first.tempo_ratio, first.transposition) == (None, None)


def test_hits_further_apart_than_two_seconds_are_two_occurrences():
    near, far = ((0, 1, 0, 0.9), (4, 1, 4, 0.8)), ((0, 1, 0, 0.9), (5, 1, 4, 0.8))
    assert len(occurrences(scored(*near), hop=0.5, duration=4.0)) == 1
    assert len(occurrences(scored(*far), hop=0.5, duration=4.0)) == 2


def test_one_hit_is_an_occurrence_and_none_is_none():
    (only,) = occurrences(scored((3, 1, 7, 0.9)), hop=0.5, duration=4.0)
    assert (only.query_span, only.reference_span) == ((1.5, 5.5), (3.5, 7.5))
    assert occurrences(scored(), hop=0.5, duration=4.0) == ()


def test_the_hits_of_an_hour_are_grouped_in_little_time():
    rng = np.random.default_rng(0)
    query, reference = rng.integers(0, 7000, (2, 30_000))
    rows = np.column_stack([query, np.ones(30_000), reference, rng.random(30_000)])
    began = time.perf_counter()
    assert occurrences(scored(*rows), hop=0.5, duration=4.0)
    assert time.perf_counter() - began < 5  # a matrix of all pairs would take 14 GB


def test_an_impossible_ranking_is_refused():
    for values in ({"candidates": 0}, {"top": 0}, {"shortlist": 0}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            Ranking(**values)

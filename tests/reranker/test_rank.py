"""Ranking: equations 11 and 12 by hand, rejection, and ties."""

import numpy as np
import pytest

from reranker.rank import Ranking, Scored, by_reference
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


def test_an_impossible_ranking_is_refused():
    for values in ({"candidates": 0}, {"top": 0}, {"shortlist": 0}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            Ranking(**values)
    for values in ({"stretch": 0.0}, {"rough": 0.0}, {"local": -1.0}):
        with pytest.raises(ValueError, match="expected more than 0 s each"):
            Ranking(**values)
    with pytest.raises(ValueError, match="by is 'chance', expected auto or correlation or"):
        Ranking(by="chance")

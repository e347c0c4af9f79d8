"""Which system is ranked how, and how a ranker of a system's own takes its place in the search."""

from dataclasses import replace

import numpy as np
import pytest

from encoder.systems import ASID, PUBLISHED, SYSTEMS, named
from reranker import rankers
from reranker.rank import Match, Ranking
from reranker.search import Searcher


@pytest.mark.parametrize(
    ("system", "by"),
    [("asid", "correlation"), ("neuralsampleid-published", "similarity"), ("resnet18-ibn", "similarity"),
     ("grafprint", "own"), ("clews", "own"), ("an-gnn", "own")],
)  # fmt: skip
def test_every_system_is_ranked_by_what_suits_it_unless_somebody_says_otherwise(system, by):
    assert rankers.resolved("auto", named(system)) == by
    assert rankers.resolved("reranker", named(system)) == "reranker"


def test_every_system_has_a_ranking_by_default():
    for system in SYSTEMS.values():
        assert rankers.resolved("auto", system) in ("correlation", "similarity", "own")
    assert rankers.resolved("auto", replace(ASID, contrast=None)) == "correlation"  # the plain contrast


def test_a_system_without_a_ranking_of_its_own_is_told_so():
    class Encoder:
        system = PUBLISHED

    with pytest.raises(ValueError, match="neuralsampleid-published has no ranking of its own; use --rank-by"):
        rankers.own(Encoder())


def test_a_ranker_is_given_wide_candidates_without_what_is_excluded_and_its_best_are_returned():
    class Query:
        fingerprints = np.eye(3, dtype=np.float32)

        def __len__(self):
            return 3

    class References:
        def candidates(self, fingerprints, *, limit, exclude_tracks):
            asked.append((len(fingerprints), limit, tuple(exclude_tracks)))
            return "candidates"

    asked, matches = [], tuple(Match(reference=n, score=-n, confidence=None, occurrences=()) for n in range(3))
    ranker = lambda query, candidates, references: matches if candidates == "candidates" else ()  # noqa: E731
    encoder = type("Encoder", (), {"contrast": (0, 0), "system": PUBLISHED})()
    searcher = Searcher(encoder, References(), None, Ranking(by="own", wide=7), ranker=ranker)
    assert searcher.matches(Query(), exclude=[4]) == matches
    assert asked == [(3, 7, (4,))]
    assert all(searcher.enough(match) for match in matches)  # nobody knows a bar for these scores
    barred = Searcher(encoder, References(), None, Ranking(by="own", surplus=-1.0), ranker=ranker)
    assert [barred.enough(match) for match in matches] == [True, True, False]

"""Protocols: the released code's quirks and the strict rules on hand-made cases, and by how much they differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation import protocols, results
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers.interface import Found, Response
from evaluation.protocols import PUBLISHED, STRICT, Rule
from reranker.rank import Scored, by_reference
from store.segment_ids import segment_id

# Track numbers of the catalogue: references A to D and distractors M, N
NUMBERS = {"A": 1, "B": 2, "C": 3, "D": 4, "M": 5, "N": 6}
NAMES = {number: name for name, number in NUMBERS.items()}


def scored(*rows):
    """Rows of (query segment, track, reference segment, score)."""
    query, track, segment, scores = zip(*((q, NUMBERS[t], s, x) for q, t, s, x in rows), strict=True)
    return Scored(
        query_indices=np.array(query),
        segment_ids=segment_id(np.array(track), np.array(segment)),
        scores=np.array(scores, np.float32),
    )


def asking(*references, excerpt=None, aliases=()):
    sampled = tuple(Sampled(sample_id="S", reference=reference) for reference in references)
    return Query(id="q", path=Path("q"), sampled=sampled, excerpt=excerpt, aliases=frozenset(aliases))


def row(pairs, query, protocol, **changes):
    """The row of a peer that ranks these pairs under the protocol."""
    totals = protocols.rank(pairs, protocol.rule(query)) if pairs else {}
    found = tuple(Found(reference=NAMES[number], score=score) for number, score in totals.items())
    return judged(found, query, protocol)


def judged(found, query, protocol, references="ABCD", distractors="MN"):
    benchmark = Benchmark(
        name="by hand",
        references=dict.fromkeys(references, Path()),
        distractors=dict.fromkeys(distractors, Path()),
        queries=(replace(query, excerpt=None),),
    )
    response = Response(found=tuple(found), candidates=None, answered=bool(found), seconds=0.0)
    return results.row(query, response, system="one", benchmark=benchmark, protocol=protocol)


CASE = scored(
    (0, "N", 0, 0.9), (1, "N", 1, 0.8),  # a distractor: 1.7
    (0, "B", 4, 0.6), (2, "B", 5, 0.6),  # a wrong reference: 1.2
    (1, "A", 7, 0.7), (2, "A", 7, 0.6), (2, "A", 8, 0.3),  # right: max(0.7, 0.6) = 0.7; its other candidate is rejected
    (0, "C", 2, 0.4),  # right, and rejected
)  # fmt: skip


def test_one_case_through_both_protocols():
    query = asking("A", "C")
    strict, published = (row(CASE, query, protocol) for protocol in (STRICT, PUBLISHED))
    # strict: N 1.7, B 1.2, A 0.7; C has left: 1/3 for A, 0 for C, over 2
    assert (strict["top_reference"], strict["best_rank"], strict["hit_1"], strict["hit_3"]) == ("N", 3, 0, 1)
    assert strict["ap"] == pytest.approx(1 / 6)
    # published: B 1.2, A 0.7, C 0: (1/2 + 2/3) over the 2 found
    assert (published["top_reference"], published["best_rank"], published["hit_1"]) == ("B", 2, 0)
    assert published["ap"] == pytest.approx(7 / 12)
    assert published["ap"] - strict["ap"] == pytest.approx(5 / 12)
    # wrong ones before A and C, of the wrong ones in the catalogue: N, B for A of 4, C lost; B of 2 for both
    assert strict["normalised_rank"] == pytest.approx((2 / 4 + 1) / 2)
    assert published["normalised_rank"] == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_a_classifier_that_rejects_everything_is_still_ranked_by_the_published_protocol():
    pairs = scored((0, "A", 0, 0.1), (0, "B", 0, 0.2), (0, "N", 0, 0.3))
    assert row(pairs, asking("A"), STRICT)["ap"] == 0.0
    assert row(pairs, asking("A"), PUBLISHED)["ap"] == 1.0  # all have 0, and A stands first in the catalogue


def test_a_lost_reference_costs_nothing_in_the_published_protocol():
    pairs = scored((0, "A", 0, 0.9))
    assert row(pairs, asking("A", "D"), STRICT)["ap"] == 0.5
    assert row(pairs, asking("A", "D"), PUBLISHED)["ap"] == 1.0


def test_the_published_protocol_looks_at_twenty_ranks():
    names = [f"r{i:02d}" for i in range(30)]
    found = [Found(reference=name, score=30 - i) for i, name in enumerate(names)]
    for place, expected in ((19, 1 / 20), (20, 0.0)):
        query = asking(names[place])
        assert judged(found, query, PUBLISHED, references=names)["ap"] == pytest.approx(expected)
        assert judged(found, query, STRICT, references=names)["ap"] == pytest.approx(1 / (place + 1))


def test_equal_scores_rank_worst_first_or_as_returned():
    found = [Found(reference=name, score=1.0) for name in "ABC"]
    assert judged(found, asking("A"), STRICT)["best_rank"] == 3
    assert judged(found, asking("A"), STRICT)["top_reference"] == "B"
    assert not judged(found, asking("A"), STRICT)["correct"]
    assert judged(found, asking("A"), PUBLISHED)["best_rank"] == 1
    assert judged(found, asking("A", "B"), STRICT)["ap"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # C before A, B


def test_the_recording_itself_is_no_answer():
    found = [Found(reference="B", score=2.0), Found(reference="A", score=1.0)]
    for protocol in (STRICT, PUBLISHED):
        assert judged(found, asking("A", aliases={"B"}), protocol)["best_rank"] == 1


def test_candidates_of_an_excerpt_count_once_per_query_segment_that_returned_them():
    pairs = scored(
        (0, "B", 4, 0.6), (1, "B", 4, 0.55), (2, "B", 4, 0.6),  # one candidate, returned three times: 0.6 or 1.8
        (0, "A", 1, 0.9), (0, "A", 2, 0.5), (0, "A", 3, 0.4),  # 0.9 + 0.5; the last is dropped
        (0, "C", 1, 0.1),
    )  # fmt: skip
    query = asking("A", excerpt=5.0)
    assert protocols.rank(pairs, PUBLISHED.excerpt) == pytest.approx({2: 1.8, 1: 1.4})
    assert protocols.rank(pairs, STRICT.excerpt) == pytest.approx({1: 1.4, 2: 0.6})
    assert (row(pairs, query, STRICT)["hit_1"], row(pairs, query, PUBLISHED)["hit_1"]) == (1, 0)


def test_a_score_of_exactly_one_half_is_rejected_on_full_queries_only():
    pairs = scored((0, "A", 0, 0.5), (0, "B", 0, 0.75))
    assert protocols.rank(pairs, PUBLISHED.full) == {2: 0.75, 1: 0.0}
    assert protocols.rank(pairs, PUBLISHED.excerpt) == {2: 0.75, 1: 0.5}


def test_the_rule_goes_by_what_is_asked_about():
    assert (PUBLISHED.rule(asking()).candidates, PUBLISHED.rule(asking(excerpt=5.0)).candidates) == (3, 5)
    assert (PUBLISHED.full.threshold, PUBLISHED.excerpt.threshold) == (0.5, 0.5)


def test_the_strict_rule_is_the_one_of_the_product():
    rng = np.random.default_rng(0)
    pairs = Scored(
        query_indices=rng.integers(0, 9, 400),
        segment_ids=segment_id(rng.integers(1, 12, 400), rng.integers(0, 9, 400)),
        scores=rng.random(400).astype(np.float32),
    )
    expected = by_reference(pairs, threshold=0.5)
    assert list(protocols.rank(pairs, STRICT.full).items()) == list(expected.items())
    # the other branch computes the same where nothing is exactly at the threshold
    assert protocols.rank(pairs, Rule(survives_at_threshold=False)) == pytest.approx(expected)
    assert list(protocols.rank(pairs, Rule(survives_at_threshold=False))) == list(expected)


def test_the_published_rules_agree_with_plain_loops():
    rng = np.random.default_rng(1)
    rows = [(q, t, s, x) for q, t, s, x in zip(*rng.integers(0, 6, (3, 300)), rng.random(300).astype(np.float32))]
    pairs = Scored(
        query_indices=np.array([q for q, *_ in rows]),
        segment_ids=segment_id(np.array([t for _, t, *_ in rows]), np.array([s for *_, s, _ in rows])),
        scores=np.array([x for *_, x in rows], np.float32),
    )
    best, times = {}, {}
    for _, track, segment, score in rows:
        best[track, segment] = max(best.get((track, segment), 0.0), float(score))
        times[track, segment] = times.get((track, segment), 0) + 1
    full, excerpt = {}, {}
    for (track, segment), score in best.items():
        full[track] = full.get(track, 0.0) + (score if score > 0.5 else 0.0)
        if score >= 0.5:
            excerpt[track] = excerpt.get(track, 0.0) + score * times[track, segment]
    assert protocols.rank(pairs, PUBLISHED.full) == pytest.approx(full)
    assert protocols.rank(pairs, PUBLISHED.excerpt) == pytest.approx(excerpt)


def test_nothing_scored_is_nothing_ranked():
    empty = Scored(query_indices=np.zeros(0, int), segment_ids=np.zeros(0, int), scores=np.zeros(0, np.float32))
    for rule in (STRICT.full, PUBLISHED.full, PUBLISHED.excerpt):
        assert protocols.rank(empty, rule) == {}


def test_protocols_have_names_and_one_sentence_each():
    assert protocols.named("strict") is STRICT
    assert protocols.named("published") is PUBLISHED
    for protocol in protocols.PROTOCOLS.values():
        assert protocol.about.startswith(protocol.name)
        assert protocol.about.endswith(".")
        assert protocol.about.count(".") == 1
    with pytest.raises(ValueError, match="no protocol 'loose'; choose from strict, published"):
        protocols.named("loose")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rule(candidates=0), "candidates is 0, expected 1 or more"),
        (lambda: Rule(rejected="stays"), "rejected is 'stays', expected"),
        (lambda: replace(STRICT, cut=0), "protocol strict: cut is 0"),
    ],
)
def test_impossible_protocols_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

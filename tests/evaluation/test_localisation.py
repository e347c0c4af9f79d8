"""Localisation: unions of spans, starts, tempo and transposition by hand."""

import numpy as np
import pytest

from evaluation import localisation
from evaluation.benchmark import Sampled
from evaluation.localisation import Localisation, covered, intersection_over_union, listed, repetitions
from reranker.rank import Occurrence


def occurrence(query, reference, tempo=None, transposition=None):
    return Occurrence(query_span=query, reference_span=reference, tempo_ratio=tempo, transposition=transposition)


def sampled(*occurrences, **known):
    return Sampled(sample_id="S", reference="r", occurrences=occurrences, **known)


def test_the_union_of_spans_counts_no_second_twice():
    assert covered([(0, 4), (2, 6), (8, 9), (8, 8.5)]) == 7.0
    assert covered([]) == 0.0


def test_intersection_over_union_of_hand_made_spans():
    assert intersection_over_union([(0, 4)], [(2, 6)]) == pytest.approx(2 / 6)
    assert intersection_over_union([(0, 2), (4, 6)], [(1, 5)]) == pytest.approx(2 / 6)  # 1 to 2 and 4 to 5
    assert intersection_over_union([(0, 1), (0, 1), (1, 2)], [(0, 2)]) == 1.0  # in pieces and twice
    assert intersection_over_union([(0, 1)], [(1, 2)]) == 0.0
    assert np.isnan(intersection_over_union([], [(0, 1)]))
    assert np.isnan(intersection_over_union([(0, 1)], []))


def test_intersection_over_union_agrees_with_counting_tenths_of_seconds():
    rng = np.random.default_rng(0)
    for _ in range(100):
        sides = [[tuple(sorted(rng.choice(100, 2, replace=False))) for _ in range(rng.integers(1, 5))] for _ in "qr"]
        first, second = ({t for start, end in side for t in range(start, end)} for side in sides)
        expected = len(first & second) / len(first | second)
        assert intersection_over_union(*sides) == pytest.approx(expected)


@pytest.mark.parametrize("span", [(2, 1), (1, 1), (0, np.inf), (np.nan, 1)])
def test_a_span_that_does_not_end_after_its_start_is_refused(span):
    with pytest.raises(ValueError, match="expected an end after the start"):
        covered([span])


def test_the_strongest_occurrence_is_held_against_the_nearest_annotated_one():
    found = [occurrence((20.5, 24), (3, 7)), occurrence((0, 4), (0, 4))]
    annotated = [sampled(occurrence((0, 4), (0, 4)), occurrence((20, 24), (3.75, 7)))]
    # the second: 0.5 s in the query and 0.75 s in the reference; the larger counts
    assert localisation.evaluate(found, annotated).start_error == 0.75


def test_tempo_and_transposition_are_held_against_the_nearest_annotation_that_has_them():
    annotated = [
        sampled(occurrence((0, 4), (0, 4)), tempo_ratio=0.8, transposition=3.0),
        sampled(occurrence((40, 44), (0, 4), tempo=1.25), tempo_ratio=9.0, transposition=-2.0),
    ]
    found = [occurrence((40, 44), (0, 4)), occurrence((41, 45), (0, 4), tempo=1.0, transposition=-1.5)]
    located = localisation.evaluate(found, annotated)
    assert located.tempo_error == pytest.approx(0.2)  # |1 / 1.25 - 1|: the occurrence's own value counts
    assert located.transposition_error == 0.5


def test_tempo_is_known_without_annotated_places():
    located = localisation.evaluate([occurrence((0, 4), (0, 4), tempo=1.1)], [sampled(tempo_ratio=1.0)])
    assert located.tempo_error == pytest.approx(0.1)
    assert np.isnan([located.query_iou, located.reference_iou, located.start_error, located.transposition_error]).all()


def test_a_peer_without_places_has_no_errors():
    located = localisation.evaluate([], [sampled(occurrence((0, 4), (0, 4)), tempo_ratio=1.0)])
    assert vars(located).pop("repetitions") == 0  # of what sounds once; this much the annotation says
    assert np.isnan([value for name, value in vars(located).items() if name != "repetitions"]).all()
    assert np.isnan(list(vars(Localisation()).values())).all()


LOOP = ((2, 6), (6, 10), (12, 16))


def test_repetitions_are_the_long_soundings_of_what_sounds_twice():
    assert repetitions(LOOP) == LOOP
    assert repetitions([(2, 6), (2, 6)]) == ()  # one sounding, paired with two places of the reference
    assert repetitions([(2, 6)]) == repetitions([]) == ()
    assert repetitions([(0, 2), (2, 4.5), (5, 6)]) == ((2, 4.5),)  # 2 s are not longer than 2 s


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (LOOP, 3),
        ([(2, 6.5), (6.5, 10), (13, 16)], 3),  # 4 / 4.5, 3.5 / 4, 3 / 4
        ([(2, 10), (12, 16)], 1),  # 4 / 8 of the first and of the second, but not of one alone
        ([(2, 7.9)], 1),  # 4 / 5.9, and 1.9 of the second's 4 s
        ([(2, 8)], 0),  # 4 / 6, but half of the second
        ([(2, 16)], 0),
        ([(2, 4), (4, 6)], 1),  # two halves of the first: each 2 / 4, one of them counts
        ([(2, 3.9)], 0),  # 1.9 / 4
        ([(2, 6), (2.5, 6)], 1),
        ([(20, 24)], 0),
        ([], 0),
    ],
)
def test_a_repetition_is_listed_by_an_occurrence_of_its_own(found, count):
    assert listed(found, LOOP) == count


def test_a_located_loop_tells_how_many_repetitions_it_has_and_lists():
    annotated = [sampled(*(occurrence(span, (0, 4)) for span in LOOP))]
    located = localisation.evaluate([occurrence((12, 16), (0, 4)), occurrence((2, 10), (0, 8))], annotated)
    assert (located.repetitions, located.repetitions_listed) == (3, 1)
    silent = localisation.evaluate([], annotated)  # the peer says no place
    assert silent.repetitions == 3
    assert np.isnan(silent.repetitions_listed)


def test_a_tempo_ratio_of_zero_is_refused():
    with pytest.raises(ValueError, match="tempo ratio is 0.0, expected a number above 0"):
        localisation.tempo_error(1.0, 0.0)

"""Which spans of a query sound, and which spans of the reference they reuse."""

import pytest

from evaluation.dataset.relations import Annotation, Relation, longest_occurrence, merged, paired, sounding


def span(start, end, label=1, kind="occurrence"):
    return Annotation(start=start, end=end, label=label, kind=kind)


def related(in_query=(), in_reference=(), **fields):
    known = {"sample_id": "S001", "query": "T001", "reference": "T002", **fields}
    return Relation(in_query=tuple(in_query), in_reference=tuple(in_reference), **known)


# Which spans of a query sound


def test_without_absences_only_what_is_marked_sounds():
    relation = related([span(5, 8), span(1, 2, 2, "partial occurrence"), span(20, 20.005)])
    assert [(a.start, a.end) for a in sounding(relation, duration=60)] == [(1, 2), (5, 8)]  # 5 ms is a slip


def test_with_absences_every_gap_of_a_second_sounds_and_the_tail_where_the_duration_is_known():
    # Marked: absence 0-3, occurrence 4-6, an occurrence inside it 4-5, absence 10-12. Gaps: 3-4 (1 s), 6-10. The gap
    # after the inner occurrence must not begin at 5. The tail 12-20 counts only where the track's end is known.
    marked = [span(0, 3, 0, "absence"), span(4, 6), span(4, 5, 2), span(10, 12, 0, "absence")]
    without = [(a.start, a.end, a.label) for a in sounding(related(marked))]
    assert without == [(3, 4, -1), (4, 6, 1), (4, 5, 2), (6, 10, -1)]
    assert [(a.start, a.end) for a in sounding(related(marked), duration=20.0)][-1] == (12, 20)
    assert len(sounding(related(marked), duration=12.9)) == 4  # a tail of 0.9 s is none


# Which spans of the reference they reuse


def spans_of(relation):
    return [(o.query_span[0], o.reference_span[0]) for o in paired(relation)]


def test_labels_shared_by_both_sides_pair():
    relation = related([span(1, 2, 0), span(3, 4, 1), span(5, 6, 0)], [span(10, 11, 1), span(20, 21, 0)])
    assert spans_of(relation) == [(1, 20), (3, 10), (5, 20)]


def test_equally_many_labels_pair_in_order_where_absence_took_the_first():
    # The query's L1 is absence, so its L2 and L3 are the reference's L1 and L2; the gap 4-8 may reuse either.
    query = [span(0, 1, 1, "absence"), span(1, 2, 2), span(2, 4, 3), span(8, 9, 1, "absence")]
    relation = related(query, [span(10, 11, 1), span(20, 22, 2)])
    assert spans_of(relation) == [(1, 10), (2, 20), (4, 10), (4, 20)]


def test_a_label_without_partner_pairs_with_every_span_of_the_reference():
    relation = related([span(1, 2, 0), span(3, 4, 1), span(5, 6, 2)], [span(10, 11, 1), span(20, 21, 2)])
    assert spans_of(relation) == [(1, 10), (1, 20), (3, 10), (5, 20)]
    only = related([span(1, 2, 1)], [span(10, 11, 1), span(20, 21, 2), span(0, 0.00005, 3)])
    assert spans_of(only) == [(1, 10), (1, 20)]  # the third is a slip


def test_an_occurrence_carries_tempo_and_transposition_of_its_relation():
    occurrence = paired(related([span(1, 2)], [span(10, 11)], tempo_ratio=1.1, transposition=-3.0))[0]
    assert (occurrence.tempo_ratio, occurrence.transposition) == (1.1, -3.0)


def test_the_longest_occurrence_is_of_the_query_else_of_the_reference():
    presence = span(0, 100, 3, "presence")
    assert longest_occurrence(related([presence, span(1, 3), span(5, 8, 2, "partial occurrence")])) == 3.0
    assert longest_occurrence(related([presence], [span(2, 4.5)])) == 2.5
    assert longest_occurrence(related([presence])) is None


def test_spans_closer_than_the_gap_are_one_run():
    # 0-2 and 2.2-3 lie 0.2 s apart, 3.25-4 another 0.25 s; 3.5-3.6 lies inside the last.
    runs = merged([(3.5, 3.6), (0.0, 2.0), (2.2, 3.0), (3.25, 4.0)], gap=0.25)
    assert runs == [(0.0, 3.0), (3.25, 4.0)]


@pytest.mark.parametrize(
    ("ratio", "stretched"), [(1.0, False), (1.04, False), (1.05, True), (0.95, True), (0.96, False)]
)
def test_a_tempo_that_differs_by_5_percent_is_stretched(ratio, stretched):
    assert related(tempo_ratio=ratio).stretched is stretched

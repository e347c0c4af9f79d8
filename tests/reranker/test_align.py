"""Alignment: lines, loops, chops and tempi by hand at a hop of 0.5 s and segments of 4 s; noise; what ranks."""

import numpy as np
import pytest

from reranker import align, lines
from reranker.lines import Alignment
from reranker.rank import Scored
from store.segment_ids import segment_id

HOP, DURATION = 0.5, 4.0


def pairs(*rows, track=1):
    """Rows of (query segment, reference segment, score)."""
    query, reference, scores = np.array(rows, float).reshape(-1, 3).T
    return Scored(
        query_indices=query.astype(np.int64),
        segment_ids=segment_id(track, reference.astype(np.int64)),
        scores=scores.astype(np.float32),
    )


def line(first, last, *, at, ratio=1.0, score=0.75):
    """Query segments `first` to `last` (exclusive), the first at reference segment `at`; middles are 4 hops further."""
    return [(q, round(at + 4 + ratio * (q - first) - 4), score) for q in range(first, last)]


def noise(count, query, reference, *, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.integers(query), rng.integers(reference), rng.uniform(0.5, 0.8)) for _ in range(count)]


def found(*rows, **settings):
    return align.occurrences(pairs(*rows), hop=HOP, duration=DURATION, config=Alignment(**settings))


@pytest.mark.parametrize("seed", range(3))
def test_a_line_in_noise_is_one_occurrence_with_both_its_spans(seed):
    (one,) = found(*line(10, 40, at=60), *noise(60, 60, 300, seed=seed))
    # Segments 10 to 39 start at 5 to 19.5 s and last 4 s: 5 to 23.5 s, from 30 to 48.5 s.
    assert one.query_span == pytest.approx((5.0, 23.5), abs=0.5)
    assert one.reference_span == pytest.approx((30.0, 48.5), abs=0.6)
    assert one.tempo_ratio == pytest.approx(1.0, abs=0.01)
    assert one.evidence == pytest.approx(30 * 0.75, abs=1.0)
    assert one.transposition is None


@pytest.mark.parametrize("ratio", [0.7, 0.84, 1.0, 1.19, 1.5])
def test_the_tempo_ratio_is_the_lines_slope_though_segments_lie_on_a_grid(ratio):
    (one,) = found(*line(0, 40, at=100, ratio=ratio))
    assert one.tempo_ratio == pytest.approx(ratio, rel=0.01)
    # The middles, 2 s after the starts, are on the line: 52 s of the reference at 2 s of the query. The last segments
    # of the reference that are hit end at 50 + 39 / 2 * ratio + 4 s; of a longer reference nothing is known.
    end = min(52 + 21.5 * ratio, 54 + 19.5 * ratio)
    assert one.reference_span == pytest.approx((52 - 2 * ratio, end), abs=0.4)
    assert one.query_span == pytest.approx((0.0, 2 + (end - 52) / ratio), abs=0.4)


def test_two_tempi_are_two_occurrences():
    fast, slow = found(*line(50, 90, at=20, ratio=1.3), *line(0, 30, at=200, ratio=0.75), *noise(50, 100, 400))
    assert (fast.tempo_ratio, slow.tempo_ratio) == (pytest.approx(1.3, rel=0.02), pytest.approx(0.75, rel=0.02))
    assert fast.evidence > slow.evidence


def test_each_repetition_of_a_loop_is_an_occurrence_of_its_own():
    # 2 s of the reference from 30 s on, heard three times from 5 s on. Say a segment of 4 s tells a repetition while at
    # least 1.5 s of it are inside: repetition k (5 + 2 k to 7 + 2 k s) from 2.5 + 2 k to 5.5 + 2 k s on, query segments
    # 5 + 4 k to 11 + 4 k; the reference is 25 s ahead, less 2 k.
    rows = [(q, q + 50 - 4 * k, 0.75) for k in range(3) for q in range(5 + 4 * k, 12 + 4 * k)]
    places = sorted(found(*rows, *noise(20, 40, 200)), key=lambda o: o.query_span)
    assert len(places) == 3
    # Neighbours claim 7 s each and share 5: the borders are at 7 and 9 s, where one repetition follows another.
    assert places[0].query_span[1] == places[1].query_span[0] == pytest.approx(7.0, abs=0.3)
    assert places[1].query_span[1] == places[2].query_span[0] == pytest.approx(9.0, abs=0.3)
    assert places[1].reference_span == pytest.approx((30.0, 32.0), abs=0.5)


def test_chops_out_of_order_are_several_short_occurrences():
    rows = [*line(5, 11, at=80), *line(11, 17, at=20), *line(17, 23, at=50)]
    places = sorted(found(*rows, *noise(20, 40, 200)), key=lambda o: o.query_span)
    assert [o.reference_span[0] for o in places] == pytest.approx([40.0, 11.75, 26.75], abs=0.6)
    # Claims of 6.5 s from 2.5, 5.5 and 8.5 s on overlap by 3.5 s: borders at 7.25 and 10.25 s.
    assert [o.query_span for o in places] == [
        pytest.approx(span, abs=0.3) for span in ((2.5, 7.25), (7.25, 10.25), (10.25, 15.0))
    ]
    assert {o.tempo_ratio for o in places} == {None}  # six segments span 2.5 s: too short for a hop of 0.5 s


def test_the_same_part_of_the_query_is_explained_once():
    # The reference repeats itself: the query is like 50 s and, a little less, like 100 s.
    rows = [*line(0, 30, at=100), *line(4, 26, at=200, score=0.7)]
    (one,) = found(*rows)
    assert one.reference_span[0] == pytest.approx(50.0, abs=0.1)


def test_pairs_beside_a_line_stem_from_overlapping_segments_and_count_once():
    rows = [(q, r + off, 0.75 - 0.1 * abs(off)) for q, r, _ in line(0, 20, at=50) for off in (-2, -1, 0, 1, 2)]
    (one,) = found(*rows)
    assert one.evidence == pytest.approx(20 * 0.75)


def test_no_pair_is_on_two_lines():
    rows = [*line(0, 30, at=50), *line(10, 30, at=62, ratio=0.8), *noise(1_000, 60, 200)]
    points = align._points(pairs(*rows), hop=HOP, duration=DURATION)
    members = np.concatenate([one.points for one in lines.find(points, Alignment())])
    assert len(members) >= 40
    assert len(np.unique(members)) == len(members)


def test_the_tempo_ratio_is_told_from_ten_hops_on():
    assert found(*line(0, 10, at=50))[0].tempo_ratio is None  # 9 hops from the first to the last
    assert found(*line(0, 11, at=50))[0].tempo_ratio == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("count", "query", "reference"), [(2_000, 400, 400), (200, 40, 400), (20, 33, 200)])
def test_noise_gives_nothing(count, query, reference, seed):
    assert found(*noise(count, query, reference, seed=seed)) == ()


def test_nothing_and_a_single_pair_are_no_line():
    assert found() == ()
    assert found((3, 7, 0.9)) == ()
    assert found((3, 7, 0.9), (4, 8, 0.9)) == ()  # two in a row: neighbouring segments share seven eighths


def test_the_order_of_the_pairs_does_not_matter():
    rows = [*line(0, 20, at=30), *line(30, 50, at=10, ratio=1.2), *noise(200, 60, 200)]
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert found(*rows) == found(*shuffled)


def test_two_thousand_pairs_hold_all_lines():
    rows = [*line(0, 60, at=60, ratio=1.1), *line(80, 140, at=200, ratio=0.8), *line(150, 210, at=20, ratio=1.4)]
    places = sorted(found(*rows, *noise(1820, 400, 400)), key=lambda o: -o.evidence)[:3]
    assert sorted(o.tempo_ratio for o in places) == [pytest.approx(r, rel=0.02) for r in (0.8, 1.1, 1.4)]


def test_places_lie_within_the_reference():
    # At tempo ratio 1.5 the first segments would begin at 2 - 1.5 * 2 = -1 s.
    (one,) = found(*line(0, 30, at=0, ratio=1.5))
    assert one.reference_span[0] == pytest.approx(0.0, abs=1e-6)
    assert one.query_span[0] > 0.3
    assert one.reference_span[1] <= 29 * 1.5 * HOP + DURATION + HOP


def test_a_reference_without_a_line_has_the_place_of_its_best_pair():
    rows = pairs((3, 7, 0.6), (20, 90, 0.8))
    (only,) = align.by_reference(rows, hop=HOP, duration=DURATION)[1]
    assert (only.query_span, only.reference_span) == ((10.0, 14.0), (45.0, 49.0))
    assert (only.tempo_ratio, only.evidence) == (None, pytest.approx(0.8))
    assert align.by_reference(pairs(), hop=HOP, duration=DURATION) == {}


def test_scores_are_worth_what_they_say_and_similarities_what_they_are_above_the_least():
    rows = pairs((0, 1, 0.25), (1, 2, 0.5), (2, 3, 0.75))
    assert align.worth(rows, threshold=0.5).scores.tolist() == [0.5, 0.75]
    assert align.worth(rows, threshold=None).scores.tolist() == [0.0, 0.25, 0.5]
    assert len(align.worth(pairs(), threshold=None).scores) == 0


def test_consistent_evidence_counts_three_times_as_much_as_scattered_evidence():
    lined, strewn = pairs(*line(0, 10, at=50), track=4), pairs(*[(i, 97 * i % 400, 0.75) for i in range(10)], track=2)
    both = Scored(
        query_indices=np.r_[lined.query_indices, strewn.query_indices],
        segment_ids=np.r_[lined.segment_ids, strewn.segment_ids],
        scores=np.r_[lined.scores, strewn.scores],
    )
    places = align.by_reference(both, hop=HOP, duration=DURATION)
    # Ten query segments of 0.75 on a line: 7.5. Of the scattered ones, 0.75 is the place of the reference and
    # a third of the other 6.75 counts: 3.
    assert align.consistent(both, places) == {4: pytest.approx(7.5), 2: pytest.approx(3.0)}
    assert list(align.consistent(both, places)) == [4, 2]


def test_an_impossible_alignment_is_refused():
    for values in ({"tempo": (1.1, 1.5)}, {"reach": 0}, {"chance": -1}, {"gap": float("nan")}):
        with pytest.raises(ValueError, match="expected"):
            Alignment(**values)

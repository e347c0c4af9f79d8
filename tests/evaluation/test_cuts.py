"""Excerpts of any benchmark: runs of occurrences, the truth in an excerpt's own time, files."""

import numpy as np
import pytest
import soundfile

from evaluation import cuts
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.results import full_query
from reranker.rank import Occurrence


def occurrence(start, end, first=10.0, last=None, tempo_ratio=1.0):
    last = first + (end - start) if last is None else last
    return Occurrence(query_span=(start, end), reference_span=(first, last), tempo_ratio=tempo_ratio)


def sampled(*occurrences, sample_id="S001", reference="T002"):
    return Sampled(sample_id=sample_id, reference=reference, occurrences=occurrences)


@pytest.fixture
def benchmark(tmp_path):
    """``benchmark(*sampled, seconds=20)``: one query, a ramp from 0 to 1, so that a sample's value tells its time."""

    def make(*samples, seconds=20, alias=frozenset()):
        path = tmp_path / "Q001.wav"
        ramp = np.arange(seconds * cuts.SAMPLE_RATE) / (seconds * cuts.SAMPLE_RATE)
        soundfile.write(path, ramp, cuts.SAMPLE_RATE, subtype="FLOAT")
        query = Query(id="Q001", path=path, sampled=samples, aliases=alias)
        references = {s.reference: path for s in samples}
        return Benchmark(name="own", references=references, distractors={}, queries=(query,))

    return make


def test_occurrences_without_a_gap_are_one_run_and_long_runs_are_cut_from_their_start(benchmark, tmp_path):
    # Loops 2-5, 5.2-8 (a gap of 0.2 s) and 8.3-10 (0.3 s): runs of 6 s from 2 s on, and of 1.7 s.
    given = benchmark(sampled(occurrence(2, 5), occurrence(5.2, 8), occurrence(8.3, 10)), seconds=20)
    excerpts = cuts.excerpts(given, tmp_path / "cache", lengths=(5.0, 6.0, 7.0))
    assert [(e.id, e.excerpt) for e in excerpts] == [("Q001-S001-001-5s", 5.0), ("Q001-S001-001-6s", 6.0)]
    wave, rate = soundfile.read(excerpts[0].path)
    assert (len(wave), rate) == (5 * cuts.SAMPLE_RATE, cuts.SAMPLE_RATE)
    assert (wave[0], wave[-1]) == pytest.approx((2 / 20, 7 / 20), abs=1e-4)
    assert full_query(excerpts[0], given) == "Q001"


def test_places_are_told_in_the_time_of_the_excerpt(benchmark, tmp_path):
    # 5 s from 2 s on hold the whole first loop (2-5) and 5.2-7 of the second (5.2-8): 1.8 s of 2.8, so of the
    # reference 10-12.8 the part 10-11.8.
    given = benchmark(sampled(occurrence(2, 5), occurrence(5.2, 8), occurrence(15, 17)), alias=frozenset({"T009"}))
    (excerpt,) = cuts.excerpts(given, tmp_path / "cache", lengths=(5.0,))
    first, second = excerpt.sampled[0].occurrences
    assert (first.query_span, first.reference_span) == ((0, 3), (10, 13))
    assert second.query_span == pytest.approx((3.2, 5.0))
    assert second.reference_span == pytest.approx((10.0, 11.8))
    assert excerpt.aliases == {"T009"}


def test_trimmed_at_its_start_an_occurrence_reuses_the_later_part_of_the_reference():
    # 4 of 6 s, at 1.5 times the tempo: the reference's 9 s from 10 on lose a third in front.
    moved = cuts.shifted(sampled(occurrence(0, 6, 10, 19, tempo_ratio=1.5)), 2.0, 8.0).occurrences[0]
    assert moved.query_span == (0.0, 4.0)
    assert moved.reference_span == pytest.approx((13.0, 19.0))


def test_any_part_of_a_looped_reference_may_sound():
    # 12 s of the query reuse 3 s of the reference: four loops. Wherever it is cut, all of the 3 s may sound.
    moved = cuts.shifted(sampled(occurrence(0, 12, 10, 13)), 7.0, 5.0).occurrences[0]
    assert (moved.query_span, moved.reference_span) == ((0.0, 5.0), (10.0, 13.0))


def test_another_sample_is_true_of_the_excerpt_where_it_sounds_for_a_second(benchmark, tmp_path):
    main = sampled(occurrence(2, 8))
    with_it = sampled(occurrence(5.9, 12), sample_id="S002", reference="T003")  # 1.1 s inside 2-7
    hardly = sampled(occurrence(6.1, 7.2, 0), sample_id="S003", reference="T004")  # 0.9 s inside
    excerpts = cuts.excerpts(benchmark(main, with_it, hardly), tmp_path / "cache", lengths=(5.0,))
    assert [[s.reference for s in e.sampled] for e in excerpts] == [["T002", "T003"], ["T003", "T002", "T004"]]


def test_a_file_that_ends_before_the_excerpt_is_told(benchmark, tmp_path):
    given = benchmark(sampled(occurrence(2, 9)), seconds=5)
    with pytest.raises(ValueError, match=r"Q001\.wav: lasts 5\.0 s, but Q001-S001-001-7s goes from 2\.0 to 9\.0 s"):
        cuts.excerpts(given, tmp_path / "cache", lengths=(7.0,))
    assert not list((tmp_path / "cache").glob("*/cuts.json"))


def test_no_excerpts_are_an_empty_result(benchmark, tmp_path):
    assert cuts.excerpts(benchmark(sampled(occurrence(2, 4))), tmp_path / "cache", lengths=(5.0,)) == ()
    assert not (tmp_path / "cache").exists()


def test_excerpts_of_other_lengths_leave_those_of_before_as_they_are(benchmark, tmp_path):
    given = benchmark(sampled(occurrence(2, 9)))

    def written(*lengths):
        return [(one.path, one.path.stat().st_mtime_ns) for one in cuts.excerpts(given, tmp_path, lengths=lengths)]

    before = written(5.0, 7.0)
    assert len(before) == 2
    assert (written(5.0), written()) != (before, before)
    assert written(5.0, 7.0) == before


def test_progress_is_told_by_source(benchmark, tmp_path):
    told = []
    given = benchmark(sampled(occurrence(2, 9)))
    cuts.excerpts(given, tmp_path / "cache", lengths=(5.0, 7.0), progress=lambda *done: told.append(done))
    assert told == [("Q001", 1, 1)]


@pytest.mark.parametrize(("start", "seconds"), [(-1.0, 5.0), (0.0, 0.2)])
def test_impossible_cuts_are_refused(start, seconds, tmp_path):
    with pytest.raises(ValueError, match="expected a start from 0 on and at least 0.5 s"):
        cuts.Cut(id="Q", query=Query(id="Q", path=tmp_path), start=start, seconds=seconds, sampled=())

"""Sequences of segments: the diagonal on which query and reference agree, and the offset between segments."""

from types import SimpleNamespace

import numpy as np
import pytest

from encoder.encoding import Encoding
from reranker import sequence
from reranker.sequence import SequenceRanker
from store.candidates import Candidates
from store.catalogue import Track
from store.segment_ids import index_of, segment_id, track_of

HOP = 0.5  # seconds, of the references


class FakeReferences:
    """Fingerprints (segments, dimensions) of tracks by number."""

    identity = SimpleNamespace(hop=HOP)

    def __init__(self, **tracks):
        self.kept = {int(name[1:]): values for name, values in tracks.items()}

    def fingerprints(self, ids):
        size = next(iter(self.kept.values())).shape[1]
        found = np.zeros((len(ids), size), np.float32)
        for row, (number, index) in enumerate(zip(track_of(ids), index_of(ids))):
            if index < len(self.kept[number]):
                found[row] = self.kept[number][index]
        return found

    def tracks(self, numbers):
        facts = {name: None for name in Track.__dataclass_fields__}
        return {n: Track(**facts | {"number": n, "duration": (len(self.kept[n]) + 1) * HOP}) for n in numbers}

    def candidates(self, query, limit):
        """The best of all segments for each query segment."""
        ids = np.concatenate([segment_id(n, np.arange(len(kept))) for n, kept in self.kept.items()])
        similarities = query.fingerprints @ self.fingerprints(ids).T
        best = np.argsort(-similarities, axis=1)[:, :limit]
        rows = np.repeat(np.arange(len(query)), limit)
        return Candidates(
            query_rows=rows,
            segment_ids=ids[best.ravel()],
            similarities=np.take_along_axis(similarities, best, 1).ravel().astype(np.float32),
        )


def path(seed, seconds, hop, *, start=0.0, smooth=0.5):
    """Fingerprints (segments, 128) whose similarity falls with the time between them, to 0.6 over `smooth` seconds."""
    rng = np.random.default_rng(seed)
    speeds, phases = rng.standard_normal(64) / smooth, rng.uniform(0, 2 * np.pi, 64)
    angles = (start + np.arange(round(seconds / hop)) * hop)[:, None] * speeds + phases
    return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / 8).astype(np.float32)


def encoding(fingerprints, *, hop=HOP, indices=None):
    return Encoding(
        segment_indices=np.arange(len(fingerprints)) if indices is None else np.array(indices),
        fingerprints=fingerprints,
        node_matrices=np.zeros((len(fingerprints), 1, 1), np.float16),
        hop=hop,
        segment_duration=1.0,
    )


def ranked(query, references, *, limit=5, **settings):
    return SequenceRanker(**settings)(query, references.candidates(query, limit), references)


def offset_of(match):
    (occurrence,) = match.occurrences
    return occurrence.reference_span[0] - occurrence.query_span[0]


def test_the_reference_and_the_offset_of_an_excerpt_are_found():
    references = FakeReferences(t1=path(1, 60, HOP), t2=path(2, 60, HOP), t3=path(3, 60, HOP))
    found = ranked(encoding(path(2, 5, HOP, start=20.0)), references)
    assert found[0].reference.number == 2
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert offset_of(found[0]) == pytest.approx(20.0, abs=0.02)
    (occurrence,) = found[0].occurrences
    assert occurrence.query_span == (0.0, 5.5)  # ten segments of 1 s every 0.5 s
    assert (occurrence.tempo_ratio, occurrence.transposition) == (1.0, 0.0)
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)


def test_a_query_between_two_segments_is_placed_between_them():
    references = FakeReferences(t1=path(1, 60, HOP, smooth=1.0), t2=path(2, 60, HOP, smooth=1.0))
    for between in (0.1, 0.2, 0.3, 0.4):
        found = ranked(encoding(path(1, 8, HOP, start=20 + between, smooth=1.0)), references)
        assert offset_of(found[0]) == pytest.approx(20 + between, abs=0.02)


def test_a_finer_query_finds_offsets_on_its_own_grid():
    references = FakeReferences(t1=path(1, 60, HOP), t2=path(2, 60, HOP))
    query = encoding(path(1, 6, HOP / 4, start=20 + 3 * HOP / 4), hop=HOP / 4)
    found = ranked(query, references)
    assert found[0].reference.number == 1
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert offset_of(found[0]) == pytest.approx(20.375, abs=0.01)


def test_one_query_segment_is_enough_for_a_place_between_segments_of_the_reference():
    references = FakeReferences(t1=path(1, 60, HOP, smooth=1.0), t2=path(2, 60, HOP, smooth=1.0))
    found = ranked(encoding(path(2, HOP / 4, HOP / 4, start=31.2, smooth=1.0), hop=HOP / 4), references)
    assert found[0].reference.number == 2
    assert offset_of(found[0]) == pytest.approx(31.2, abs=0.1)  # the nearest segment is 0.2 s away


def test_similarity_decides_which_diagonal_is_scored_not_the_number_of_candidates():
    query = encoding(path(1, 2, HOP))
    candidates = Candidates(  # of each of 4 query segments: one far above the rest, two hardly above them, and the rest
        query_rows=np.repeat(np.arange(4), 4),
        segment_ids=np.concatenate([segment_id([1, 2, 2, 3], [i, i + 5, i + 6 - i % 2, 40 * i]) for i in range(4)]),
        similarities=np.tile(np.array([0.9, 0.42, 0.41, 0.4], np.float32), 4),
    )
    best = sequence.most_voted(query, candidates, ratio=1, size=1)
    assert (best.tracks.tolist(), best.offsets.tolist()) == ([1], [0])


def test_segments_in_a_row_count_for_more_than_a_single_better_one():
    rng = np.random.default_rng(0)
    query = path(1, 5, HOP)
    noisy = query + 0.06 * rng.standard_normal(query.shape).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    other = path(5, 30, HOP)
    other[7] = query[3]  # a perfect single segment elsewhere
    found = ranked(encoding(query), FakeReferences(t1=np.concatenate([path(6, 4, HOP), noisy]), t2=other))
    assert found[0].reference.number == 1
    assert offset_of(found[0]) == pytest.approx(4.0, abs=0.1)


def test_the_score_is_the_mean_over_all_query_segments_and_what_lies_outside_the_reference_counts_nothing():
    whole = path(1, 10, HOP)
    references = FakeReferences(t1=whole[:15])  # ends 5 segments before the query does
    found = ranked(encoding(whole[10:]), references)
    assert found[0].score == pytest.approx(0.5, abs=0.05)
    assert found[0].occurrences[0].reference_span == pytest.approx((5.0, 8.0), abs=0.05)  # its end, not the query's
    assert found[0].occurrences[0].query_span == pytest.approx((0.0, 3.0), abs=0.05)
    head = ranked(encoding(whole[:10]), FakeReferences(t1=whole[4:]))[0]
    assert offset_of(head) == pytest.approx(-2.0, abs=0.05)
    assert head.occurrences[0].reference_span[0] == pytest.approx(0.0, abs=1e-9)


def test_gaps_of_silence_in_the_query_do_not_shift_it():
    references = FakeReferences(t1=path(1, 60, HOP), t2=path(2, 60, HOP))
    kept = [0, 1, 5, 6, 9]
    found = ranked(encoding(path(1, 5, HOP, start=12.0)[kept], indices=kept), references)
    assert offset_of(found[0]) == pytest.approx(12.0, abs=0.02)
    assert found[0].score == pytest.approx(1, abs=1e-5)


def test_what_is_reckoned_at_once_changes_nothing_but_memory(monkeypatch):
    references = FakeReferences(t1=path(1, 60, HOP), t2=path(2, 60, HOP))
    query = encoding(path(1, 6, HOP / 4, start=20.0), hop=HOP / 4)
    candidates, asked = references.candidates(query, 5), []
    at_once = SequenceRanker()(query, candidates, references)
    found = references.fingerprints
    monkeypatch.setattr(references, "fingerprints", lambda ids: (asked.append(len(ids)), found(ids))[1])
    monkeypatch.setattr(sequence, "_HELD", 1)
    assert SequenceRanker()(query, candidates, references) == at_once
    assert max(asked) <= len(query)  # one diagonal


def test_silence_and_no_candidates_are_no_match():
    references = FakeReferences(t1=path(1, 10, HOP))
    empty = encoding(np.zeros((0, 128), np.float32))
    none = Candidates(query_rows=np.zeros(0, int), segment_ids=np.zeros(0, int), similarities=np.zeros(0, np.float32))
    assert SequenceRanker()(empty, none, references) == ()


def test_a_hop_that_does_not_divide_the_references_is_refused():
    assert sequence.finer(0.128, 0.512) == 4
    for query_hop in (0.2, 1.0):
        with pytest.raises(ValueError, match="expected a whole number of the former in the latter"):
            sequence.finer(query_hop, HOP)
    with pytest.raises(ValueError, match="diagonals is 0, expected 1 or more"):
        SequenceRanker(diagonals=0)


def test_the_vertex_of_a_parabola_by_hand():
    # y = 1 - (x - 0.25)^2 at -1, 0, 1
    assert sequence.vertex([1 - 1.25**2, 1 - 0.25**2, 1 - 0.75**2]) == pytest.approx(0.25)
    assert sequence.vertex([0.0, 1.0, 1.0]) == pytest.approx(0.5)
    assert sequence.vertex([1.0, 0.0, 1.0]) == 0  # a valley
    assert sequence.vertex([np.nan, 1.0, 0.5]) == 0

"""Short list: what each window is correlated with, all references or stretches of the likeliest ones."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from reranker import shortlist
from reranker.correlate import Correlation, Correlator
from reranker.rank import Ranking, Scored, by_best
from reranker.search import Searcher
from store.segment_ids import segment_id

RATE = 16_000
SHORT = Ranking(shortlist=2, effort=1.0, local=1.0)  # no time for all of more than two references
FEW = Correlation(finest=2)


def test_the_references_with_the_best_single_candidates_come_first_each_with_that_candidate():
    ids = segment_id(np.array([1, 1, 2, 3]), np.array([0, 5, 0, 9]))
    scored = Scored(
        query_indices=np.zeros(4, np.int64), segment_ids=ids, scores=np.array([0.5, 0.9, 0.8, 0.9], np.float32)
    )
    assert list(by_best(scored).items()) == [(1, ids[1]), (3, ids[3]), (2, ids[2])]  # 0.9 and 0.9, by number


@pytest.fixture(scope="module")
def sampled(songs, music, tmp_path_factory):
    """Encoder, store of five songs of a minute, and a query that has ten seconds of song 3, from 40 s on, at 5 s."""
    folder = tmp_path_factory.mktemp("songs")
    encoder, store = songs(folder, count=5, seconds=60)
    query = 0.5 * music(9, 20)
    query[5 * RATE : 15 * RATE] += music(3, 60)[40 * RATE : 50 * RATE]
    soundfile.write(folder / "query.wav", 0.5 * query, RATE)
    return encoder, store, folder / "query.wav"


def parts(sampled, ranking, correlation, exclude=()):
    encoder, store, path = sampled
    query = encoder.encode(path)
    cut = [slice(0, len(query.contrast))]
    return list(shortlist.parts(query, cut, store, ranking, correlation, exclude=exclude))


def test_all_references_are_compared_whole_where_there_is_time_or_they_are_few(sampled):
    numbers = sorted(track.number for track in sampled[1].catalogue.tracks("stored"))
    for ranking, exclude in ((Ranking(), ()), (Ranking(shortlist=5, effort=1.0), ()), (SHORT, numbers[:3])):
        (part,) = parts(sampled, ranking, FEW, exclude)
        assert part.whole
        assert sorted(part.features) == [number for number in numbers if number not in exclude]
        assert all(len(features) * 0.064 > 59 for features in part.features.values())


def test_else_stretches_around_the_best_patches_as_many_as_there_is_time_for(sampled):
    encoder, store, _ = sampled
    (part,) = parts(sampled, SHORT, FEW)
    true = next(track.number for track in store.catalogue.tracks("stored") if track.title == "song 3")
    assert not part.whole
    assert len(part.features) == FEW.finest
    assert true in part.features
    whole = store.features([true])[true]
    length = len(part.features[true])
    assert length == pytest.approx(Ranking.stretch / 0.064, abs=8)
    begin = next(at for at in range(len(whole)) if np.array_equal(whole[at : at + length], part.features[true]))
    assert begin * 0.064 < 42
    assert (begin + length) * 0.064 > 48
    (more,) = parts(sampled, replace(SHORT, local=20 * 24.5 * 3), FEW)  # time for three stretches of 24 s and a little
    assert len(more.features) == 3


def test_with_patience_stretches_of_all_that_the_candidates_references_hold_and_twice_as_many(sampled):
    encoder, store, _ = sampled
    best = replace(SHORT, quality="best", local=20 * 24.5 * 1.5)
    (part,) = parts(sampled, best, FEW)
    assert not part.whole
    assert len(part.features) == 3
    true = next(track.number for track in store.catalogue.tracks("stored") if track.title == "song 3")
    assert next(iter(part.features)) == true  # as correlation has it, not similarity
    whole, found = store.features([true])[true], part.features[true]
    assert len(found) == round(Ranking.stretch / 0.064)
    begin = next(at for at in range(len(whole)) if np.array_equal(whole[at : at + len(found)], found))
    assert begin * 0.064 < 41
    assert (begin + len(found)) * 0.064 > 49
    (hurried,) = parts(sampled, replace(best, rough=20 * 61.0), FEW)  # time to look through one reference
    assert len(hurried.features) == 1


def test_what_is_found_in_a_stretch_has_its_places_in_the_whole_reference(sampled):
    encoder, store, path = sampled
    searcher = Searcher(encoder, store, None, SHORT, correlator=Correlator(Correlation(finest=3)))
    best = searcher(path).matches[0]
    assert best.reference.title == "song 3"
    assert best.longest.query_span == pytest.approx((5, 15), abs=1)
    assert best.longest.reference_span == pytest.approx((40, 50), abs=1)


def test_few_segments_of_a_query_ask_for_many_candidates(sampled, monkeypatch):
    encoder, store, path = sampled
    asked, candidates = [], store.candidates

    def asking(fingerprints, **how):
        asked.append((len(fingerprints), how))
        return candidates(fingerprints, **how)

    monkeypatch.setattr(store, "candidates", asking)
    parts(sampled, replace(SHORT, every=4, listing=100), FEW)
    rows = -(-len(encoder.encode(path)) // 4)
    assert asked == [(rows, {"limit": 100 // rows, "exclude_tracks": (), "exact": False})]


def test_a_window_of_silence_is_compared_with_nothing(sampled, tmp_path):
    encoder, store, path = sampled
    wave, _ = soundfile.read(path, dtype="float32")
    soundfile.write(tmp_path / "half silent.wav", np.concatenate([wave, np.zeros(40 * RATE, np.float32)]), RATE)
    query = encoder.encode(tmp_path / "half silent.wav")
    half = len(query.contrast) // 2
    cut = [slice(0, half), slice(half, 2 * half)]
    first, second = shortlist.parts(query, cut, store, SHORT, FEW)
    assert len(first.features) == 2
    assert second.features == {}
    searcher = Searcher(encoder, store, None, SHORT, correlator=Correlator(FEW))
    assert searcher(tmp_path / "half silent.wav").matches[0].reference.title == "song 3"

"""Patches: of the candidates of a query segment the one that is truly sampled stands out."""

import numpy as np
import pytest

from encoder.encoding import Encoding
from reranker import patches
from reranker.correlate import Correlation
from reranker.rank import Scored
from store.segment_ids import segment_id, track_of


def candidates(query, track, place, score):
    ids = segment_id(np.array(track), np.array(place))
    return Scored(query_indices=np.array(query), segment_ids=ids, scores=np.array(score, np.float32))


def test_candidates_near_to_each_other_are_one_and_the_most_similar_stays():
    given = candidates([0, 0, 0, 0, 4], [1, 1, 1, 2, 1], [10, 12, 30, 11, 13], [0.5, 0.7, 0.6, 0.1, 0.2])
    kept = patches.distinct(given, hops=12)
    assert sorted(zip(kept.query_indices.tolist(), kept.segment_ids.tolist(), strict=True)) == [
        (0, segment_id(1, 12)),  # 0.7 in place of 0.5, two hops away
        (0, segment_id(1, 30)),
        (0, segment_id(2, 11)),  # another track
        (4, segment_id(1, 13)),  # another query segment
    ]
    assert len(patches.distinct(candidates([], [], [], []), hops=12).scores) == 0


def test_the_place_that_is_sampled_scores_highest_whatever_its_similarity(songs, music, tmp_path):
    encoder, store = songs(tmp_path, count=4, seconds=40)
    numbers = sorted(track.number for track in store.catalogue.tracks("stored"))
    query = 0.5 * music(9, 24)
    query[8 * 16_000 : 16 * 16_000] += music(2, 40)[20 * 16_000 : 28 * 16_000]
    heard, hop = encoder.encode_waveform(query), encoder.grid.hop
    at = round(10 / hop)
    places = [round(seconds / hop) for seconds in (6, 22, 34)]
    pairs = [(number, place) for number in numbers for place in places]
    given = candidates([at] * len(pairs), *zip(*pairs, strict=True), np.linspace(1, 0.5, len(pairs)))
    scored = patches.scored(heard, given, store, Correlation())
    best = scored.segment_ids[np.argmax(scored.scores)]
    assert (track_of(best), best & 0xFFFF) == (numbers[2], places[1])
    assert np.sort(scored.scores)[-1] > 3 * np.sort(scored.scores)[-2]
    assert set(scored.segment_ids.tolist()) == set(given.segment_ids.tolist())


def test_what_a_short_query_is_padded_with_is_not_compared(songs, tmp_path):
    encoder, _ = songs(tmp_path, count=1, seconds=12)
    rng = np.random.default_rng(0)
    heard = encoder.encode_waveform(rng.normal(0, 0.1, 2 * 16_000).astype(np.float32))
    asked = patches._around(heard, 0, piece=16)
    assert len(heard.features) * Correlation().contrast.seconds > 3.5  # a segment
    assert np.array_equal(asked, heard.features[: 2 * 16])  # 2 s are two pieces


@pytest.mark.parametrize("hops", [0, 1])
def test_a_query_too_short_for_a_piece_reaches_nothing(songs, tmp_path, hops):
    encoder, store = songs(tmp_path, count=2, seconds=12)
    numbers = [track.number for track in store.catalogue.tracks("stored")]
    silent = np.zeros(0, np.int64)
    query = Encoding(
        segment_indices=silent,
        fingerprints=np.zeros((0, encoder.dimensions), np.float32),
        node_matrices=np.zeros((0, encoder.nodes, encoder.channels), np.float16),
        hop=encoder.grid.hop,
        segment_duration=encoder.grid.duration,
        contrast=np.zeros((hops, *encoder.contrast), np.uint8),
    )
    scored = patches.scored(query, candidates([0, 0], numbers, [3, 4], [0.5, 0.6]), store, Correlation())
    assert scored.scores.tolist() == [0, 0]

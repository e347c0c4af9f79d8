"""The contract that every store keeps: in memory, Milvus Lite with Zarr, a Milvus server with Zarr."""

import dataclasses

import numpy as np
import pytest

from encoder.encoding import Encoding
from store.identity import Identity
from store.memory import MemoryReferences
from store.references import MissingNodeMatrix
from store.segment_ids import index_of, segment_id, track_of


def add_all(references, paths, blocks_of):
    """Plan the files and add each with its blocks; tracks in the order of the files."""
    pending = references.plan(paths).pending
    return [
        references.add(one, blocks, duration=10.0, title=one.path.stem, artist="somebody")
        for one, blocks in zip(pending, blocks_of, strict=True)
    ]


def test_every_segment_of_a_track_is_found_back_with_its_node_matrix(references, files, encode):
    blocks = [encode(seed, range(5)) for seed in (1, 2)]
    tracks = add_all(references, files(2), [[block] for block in blocks])
    found = references.candidates(blocks[1].fingerprints, limit=1)
    assert found.query_rows.tolist() == [0, 1, 2, 3, 4]
    assert found.segment_ids.tolist() == segment_id(tracks[1].number, range(5)).tolist()
    np.testing.assert_allclose(found.similarities, 1.0, atol=1e-5)
    np.testing.assert_array_equal(references.node_matrices(found.segment_ids), blocks[1].node_matrices)


def test_a_stored_track_tells_what_it_is(references, files, encode):
    paths = files(1)
    (track,) = add_all(references, paths, [[encode(1, [0, 1, 4])]])
    assert (track.path, track.title, track.artist, track.state) == (paths[0], "0", "somebody", "stored")
    assert (track.duration, track.segments, track.rows) == (10.0, 3, 5)  # segments 0, 1 and 4 of a grid of five
    assert references.tracks([track.number]) == {track.number: track}
    assert references.counts().stored == 1
    assert references.counts().segments == 3


def test_candidates_come_by_query_row_then_falling_similarity(references, files, encode):
    add_all(references, files(3), [[encode(seed, range(20))] for seed in (1, 2, 3)])
    queries = encode(9, range(4)).fingerprints
    found = references.candidates(queries, limit=7)
    assert found.query_rows.tolist() == [row for row in range(4) for _ in range(7)]
    everything = np.concatenate([encode(seed, range(20)).fingerprints for seed in (1, 2, 3)])
    best = np.sort(queries @ everything.T, axis=1)[:, ::-1][:, :7]
    # Where the index is quantised, similarities come from the float16 fingerprints in Zarr.
    np.testing.assert_allclose(found.similarities.reshape(4, 7), best, atol=5e-4)


def test_candidates_need_not_be_exact(references, files, encode):
    blocks = [encode(seed, range(20)) for seed in (1, 2, 3)]
    add_all(references, files(3), [[block] for block in blocks])
    found = references.candidates(blocks[0].fingerprints[:1], limit=7, exact=False)
    assert found.segment_ids[0] == segment_id(1, [0])
    assert len(found) == 7
    assert (np.diff(found.similarities) <= 0).all()


def test_fewer_candidates_come_back_only_where_fewer_are_stored(references, files, encode):
    assert len(references.candidates(encode(1, range(2)).fingerprints, limit=5)) == 0
    add_all(references, files(1), [[encode(1, range(3))]])
    assert len(references.candidates(encode(1, range(2)).fingerprints, limit=5)) == 6  # 2 queries, 3 segments
    assert len(references.candidates(np.empty((0, 16), np.float32), limit=5)) == 0


def test_excluded_tracks_do_not_cost_candidates(references, files, encode):
    tracks = add_all(references, files(3), [[encode(seed, range(30))] for seed in (1, 2, 3)])
    queries = encode(1, range(30)).fingerprints
    found = references.candidates(queries, limit=10, exclude_tracks=[tracks[0].number, tracks[2].number])
    assert set(track_of(found.segment_ids).tolist()) == {tracks[1].number}
    assert np.bincount(found.query_rows).tolist() == [10] * 30


def test_adding_a_track_again_replaces_it(references, files, encode):
    (pending,) = references.plan(files(1)).pending
    references.add(pending, [encode(1, range(300))], duration=10.0)
    again = references.add(pending, [encode(2, range(4))], duration=10.0)
    assert (again.number, again.segments) == (pending.number, 4)
    found = references.candidates(encode(2, range(1)).fingerprints, limit=1000)
    assert sorted(index_of(found.segment_ids).tolist()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(references.node_matrices(found.segment_ids[:1]), encode(2, [0]).node_matrices)


def test_a_removed_track_is_gone_from_every_part(references, files, encode):
    gone, kept = add_all(references, files(2), [[encode(1, range(5))], [encode(2, range(5))]])
    assert references.remove(gone.number).state == "removed"
    found = references.candidates(encode(1, range(5)).fingerprints, limit=20)
    assert set(track_of(found.segment_ids).tolist()) == {kept.number}
    with pytest.raises(MissingNodeMatrix, match=f"track {gone.number}"):
        references.node_matrices(segment_id(gone.number, [0]))
    counts = references.counts()
    assert (counts.stored, counts.removed, counts.segments) == (1, 1, 5)
    assert references.require_complete() == 5


def test_a_removed_track_stays_out_until_it_is_asked_for_again(references, files, encode):
    paths = files(1)
    (track,) = add_all(references, paths, [[encode(1, range(5))]])
    references.remove(track.number)
    assert [t.number for t in references.plan(paths).removed] == [track.number]
    (pending,) = references.plan(paths, retry=True).pending
    again = references.add(pending, [encode(1, range(5))], duration=10.0)
    assert (again.number, again.state) == (track.number, "stored")
    assert len(references.candidates(encode(1, range(1)).fingerprints, limit=9)) == 5


def test_a_changed_file_takes_its_old_segments_out_before_it_is_added_again(references, files, encode):
    paths = files(1)
    add_all(references, paths, [[encode(1, range(5))]])
    paths[0].write_bytes(b"another recording")
    (pending,) = references.plan(paths).pending
    assert len(references.candidates(encode(1, range(1)).fingerprints, limit=9)) == 0
    references.add(pending, [encode(2, range(2))], duration=3.0)
    assert len(references.candidates(encode(1, range(1)).fingerprints, limit=9)) == 2


@pytest.mark.parametrize("index", [2, 5, 300])  # silent, behind the end, behind the end of the shard
def test_a_missing_node_matrix_is_named_not_skipped(references, files, encode, index):
    (track,) = add_all(references, files(1), [[encode(1, [0, 1, 3, 4])]])
    with pytest.raises(MissingNodeMatrix, match=rf"1 of 3 node matrices .* segment {index} of track {track.number}"):
        references.node_matrices(segment_id(track.number, [0, index, 4]))
    with pytest.raises(MissingNodeMatrix):
        references.node_matrices(segment_id(track.number + 1, [0]))


def test_node_matrices_come_in_the_order_asked_for_repeats_included(references, files, encode):
    blocks = [encode(1, range(300)), encode(2, range(40))]
    tracks = add_all(references, files(2), [[block] for block in blocks])
    wanted = [(1, 3), (0, 299), (0, 0), (1, 39), (0, 255), (0, 256), (0, 299)]  # 256 rows make a shard
    ids = segment_id([tracks[track].number for track, _ in wanted], [index for _, index in wanted])
    expected = np.stack([blocks[track].node_matrices[index] for track, index in wanted])
    np.testing.assert_array_equal(references.node_matrices(ids), expected)
    assert references.node_matrices(np.empty(0, np.int64)).shape == (0, 3, 4)


def test_a_track_that_is_silent_throughout_is_stored_with_zero_segments(references, files, encode):
    silent, empty, other = add_all(references, files(3), [[encode(1, [])], [], [encode(2, range(3))]])
    assert [(track.state, track.segments) for track in (silent, empty)] == [("stored", 0)] * 2
    assert len(references.candidates(encode(2, range(1)).fingerprints, limit=9)) == 3
    assert references.remove(silent.number).state == "removed"


def test_a_long_track_may_come_in_blocks_that_end_anywhere(references, files, encode):
    # 700 segments in blocks of 300, with silence from 250 to 599: a whole shard (256 to 511) is silent.
    whole = encode(1, [*range(250), *range(600, 700)])
    ends = np.searchsorted(whole.segment_indices, [0, 300, 600, 700])
    blocks = [
        Encoding(
            segment_indices=whole.segment_indices[start:end],
            fingerprints=whole.fingerprints[start:end],
            node_matrices=whole.node_matrices[start:end],
            hop=0.5,
            segment_duration=4.0,
        )
        for start, end in zip(ends, ends[1:])
    ]
    assert [len(block) for block in blocks] == [250, 0, 100]
    track, after = add_all(references, files(2), [blocks, [encode(2, range(3))]])
    assert (track.rows, track.segments) == (700, 350)
    ids = segment_id(track.number, whole.segment_indices)
    np.testing.assert_array_equal(references.node_matrices(ids), whole.node_matrices)
    np.testing.assert_array_equal(
        references.node_matrices(segment_id(after.number, range(3))), encode(2, range(3)).node_matrices
    )


def test_a_file_that_breaks_off_while_it_is_encoded_leaves_nothing_behind(references, files, encode):
    def breaks_off():
        yield encode(1, range(300))
        raise OSError("truncated")

    first, second = references.plan(files(2)).pending
    with pytest.raises(OSError, match="truncated"):
        references.add(first, breaks_off(), duration=1.0)
    references.failed(first.number, "truncated")
    references.add(second, [encode(2, range(3))], duration=1.0)
    assert len(references.candidates(encode(1, range(1)).fingerprints, limit=9)) == 3
    assert references.tracks([first.number])[first.number].reason == "truncated"


def test_a_file_that_was_out_of_reach_is_tried_again_and_one_that_is_broken_is_not(references, files):
    paths = files(2)
    broken, away = references.plan(paths).pending
    references.failed(broken.number, "truncated")
    references.failed(away.number, "no such file", seen=False)
    found = references.plan(paths)
    assert [one.number for one in found.pending] == [away.number]
    assert [track.number for track in found.failed] == [broken.number]


def test_rebuilding_fills_the_index_from_the_node_store(references, files, encode):
    kept, gone = add_all(references, files(2), [[encode(1, [0, 2, 300])], [encode(2, range(5))]])
    references.remove(gone.number)
    references._fingerprints.delete(segment_id(kept.number, [0]).tolist())
    assert references.rebuild() == 3
    found = references.candidates(encode(1, [0, 2, 300]).fingerprints, limit=1)
    assert index_of(found.segment_ids).tolist() == [0, 2, 300]
    np.testing.assert_allclose(found.similarities, 1.0, atol=1e-3)  # float16 fingerprints


@pytest.mark.parametrize("limit", [0, 16_385])
def test_a_limit_beyond_what_milvus_answers_is_refused(references, encode, limit):
    with pytest.raises(ValueError, match=f"limit must lie in 1..16384, got {limit}"):
        references.candidates(encode(1, [0]).fingerprints, limit=limit)


def test_queries_of_another_shape_or_with_nan_are_refused(references):
    with pytest.raises(ValueError, match=r"\(queries, 16\), got \(2, 8\)"):
        references.candidates(np.ones((2, 8), np.float32), limit=1)
    with pytest.raises(ValueError, match="NaN"):
        references.candidates(np.full((2, 16), np.nan, np.float32), limit=1)


def wrong_blocks(encode):
    block = encode(1, range(3))

    def change(**values):
        return dataclasses.replace(block, **values)

    return {  # what the error says -> the blocks that cause it
        "node_matrices must be": [change(node_matrices=np.ones((3, 3, 5), np.float16))],
        "do not belong to a catalogue": [change(hop=1.0)],
        "must rise": [block, block],
        "65535": [change(segment_indices=np.array([0, 1, 65_536]))],
        "node_matrices of segment 0 are all zero": [change(node_matrices=np.zeros((3, 3, 4), np.float16))],
        "fingerprints of segment 0 are all zero or not": [change(fingerprints=np.full((3, 16), np.nan, np.float32))],
        "must have length 1": [change(fingerprints=2 * block.fingerprints)],
    }


def test_a_block_that_does_not_fit_is_refused_and_nothing_is_stored(references, files, encode):
    (pending,) = references.plan(files(1)).pending
    for message, blocks in wrong_blocks(encode).items():
        with pytest.raises(ValueError, match=message):
            references.add(pending, blocks, duration=1.0)
    assert references.tracks([pending.number])[pending.number].state == "pending"
    assert len(references.candidates(encode(1, range(1)).fingerprints, limit=9)) == 0


def test_sizes_are_told_for_each_part(references, files, encode):
    add_all(references, files(1), [[encode(1, range(3))]])
    sizes = references.sizes()
    assert sizes.node_matrices >= 3 * 3 * 4 * 2  # 3 segments of 3 x 4 values of 2 bytes
    assert sizes.fingerprints > 0
    assert sizes.index is None or sizes.index > 0


def test_an_encoder_without_contrast_features_has_none_to_give(references, files, encode):
    (track,) = add_all(references, files(1), [[encode(1, range(3))]])
    assert references.features([track.number]) == {}


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_stretches_of_tracks_lie_inside_them_and_short_ones_end_in_silence(
    kind, open_references, shapes, files, encode
):
    if kind == "memory":
        references = MemoryReferences(Identity(digest="0123456789abcdef", **shapes, contrast_frames=2, semitones=5))
    else:
        references = open_references(contrast_frames=2, semitones=5)
    rows = np.random.default_rng(0).integers(1, 255, (40, 2, 5)).astype(np.uint8)
    blocks = [dataclasses.replace(encode(1, range(n)), contrast=rows[:n]) for n in (40, 6)]
    long, short = (track.number for track in add_all(references, files(2), [[block] for block in blocks]))
    found = references.stretches([long, short, long, long], [7, 2, -3, 38], hops=10).reshape(4, 10, 2, 5)
    assert (found[0] == rows[7:17]).all()
    assert (found[1, :6] == rows[:6]).all()
    assert not found[1, 6:].any()
    assert (found[2] == rows[:10]).all()
    assert (found[3] == rows[30:]).all()
    assert references.stretches([], [], hops=10).shape == (0, 20, 5)
    references._nodes.clear(long)
    with pytest.raises(MissingNodeMatrix, match=f"track {long} .* has no contrast features"):
        references.stretches([short, long], [0, 5], hops=3)

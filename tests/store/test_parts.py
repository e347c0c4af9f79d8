"""Ids, shards, settings and identity, each by itself."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from store.fingerprints import IndexSettings
from store.identity import Identity, IndexMismatch
from store.nodes import CHUNK_ROWS, SHARD_ROWS, Nodes
from store.segment_ids import index_of, segment_id, track_of

IDENTITY = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)


def test_an_id_tells_track_and_index():
    assert segment_id(3, 5) == 196_613  # 3 * 65,536 + 5
    ids = segment_id([1, 2, 2**46], [0, 65_535, 7])
    assert track_of(ids).tolist() == [1, 2, 2**46]
    assert index_of(ids).tolist() == [0, 65_535, 7]


@pytest.mark.parametrize(("track", "index"), [(1, 65_536), (1, -1), (2**47, 0), (-1, 0)])
def test_a_number_that_does_not_fit_into_an_id_is_refused(track, index):
    with pytest.raises(ValueError, match="lies outside 0..") as error:
        segment_id([1, track], [0, index])
    assert ("9 hours" in str(error.value)) == (index == 65_536 or index == -1)


def test_rows_are_read_as_zarr_reads_them(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    whole = encode(1, [*range(3), *range(100, 400)])
    nodes.write(2 * SHARD_ROWS, [whole])
    array = zarr.open_array(tmp_path / IDENTITY.short / "node_matrices", mode="r")
    # Shards 0 and 1 were never written; 3 to 99 are silent and leave whole chunks absent.
    rows = np.array([0, 512, 515, 600, 612, 767, 768, 911, 530, 612])
    np.testing.assert_array_equal(nodes.node_matrices(rows), array.oindex[rows])
    assert nodes.node_matrices([10_000]).any() == False  # noqa: E712  behind the end of the array


def test_silent_chunks_and_shards_take_no_space(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    nodes.write(0, [encode(1, [0, 3 * SHARD_ROWS])])
    shards = {folder.name for folder in (tmp_path / IDENTITY.short / "node_matrices" / "c").iterdir()}
    assert shards == {"0", "3"}
    row_bytes, index_bytes = 3 * 4 * 2, 16 * SHARD_ROWS // CHUNK_ROWS + 4
    assert (tmp_path / IDENTITY.short / "node_matrices/c/0/0/0").stat().st_size == CHUNK_ROWS * row_bytes + index_bytes


def test_a_track_starts_behind_the_last_shard_of_the_one_before(tmp_path):
    nodes = Nodes.open(tmp_path, IDENTITY)
    assert [nodes.after(end) for end in (0, 1, 256, 257)] == [0, 256, 256, 512]


def test_a_shard_written_again_forgets_what_was_there(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    nodes.write(0, [encode(1, range(600))])
    nodes.write(0, [encode(2, range(2))])
    assert nodes.node_matrices(range(2)).any(axis=(1, 2)).all()
    assert not nodes.node_matrices(range(2, 256)).any()


def test_fingerprints_come_back_normalised_without_silent_segments(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    nodes.write(0, [encode(1, [1, 2, 7])])
    kept = nodes.fingerprints(0, 8)
    assert kept.segment_indices.tolist() == [1, 2, 7]
    np.testing.assert_allclose(np.linalg.norm(kept.fingerprints, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(kept.fingerprints, encode(1, [1, 2, 7]).fingerprints, atol=1e-3)


def test_memory_stays_bounded_by_a_shard_however_long_the_track(tmp_path, encode, monkeypatch):
    nodes, heights = Nodes.open(tmp_path, IDENTITY), []
    monkeypatch.setattr(nodes, "write_shard", lambda row, matrices, *_: heights.append((row, len(matrices))))
    nodes.write(512, (encode(1, range(start, start + 100)) for start in range(0, 1000, 100)))
    assert heights == [(512, 256), (768, 256), (1024, 256), (1280, 256)]


def test_zarr_made_by_another_encoder_is_refused(tmp_path):
    Nodes.open(tmp_path, IDENTITY)
    other = Identity(digest=IDENTITY.digest, nodes=5, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
    with pytest.raises(IndexMismatch, match="nodes 3, this encoder has nodes 5"):
        Nodes.open(tmp_path, other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "GPU_CAGRA"}, "'GPU_CAGRA' is unknown"),
        ({"nlist": 0}, "nlist must lie in 1..65536, got 0"),
        ({"nbits": 9}, "nbits must lie in 4..8, got 9"),
        ({"nlist": 16, "nprobe": 20}, "nprobe must lie in 1..16, got 20"),
        ({"timeout": 0}, "timeout must be a whole number of seconds, 1 or more, got 0"),
        ({"timeout": 2.5}, "timeout must be a whole number of seconds, 1 or more, got 2.5"),
    ],
)
def test_impossible_index_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        IndexSettings(**values)


def test_product_quantisation_needs_subvectors_that_divide_the_fingerprint():
    assert IndexSettings(kind="IVF_PQ").build(128) == {"nlist": 1024, "m": 64, "nbits": 8}
    with pytest.raises(ValueError, match="m=64 does not divide the 100 dimensions"):
        IndexSettings(kind="IVF_PQ").build(100)


def test_a_short_digest_is_refused():
    with pytest.raises(ValueError, match="'abc' has fewer than 12 characters"):
        Identity(digest="abc", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)


def test_the_store_never_imports_torch():
    code = "import sys, store.memory; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_contrast_features_of_blocks_become_one_track_with_its_end_behind_the_last_segment(tmp_path, encode):
    identity = replace(IDENTITY, contrast_frames=2, semitones=5)
    nodes = Nodes.open(tmp_path, identity)
    rows = np.random.default_rng(0).integers(1, 255, (300, 2, 5)).astype(np.uint8)
    first = replace(encode(1, range(200)), contrast=rows[:200], first_hop=0)
    last = replace(encode(1, range(200, 293)), contrast=rows[200:], first_hop=200)  # 7 hops more than segments
    written = nodes.write(512, [first, last])
    assert written.rows == 300
    assert (nodes.contrast(512, 300) == rows).all()
    assert nodes.sizes()[2] > 300 * 2 * 5
    nodes.clear(512, 300)
    assert not nodes.contrast(512, 300).any()

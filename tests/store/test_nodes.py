"""Zarr: what is written of a track comes back, from a folder and from an object store, whole and checked."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import zarr

from store.identity import Identity, IndexMismatch
from store.node_form import CompactForm
from store.nodes import SHARD_ROWS, Nodes
from store.segment_ids import segment_id
from store.shards import DamagedStore

IDENTITY = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)


@pytest.fixture(params=["folder", "object store"])
def location(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path)
    pytest.importorskip("obstore", reason="obstore is not installed (extra `cluster`)")
    return tmp_path.as_uri()


def test_rows_are_read_as_zarr_reads_them(location, tmp_path, encode):
    nodes = Nodes.open(location, IDENTITY)
    nodes.write(7, [encode(1, [*range(3), *range(100, 400)])])
    nodes.write(2, [encode(2, range(300))])
    tracks, positions = np.array([[7, 7, 7, 2, 7, 2, 7, 7], [0, 3, 110, 299, 256, 0, 399, 110]])
    # Segments 3 to 99 of track 7 are silent and leave whole chunks absent.
    for name in ("node_matrices", "fingerprints"):
        array = zarr.open_array(tmp_path / IDENTITY.short / name, mode="r")
        expected = np.stack([array[track, position] for track, position in zip(tracks, positions)])
        ids = segment_id(tracks, positions)
        if name == "node_matrices":
            np.testing.assert_array_equal(nodes.node_matrices(ids), expected)
        else:
            np.testing.assert_allclose(nodes.fingerprints_of(ids), expected, atol=1e-3)
    assert not nodes.node_matrices(segment_id([7, 8], [400, 0])).any()  # never written: a row, a track
    assert nodes.node_matrices([]).shape == (0, 3, 4)


def test_silent_chunks_and_shards_take_no_space(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    nodes.write(5, [encode(1, [0, 3 * SHARD_ROWS])])
    track = tmp_path / IDENTITY.short / "node_matrices" / "c" / "5"
    assert {folder.name for folder in track.iterdir()} == {"0", "3"}
    # One chunk of 16 rows of 3 x 4 float16 and its checksum; an index of 16 bytes for each of 16 chunks and its own.
    assert (track / "0/0/0").stat().st_size == 16 * 3 * 4 * 2 + 4 + 16 * 16 + 4


def test_a_large_row_is_a_chunk_of_its_own_and_small_ones_share_one(tmp_path):
    wide = replace(IDENTITY, nodes=32, channels=512)  # 32 KiB a row: two fit into 64 KiB
    Nodes.open(tmp_path, wide)
    assert zarr.open_array(tmp_path / wide.short / "node_matrices").chunks == (1, 2, 32, 512)
    assert zarr.open_array(tmp_path / wide.short / "fingerprints").chunks == (1, 16, 16)


def test_fingerprints_come_back_normalised_without_silent_segments(location, encode):
    nodes = Nodes.open(location, IDENTITY)
    nodes.write(1, [encode(1, [1, 2, 7])])
    kept = nodes.fingerprints(1, 8)
    assert kept.segment_indices.tolist() == [1, 2, 7]
    np.testing.assert_allclose(np.linalg.norm(kept.fingerprints, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(kept.fingerprints, encode(1, [1, 2, 7]).fingerprints, atol=1e-3)
    np.testing.assert_array_equal(nodes.fingerprints_of(segment_id(1, [7, 0, 1]))[[0, 2]], kept.fingerprints[[2, 0]])


def test_memory_stays_bounded_by_a_shard_however_long_the_track(tmp_path, encode, monkeypatch):
    nodes, heights = Nodes.open(tmp_path, IDENTITY), []
    monkeypatch.setattr(
        nodes, "write_shard", lambda track, first, values: heights.append((first, len(values["node_matrices"])))
    )
    nodes.write(9, (encode(1, range(start, start + 100)) for start in range(0, 1000, 100)))
    assert heights == [(0, 256), (256, 256), (512, 256), (768, 256)]


def test_contrast_features_of_blocks_become_one_track_with_its_end_behind_the_last_segment(location, encode):
    nodes = Nodes.open(location, replace(IDENTITY, contrast_frames=2, semitones=5))
    rows = np.random.default_rng(0).integers(1, 255, (300, 2, 5)).astype(np.uint8)
    first = replace(encode(1, range(200)), contrast=rows[:200], first_hop=0)
    last = replace(encode(1, range(200, 293)), contrast=rows[200:], first_hop=200)  # 7 hops more than segments
    written = nodes.write(4, [first, last])
    assert written.rows == 300
    assert (nodes.contrast(4, 300) == rows).all()
    assert nodes.sizes()[2] > 300 * 2 * 5
    nodes.clear(4)
    assert not nodes.contrast(4, 300).any()


def test_clearing_one_track_leaves_the_others(location, encode):
    nodes = Nodes.open(location, IDENTITY)
    for track in (1, 11, 111):
        nodes.write(track, [encode(track, range(300))])
    nodes.clear(11)
    nodes.clear(12)  # never written
    present = nodes.node_matrices(segment_id([1, 11, 111], [299, 0, 299])).any(axis=(1, 2))
    assert present.tolist() == [True, False, True]


@pytest.mark.parametrize("place", [10, -1])  # in a chunk, in the index of the shard
def test_flipped_bytes_are_an_error_that_names_the_track(location, tmp_path, encode, place):
    nodes = Nodes.open(location, IDENTITY)
    nodes.write(17, [encode(1, range(40))])
    file = tmp_path / IDENTITY.short / "node_matrices/c/17/0/0/0"
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    with pytest.raises(DamagedStore, match="node_matrices/c/17.*bytes have changed.*`asid remove 17`"):
        nodes.node_matrices(segment_id(17, [3]))
    file.write_bytes(content[:100])
    with pytest.raises(DamagedStore):
        nodes.node_matrices(segment_id(17, [3]))
    assert len(nodes.fingerprints(17, 40).segment_indices) == 40  # another array


def test_zarr_made_by_another_encoder_or_in_another_form_is_refused(location):
    Nodes.open(location, IDENTITY)
    for other, message in (
        (replace(IDENTITY, nodes=5), "nodes 3, this encoder has nodes 5"),
        (replace(IDENTITY, node_form="compact-1"), "node_form full, this encoder has node_form compact-1"),
    ):
        with pytest.raises(IndexMismatch, match=message):
            Nodes.open(location, other)


def test_an_interrupted_creation_is_made_good(tmp_path, encode):
    nodes = Nodes.open(tmp_path, IDENTITY)
    group = zarr.open_group(tmp_path / IDENTITY.short)
    del group["fingerprints"]
    group.attrs.clear()
    nodes = Nodes.open(tmp_path, IDENTITY)
    assert dict(zarr.open_group(tmp_path / IDENTITY.short).attrs) == asdict(IDENTITY)
    nodes.write(1, [encode(1, [0])])
    assert nodes.node_matrices(segment_id(1, [0])).any()


def test_reading_what_was_never_made_is_told(location):
    with pytest.raises(FileNotFoundError, match="run `asid ingest` first"):
        Nodes.open(location, IDENTITY, read_only=True)


def test_the_compact_form_keeps_two_of_four_channels_where_nodes_lie_in_a_plane(location, encode):
    rng = np.random.default_rng(3)
    plane = np.linalg.qr(rng.standard_normal((4, 2)))[0]
    form = CompactForm.fit(rng.standard_normal((500, 2)) @ plane.T, coordinates=2, digest=IDENTITY.digest)
    nodes = Nodes.open(location, replace(IDENTITY, node_form=form.name), form=form)
    block = encode(1, range(40))
    block = replace(block, node_matrices=(rng.standard_normal((40, 3, 2)) @ plane.T).astype(np.float16))
    nodes.write(3, [block])
    found = nodes.node_matrices(segment_id(3, np.arange(40)))
    # A byte holds six standard deviations in 127 steps: half a step is 0.024 of one, in each of two coordinates.
    np.testing.assert_allclose(found, block.node_matrices, atol=0.05)
    assert np.abs(found - block.node_matrices).max() > 0
    assert nodes.sizes()[0] < 16 * 3 * 2 * 3 + 3 * 4 + 16 * 16 + 4 + 2000  # a byte for each of 2 coordinates


def test_a_compact_form_is_read_back_and_refused_for_another_encoder(tmp_path):
    nodes = np.random.default_rng(0).standard_normal((50, 4))
    form = CompactForm.fit(nodes, coordinates=2, digest="a" * 16)
    form.save(tmp_path / "compact.safetensors")
    again = CompactForm.load(tmp_path / "compact.safetensors", encoder="a" * 16)
    assert again.name == form.name
    with pytest.raises(ValueError, match="made for encoder aaaaaaaaaaaa, this one is bbbbbbbbbbbb"):
        CompactForm.load(tmp_path / "compact.safetensors", encoder="b" * 16)
    (tmp_path / "words").write_text("words")
    with pytest.raises(ValueError, match="no compact form"):
        CompactForm.load(tmp_path / "words", encoder="a" * 16)
    with pytest.raises(ValueError, match="coordinates must lie in 1..4, got 5"):
        CompactForm.fit(nodes, coordinates=5, digest="a" * 16)

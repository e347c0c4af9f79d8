"""What a catalogue needs, worked by hand."""

import pytest

from store import capacity
from store.capacity import Measured
from store.identity import Identity

IDENTITY = Identity(
    digest="0" * 16, nodes=32, channels=512, dimensions=128, hop=0.5, segment_duration=4.0, contrast_frames=8,
    semitones=85,
)  # fmt: skip


def test_a_hundred_thousand_tracks_of_three_and_a_half_minutes():
    need = capacity.plan(IDENTITY, tracks=100_000, minutes=3.5, measured=Measured(speed=140))
    assert need.segments == 41_300_000  # 420 hops of 0.5 s; the last segment of 8 hops begins at the 413th
    assert need.milvus_raw == 41_300_000 * 520  # 128 x 4 bytes and an id of 8
    assert need.milvus_quantised == 41_300_000 * 72  # 64 codes and the id
    # 256 bytes of fingerprint, 8 x 85 of contrast features, 32 x 512 x 2 or 32 x 64 of nodes; 42 million hops, 2 % more
    assert need.zarr_full == int(42_000_000 * (256 + 680 + 32_768) * 1.02)
    assert need.zarr_compact == int(42_000_000 * (256 + 680 + 2_048) * 1.02)
    assert need.worker_hours == pytest.approx(100_000 * 3.5 / 60 / 140)
    assert need.topology.startswith("Milvus standalone, IVF_PQ")


@pytest.mark.parametrize(
    ("tracks", "topology"),
    [
        (400, "Milvus Lite"),  # 165,200 segments
        (500, "Milvus standalone, IVF_PQ"),
        (2_000_000, "Milvus standalone with one GPU"),  # 826 million segments of 72 bytes: 55 GiB
        (10_000_000, "Milvus Distributed, 5 query nodes"),  # 277 GiB over 64
    ],
)
def test_the_topology_is_the_smallest_that_holds_the_index(tracks, topology):
    assert capacity.plan(IDENTITY, tracks=tracks, minutes=3.5).topology.startswith(topology)


def test_recall_is_read_between_what_was_measured_and_falls_by_the_slopes_beyond():
    measured = Measured(sizes=(4_130, 41_300), recall=(0.8, 0.6), slopes=(-0.1, -0.3, 0.0), error=0.05)
    assert capacity.plan(IDENTITY, tracks=10, minutes=3.5, measured=measured).recall == pytest.approx((0.8, 0.75, 0.85))
    between = capacity.plan(IDENTITY, tracks=50, minutes=3.5, measured=measured)  # log10(5) = 0.699 of the way
    assert between.recall[0] == pytest.approx(0.8 - 0.2 * 0.69897)
    assert between.measured
    beyond = capacity.plan(IDENTITY, tracks=1000, minutes=3.5, measured=measured)
    assert beyond.recall == pytest.approx((0.5, 0.25, 0.65))  # ten times the last: 0.6 - 0.1, - 0.3 - 0.05, + 0.05
    far = capacity.plan(IDENTITY, tracks=10**9, minutes=3.5, measured=measured)
    assert (far.measured, far.recall[1]) == (False, 0.0)  # never below nothing


def test_nothing_needs_no_plan():
    with pytest.raises(ValueError, match="0 tracks of 3.5 minutes, expected at least one"):
        capacity.plan(IDENTITY, tracks=0, minutes=3.5)

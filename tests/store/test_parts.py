"""Ids, shards, settings and identity, each by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from store.fingerprints import IndexSettings
from store.identity import Identity
from store.segment_ids import index_of, segment_id, track_of

IDENTITY = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)


def test_an_id_tells_track_and_index():
    assert segment_id(3, 5) == 196_613  # 3 * 65,536 + 5
    ids = segment_id([1, 2, 2**30], [0, 65_535, 7])
    assert track_of(ids).tolist() == [1, 2, 2**30]
    assert index_of(ids).tolist() == [0, 65_535, 7]


@pytest.mark.parametrize(("track", "index"), [(1, 65_536), (1, -1), (2**31, 0), (-1, 0)])
def test_a_number_that_does_not_fit_into_an_id_is_refused(track, index):
    with pytest.raises(ValueError, match="lies outside 0..") as error:
        segment_id([1, track], [0, index])
    assert ("9 hours" in str(error.value)) == (index == 65_536 or index == -1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "GPU_CAGRA"}, "'GPU_CAGRA' is unknown"),
        ({"overfetch": 0}, "overfetch must lie in 1..1000, got 0"),
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

"""Hard negatives: hand-made similarities prove which pairs are mined."""

import math

import numpy as np
import pytest
import torch

from reranker.negatives import Recordings, mine


def at(*degrees):
    """Unit vectors at these angles: similarity falls as angles part."""
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_the_most_similar_wrong_references_are_mined_hardest_first():
    queries = at(0, 100, 205, 300)
    references = at(10, 90, 210, 310)
    # Distances in degrees of each query to references 0 .. 3, its own left out:
    #   query 0:   -   90  150   50  ->  3, 1, 2
    #   query 1:  90    -  110  150  ->  0, 2, 3
    #   query 2: 165  115    -  105  ->  3, 1, 0
    #   query 3:  70  150   90    -  ->  0, 2, 1
    mined = mine(queries, references, torch.arange(4)[:, None], count=3)
    assert mined.tolist() == [[3, 1, 2], [0, 2, 3], [3, 1, 0], [0, 2, 1]]
    assert mine(queries, references, torch.arange(4)[:, None], count=1).tolist() == [[3], [0], [3], [0]]


def test_the_positive_is_never_mined_however_unlike_it_is():
    queries = at(0, 90, 180)
    references = at(180, 90, 1)  # the positives of queries 0 and 2 are their opposites, that of query 1 is the same
    # Query 1 at 90 degrees: 89 to reference 2, 90 to reference 0.
    assert mine(queries, references, torch.arange(3)[:, None], count=2).tolist() == [[2, 1], [2, 0], [0, 1]]


def test_other_moments_of_the_same_track_are_never_mined():
    queries, references = at(0, 5, 90, 95), at(0, 5, 90, 95)
    tracks = torch.tensor([7, 7, 3, 3])
    # Query 0 (track 7): references 2 and 3 remain, at 90 and 95 degrees.
    assert mine(queries, references, tracks[:, None], count=2).tolist() == [[2, 3], [2, 3], [1, 0], [1, 0]]


def test_what_lies_over_a_query_is_never_mined():
    queries, references = at(0, 5, 90, 95), at(0, 5, 90, 95)
    heard = torch.tensor([[7, 4, -1], [8, -1, -1], [3, 7, 8], [4, -1, -1]])  # the pair's own track, then what covers it
    # Query 0: tracks 8 and 3 remain; query 2: only track 4.
    assert mine(queries, references, heard, count=1).tolist() == [[1], [0], [3], [2]]


def test_what_is_mined_is_wrong_in_a_large_random_batch():
    generator = torch.Generator().manual_seed(0)
    queries, references = (torch.nn.functional.normalize(torch.randn(64, 8, generator=generator)) for _ in range(2))
    tracks = torch.randint(0, 20, (64,), generator=generator)
    mined = mine(queries, references, tracks[:, None], count=3)
    assert (tracks[mined] != tracks.unsqueeze(1)).all()
    for i in range(64):
        wrong = [j for j in range(64) if tracks[j] != tracks[i]]
        hardest = sorted(wrong, key=lambda j: -float(queries[i] @ references[j]))[:3]
        assert mined[i].tolist() == hardest


def test_a_batch_with_too_few_wrong_references_is_refused():
    views = at(0, 10, 20, 30)
    with pytest.raises(ValueError, match="a query has 1 wrong references in its batch, expected 2; use more of them"):
        mine(views, views, torch.tensor([[1], [1], [1], [2]]), count=2)


def test_the_most_similar_segments_of_unheard_tracks_are_mined_from_recordings():
    kept = Recordings(
        fingerprints=at(0, 10, 20, 90, 180), node_matrices=torch.zeros(5, 1, 1), tracks=torch.tensor([0, 0, 1, 2, 3])
    )
    # At 4 degrees: 0 and 1 are near, but track 0 is heard in the first query, and track 1 lies over it; -1 is nothing.
    heard = torch.tensor([[0, 1, -1], [2, -1, -1]])
    assert kept.mine(at(4, 4), heard, count=2).tolist() == [[3, 4], [0, 1]]
    with pytest.raises(ValueError, match="has 2 wrong references in the recordings, expected 3"):
        kept.mine(at(4, 4), heard, count=3)


def test_recordings_are_the_middles_of_the_mixes(cache, encoder):
    tracks = [track for track in cache.tracks if track.split == "train"]
    kept = Recordings.of(tracks, cache, encoder, seconds=2.0)
    # 2 s are 62 + 1 frames: (63 - 32) // 8 + 1 = 4 segments of each of eight tracks
    assert kept.tracks.tolist() == np.repeat(np.arange(8), 4).tolist()
    middle = cache.read(tracks[5], (tracks[5].length - 32_000) // 2, 32_000).sum(axis=0)
    np.testing.assert_array_equal(kept.fingerprints[20:24], encoder.encode_waveform(middle).fingerprints)

"""Same-song negatives: another moment of a track, which neither overlaps the first nor repeats what it plays."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from encoder.segments import SegmentGrid
from encoder.training.pairs import Pairing, PairMaker
from encoder.training.repetition import repeats
from encoder.training.stem_cache import Stem, StemTrack

GRID = SegmentGrid(frame_hop=256, frames=16, step=4, minimum_samples=3840)
SONGS = Pairing(offset=0.02, same_song=1.0)  # 320 samples either way
APART = 15 * 384 + 128 + 1 + 2 * 320  # what the fastest query view reads, and the offset on both sides


@dataclass
class FakeCache:
    """Stems (stems, samples) of every track, in place of files; what is read is kept."""

    stems: list[np.ndarray]

    @property
    def tracks(self):
        names = (Stem(name="a", start=0, scale=1.0), Stem(name="b", start=0, scale=1.0))
        about = dict(group="", split="train", stems=names)
        return [StemTrack(track=str(i), length=x.shape[1], **about) for i, x in enumerate(self.stems)]

    def read(self, track, start, length):
        return np.pad(self.stems[int(track.track)], ((0, 0), (10_000, 10_000)))[:, start + 10_000 :][:, :length].copy()


def noise(seed, samples):
    return 0.1 * np.random.default_rng(seed).standard_normal((2, samples)).astype(np.float32)


def batch(stems, size, grid=GRID):
    return PairMaker(FakeCache(stems), SONGS, grid, 128, split="train", seed=1).batch(0, size)


def place(view, stems):
    """Sample of the track at which a reference view begins: one of two stems or their sum."""
    padded = np.pad(stems, ((0, 0), (10_000, 10_000)))
    return max((np.correlate(stem, view, mode="valid") for stem in padded), key=max).argmax() - 10_000


def test_same_song_pairs_show_moments_that_do_not_overlap():
    stems = [noise(seed, 30_000) for seed in range(4)]
    made = batch(stems, 4)
    assert made.moments.tolist() == [0, 1, 0, 1]
    for first, second in ((0, 1), (2, 3)):
        assert made.tracks[first] == made.tracks[second]
        a, b = (place(made.references[i], stems[made.tracks[i]]) for i in (first, second))
        assert abs(a - b) >= APART


def test_a_song_that_repeats_itself_gives_no_negatives_of_itself():
    made = batch([np.tile(noise(seed, 2000), 15) for seed in range(4)], 4)
    assert not made.moments.any()
    assert sorted(made.tracks.tolist()) == [0, 1, 2, 3]


def test_a_song_shorter_than_two_moments_gives_no_negatives_of_itself():
    grid = replace(GRID, sample_rate=500)  # a second is enough to take part; windows begin 9000 - 3968 apart at most
    assert not batch([noise(seed, 9000) for seed in range(4)], 4, grid).moments.any()


def test_a_song_that_is_in_the_batch_a_third_time_gives_no_negatives_of_itself():
    made = batch([noise(seed, 30_000) for seed in range(2)], 6)  # two, two and two of two tracks
    times = np.array([(made.tracks == track).sum() for track in made.tracks])
    assert times.max() > 2
    assert not made.moments[times > 2].any()


@pytest.mark.parametrize("stem", [0, 1])
def test_one_stem_that_sounds_again_is_a_repetition(stem):
    first, second = noise(1, 16_000), noise(2, 16_000)
    assert not repeats(first, second)
    second[stem, 5000:] = 0.5 * first[stem, :11_000]  # eleven of sixteen thousand samples, later and at half the level
    assert repeats(first, second)


def test_a_silent_moment_repeats_nothing():
    assert not repeats(noise(1, 16_000), np.zeros((2, 16_000), np.float32))

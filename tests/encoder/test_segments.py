"""Segments: the published grid, whatever the chunks and blocks in which it is cut."""

import numpy as np
import pytest

from encoder.segments import SegmentGrid, blocks

GRID = SegmentGrid()
SMALL = SegmentGrid(frame_hop=10, frames=8, step=3, minimum_samples=75)


def cut(samples, grid=SMALL, *, n_fft=20, size=4, chunk=None):
    """All blocks of (samples,), read in chunks."""
    chunk = chunk or max(len(samples), 1)
    return list(blocks((samples[i : i + chunk] for i in range(0, len(samples), chunk)), grid, n_fft, size=size))


def windows(found, grid, n_fft):
    """(segments, samples): the padded signal under each segment."""
    stride, length = grid.step * grid.frame_hop, grid.window(1, n_fft)
    return np.array([b.samples[i * stride : i * stride + length] for b in found for i in range(b.segments)])


def noise(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_hop_and_duration_are_the_published_ones():
    # 16 and 128 frames of 512 / 16000 = 0.032 s
    assert GRID.hop == pytest.approx(0.512)
    assert GRID.duration == pytest.approx(4.096)


@pytest.mark.parametrize(("seconds", "segments"), [(5, 2), (7, 6), (10, 12), (15, 22), (20, 32)])
def test_excerpts_have_as_many_segments_as_the_paper_says(seconds, segments):
    assert GRID.count(seconds * 16_000) == segments
    assert sum(b.segments for b in cut(noise(seconds * 16_000), GRID, n_fft=1024)) == segments


def test_counts_follow_the_published_formula_at_every_length():
    for samples in range(1, 700):
        # (L // hop + 1 - frames) // step + 1, at least one segment: shorter audio is padded
        expected = (max(samples, 75) // 10 + 1 - 8) // 3 + 1
        assert SMALL.count(samples) == expected
        assert sum(b.segments for b in cut(noise(samples))) == expected


def test_counts_around_the_edges_of_the_published_grid():
    # The second segment needs frame 16 + 127: 143 x 512 = 73216 samples.
    lengths = (8000, 65_279, 65_280, 73_215, 73_216, 81_407, 81_408)
    assert [GRID.count(n) for n in lengths] == [1, 1, 1, 1, 2, 2, 3]
    for n in lengths:
        assert sum(b.segments for b in cut(noise(n), GRID, n_fft=2048)) == GRID.count(n)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("chunk", [1, 7, 50, 333, 10_000])
def test_segments_are_the_same_whatever_the_chunks_and_the_blocks(size, chunk):
    samples = noise(1000)
    found = cut(samples, size=size, chunk=chunk)
    padded = np.pad(samples, 10, mode="reflect")
    expected = [padded[i * 30 : i * 30 + SMALL.window(1, 20)] for i in range(SMALL.count(1000))]
    np.testing.assert_array_equal(windows(found, SMALL, 20), expected)
    assert [b.first for b in found] == list(np.cumsum([0] + [b.segments for b in found])[:-1])
    assert all(b.segments <= size for b in found)
    assert all(len(b.samples) == SMALL.window(b.segments, 20) for b in found)


@pytest.mark.parametrize("samples", [75, 76, 81, 105, 134, 135])
@pytest.mark.parametrize("chunk", [1, 19, 20, 21, 22, 200])
def test_both_edges_are_reflected(samples, chunk):
    values = np.arange(1, samples + 1, dtype=np.float32)
    found = windows(cut(values, chunk=chunk), SMALL, 20)
    padded = np.pad(values, 10, mode="reflect")
    assert found[0][:11].tolist() == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    last = (len(found) - 1) * 30
    np.testing.assert_array_equal(found[-1], padded[last : last + len(found[-1])])


@pytest.mark.parametrize("samples", [0, 1, 5, 10, 15, 20, 21, 25, 40, 74])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_short_audio_is_padded_with_zeros_to_one_segment(samples, chunk):
    values = np.arange(1, samples + 1, dtype=np.float32)
    (found,) = windows(cut(values, chunk=chunk), SMALL, 20)
    padded = np.pad(np.pad(values, (0, 75 - samples)), 10, mode="reflect")
    np.testing.assert_array_equal(found, padded[: len(found)])


def test_empty_chunks_change_nothing():
    samples = noise(300)
    pieces = [samples[:0], samples[:100], samples[:0], samples[100:], samples[:0]]
    found = list(blocks(pieces, SMALL, 20, size=4))
    np.testing.assert_array_equal(windows(found, SMALL, 20), windows(cut(samples), SMALL, 20))


def test_an_impossible_grid_is_refused():
    with pytest.raises(ValueError, match="step is 0, expected a positive integer"):
        SegmentGrid(step=0)
    with pytest.raises(ValueError, match="minimum_samples 100 does not fill 128 frames, set it to at least 65024"):
        SegmentGrid(minimum_samples=100)

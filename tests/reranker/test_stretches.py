"""Stretches: where in a reference a window is heard, and which references are likest."""

import numpy as np
import pytest

from reranker.correlate import Correlation
from reranker.stretches import likest

FEW = Correlation(finest=2)
LONG = 100_000  # frames asked: no time for more than the least


@pytest.fixture
def frames():
    """Noise as contrast features have it: few values, of 85 semitones."""
    rng = np.random.default_rng(5)

    def made(seconds):
        return (rng.gamma(0.3, 60.0, (round(seconds / 0.064), 85))).clip(0, 255).astype(np.uint8)

    return made


def test_the_stretch_that_holds_what_is_sampled_is_taken_and_its_reference_comes_first(frames):
    references = {number: frames(90) for number in (3, 5, 8, 9)}
    window = frames(20)
    window[60:160] = np.maximum(window[60:160], references[8][1000:1100])
    found = likest(window, references, FEW, seconds=24, asked=LONG)
    assert list(found)[0] == 8
    assert len(found) == FEW.finest
    begin = next(at for at in range(1406) if np.array_equal(references[8][at : at + 375], found[8]))
    assert begin <= 1000
    assert begin + 375 >= 1100
    assert all(len(features) == 375 for features in found.values())


def test_short_references_are_taken_whole_and_as_many_as_there_is_time_for(frames):
    references = {number: frames(seconds) for number, seconds in ((1, 10), (2, 1), (3, 30))}
    found = likest(frames(20), references, FEW, seconds=24, asked=1)
    assert {number: len(features) for number, features in found.items()} == {1: 156, 2: 16, 3: 375}
    assert len(likest(frames(20), references, FEW, seconds=24, asked=LONG)) == 2


def test_a_window_too_short_for_a_piece_leaves_the_order_of_numbers(frames):
    references = {7: frames(30), 4: frames(30)}
    found = likest(frames(0.5), references, FEW, seconds=24, asked=1)
    assert list(found) == [4, 7]
    assert np.array_equal(found[4], references[4][:375])
    assert likest(frames(20), {}, FEW, seconds=24, asked=1) == {}

"""Mixing: which interference lies over which sample, how loud, and the sum of magnitudes by hand."""

import numpy as np
import pytest
import torch

from encoder.training import mixing
from encoder.training.mixing import NOBODY, Mix, Spectra
from encoder.training.pairing import Pairing

TRACKS = np.array([3, 5, 7, 9])
SOURCES = np.array([3, 9, 20, 21])  # the first pair's interference is its own track's, the second's that of the last
LOUDNESS = np.array([[0.1, 0.1, 0.2, 0.4], [0.05, 0.2, 0.1, 0.1]], np.float32)
FOUR = Pairing(mixes=4, interferers=0.5)


def draw(seed=0, *, pairing=FOUR, first=False, step=None, sources=SOURCES):
    return mixing.draw(np.random.default_rng(seed), pairing, TRACKS, sources, LOUDNESS, step=step, first=first)


def test_the_first_mix_has_every_interference_where_it_was_made_and_no_second_one():
    mix = draw(first=True)
    assert mix.order[0].tolist() == [0, 1, 2, 3]
    assert not mix.factor[1].any()
    assert mix.covers.tolist() == [[NOBODY, NOBODY], [9, NOBODY], [20, NOBODY], [21, NOBODY]]
    # Its own stems are as loud as they are; other tracks are brought to the sample's 0.1, 0.2 and 0.4.
    np.testing.assert_allclose(mix.factor[0], [1, 0.1 / 0.2, 0.2 / 0.1, 0.4 / 0.1])


def test_further_mixes_have_any_interference_but_none_of_the_samples_own_track():
    seen = set()
    for seed in range(100):
        mix = draw(seed)
        seen |= {(pair, int(over)) for pair, over in enumerate(mix.order[0])}
        for pair, (track, covers) in enumerate(zip(TRACKS, mix.covers)):
            assert track not in covers
            for over, factor, cover in zip(mix.order[:, pair], mix.factor[:, pair], covers):
                assert factor == 0 or over == pair or cover == SOURCES[over]
                assert factor > 0 or cover == NOBODY
    assert (3, 1) not in seen  # track 9 lies over the second pair and would lie over itself
    assert len(seen) == 15


def test_two_interferers_are_together_as_loud_as_one():
    second = 0
    for seed in range(200):
        mix = draw(seed, pairing=Pairing(mixes=2, interferers=1.0, level=(0.0, 0.0)))
        power = np.square(mix.factor * LOUDNESS[1][mix.order]).sum(0)  # of unrelated waveforms
        np.testing.assert_allclose(power, np.square(LOUDNESS[0]), rtol=1e-5)
        share = np.square(mix.factor[1] * LOUDNESS[1][mix.order[1]] / LOUDNESS[0])
        assert ((share == 0) | ((share > 0.0999) & (share < 0.5001))).all()
        second += (share > 0).sum()
    assert 350 < second < 700  # of 800, less those that drew the same interference twice or their own


def test_a_second_interferer_comes_with_its_probability():
    sources = np.arange(4) + 20
    mixes = [draw(seed, pairing=Pairing(mixes=2, interferers=0.4), sources=sources) for seed in range(400)]
    # Not where the second is the first (1 / 4) or the pair's own (1 / 4, of which 1 / 4 is both): 0.4 x 9 / 16 = 0.225
    assert np.mean([mix.factor[1] > 0 for mix in mixes]) == pytest.approx(0.225, abs=0.03)


def test_a_level_is_over_interference_of_equal_loudness_be_it_of_the_same_track():
    pairing = Pairing(level=(-10.0, 8.0), level_start=(0.0, 10.0), level_steps=100)
    np.testing.assert_allclose(draw(pairing=pairing, first=True).factor[0], LOUDNESS[0] / LOUDNESS[1])
    gains = {step: np.concatenate([draw(s, pairing=pairing, step=step).gain for s in range(300)]) for step in (0, 50)}
    for step, (low, high) in {0: (0, 10), 50: (-5, 9)}.items():
        assert low <= gains[step].min() < low + 0.5
        assert high - 0.5 < gains[step].max() <= high


def test_an_equaliser_colours_reference_sample_and_interference_apart():
    rng, tracks = np.random.default_rng(0), np.arange(500)
    mix = mixing.draw(rng, Pairing(equaliser=6.0), tracks, tracks, np.ones((2, 500)), step=None, first=True)
    assert mix.colour.std() == pytest.approx(3.0, rel=0.05)  # four cosines of 6 / 2 dB, each 1 / sqrt(2): 6 x 0.71
    assert np.abs(np.corrcoef(mix.colour.reshape(3, -1)) - np.eye(3)).max() < 0.1


def by_hand(**changes):
    """A mix of two pairs over each other's interference, both at 0 dB, nothing coloured or limited."""
    values = dict(
        gain=np.zeros(2, np.float32),
        order=np.array([[1, 0], [0, 1]]),
        factor=np.array([[1, 1], [0, 0]], np.float32),
        covers=np.full((2, 2), NOBODY),
        colour=np.zeros((3, 2, 4), np.float32),
        limits=np.full((2, 2, 2), np.inf, np.float32),
    )
    return Mix(**values | changes)


def spectra():
    """Two pairs of one band and frame: references -10 and -20 dB, samples of power 4 and 1, interferences 1 and 3."""
    values = ([-10.0, -20.0], [4.0, 1.0], [1.0, 3.0])
    return Spectra(*(torch.tensor(v).view(2, 1, 1) for v in values))


def test_powers_are_added():
    references, queries = mixing.mixed(spectra(), by_hand(), floor=-100)
    assert references.flatten().tolist() == [-10, -20]
    # 4 + 3 = 7 and 1 + 1 = 2
    np.testing.assert_allclose(queries.flatten(), 10 * np.log10([7, 2]), rtol=1e-5)
    gain = np.array([20 * np.log10(0.5), 0], np.float32)  # half the amplitude, a quarter of the power: 1 + 3
    _, quieter = mixing.mixed(spectra(), by_hand(gain=gain), floor=-100)
    np.testing.assert_allclose(quieter.flatten(), 10 * np.log10([4, 2]), rtol=1e-5)
    factor = np.array([[2, 0], [1, 0]], np.float32)  # 4 + 2^2 x 3 + 1 and 1 alone
    _, covered = mixing.mixed(spectra(), by_hand(factor=factor), floor=-100)
    np.testing.assert_allclose(covered.flatten(), 10 * np.log10([17, 1]), rtol=1e-5, atol=1e-5)


def test_each_part_has_its_colour():
    colour = np.zeros((3, 2, 4), np.float32)
    colour[:, 0, 1] = 1, 2, 3  # dB; of one bin the second cosine is cos(pi) = -1
    references, queries = mixing.mixed(spectra(), by_hand(colour=colour), floor=-100)
    assert references[0].item() == pytest.approx(-11)
    # The interference over the first pair is that of the second; it is coloured where it lies.
    assert 10 ** (queries[0].item() / 10) == pytest.approx(4 * 10**-0.2 + 3 * 10**-0.3, rel=1e-4)
    assert 10 ** (queries[1].item() / 10) == pytest.approx(2, rel=1e-4)


def test_silence_stands_at_the_floor():
    silent = Spectra(*(x * 0 for x in spectra()))
    assert mixing.mixed(silent, by_hand(), floor=-100)[1].flatten().tolist() == [-100, -100]


def test_a_limited_view_loses_what_is_high_and_what_is_faint_in_its_frame():
    spectrum = torch.tensor([[0.0, -50], [-10, -10], [-39, -49], [-41, -60], [0, 0]]).unsqueeze(0)
    limits = np.array([[1000.0, 40.0]], np.float32)
    found = mixing.limited(spectrum, limits, torch.tensor([100.0, 200, 400, 1000, 1001]), floor=-100.0)
    # The last band is above 1000 Hz, though it counts as the loudest of its frame; cells under -40 dB are gone.
    assert found[0].tolist() == [[0, -100], [-10, -10], [-39, -100], [-100, -100], [-100, -100]]
    assert torch.equal(mixing.limited(spectrum, limits * np.inf, torch.zeros(5), floor=-100.0), spectrum)


def test_limits_come_with_their_probability():
    mixes = [draw(seed, pairing=Pairing(band_limit=0.25)) for seed in range(400)]
    limited = np.isfinite([mix.limits for mix in mixes])
    assert (limited[..., 0] == limited[..., 1]).all()
    assert limited.mean() == pytest.approx(0.25, abs=0.03)

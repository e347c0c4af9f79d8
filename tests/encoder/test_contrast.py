"""Contrast: what stands out, in semitones, as bytes; independent of level; shifted by a transposition."""

import numpy as np
import pytest
import torch

from encoder.contrast import Contrast, features
from encoder.spectrogram import FrontEnd, LogFrequency


def noise(*, bins=128, frames=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(bins, frames, generator=generator) * 3 - 40


def test_features_are_bytes_of_frames_by_semitones():
    found = features(noise(frames=201))
    # 128 bins of 2/3 semitone reach up to bin 127 = semitone 84.67, so semitones 0 to 84; 201 frames are 100 pairs
    assert found.dtype == np.uint8
    assert found.shape == (100, 85)


def test_a_tone_stands_out_at_its_semitone_and_nothing_else_does():
    spectrum = torch.full((128, 60), -50.0)
    spectrum[72] = -10.0  # 72 bins of 18 an octave are 4 octaves: semitone 48
    found = features(spectrum, Contrast(frames=15, bins=15))
    # In the window of 15 bins one is 40 dB louder: mean 40 / 15 = 2.667 over the floor, deviation
    # sqrt(1600 / 15 - 2.667 ** 2) = 9.978; (40 - 2.667) / (9.978 + 3) = 2.877. Of the semitone's weights .2 .6 .2 the
    # tone has .6 (bins 1.5 wide: 1/3, 1, 1/3 of 5/3), so 64 * .6 * 2.877 = 110.5.
    assert found[:, 48] == pytest.approx(110.5, abs=0.6)
    assert np.flatnonzero(found.max(0)).tolist() == [48]


def test_a_click_stands_out_in_its_frame():
    spectrum = torch.full((128, 60), -50.0)
    spectrum[:, 30] = -20.0
    assert np.flatnonzero(features(spectrum).max(1)).tolist() == [15]


def test_level_does_not_matter_nor_does_what_is_even():
    spectrum = noise()
    assert np.abs(features(spectrum + 20).astype(int) - features(spectrum)).max() <= 1
    assert not features(torch.full((128, 50), -30.0)).any()


def test_an_octave_up_is_twelve_bins():
    seconds = torch.arange(32_000) / 16_000
    front_end = FrontEnd(LogFrequency())
    low, high = (features(front_end(torch.sin(2 * np.pi * hertz * seconds)[None])[0]) for hertz in (440.0, 880.0))
    assert low.mean(0).argmax() == 36  # 440 Hz is 3 octaves over 55 Hz
    assert high.mean(0).argmax() == 48


def test_what_is_far_below_the_loudest_counts_as_silence():
    spectrum = torch.full((128, 100), -10.0)
    spectrum[:, 50:] = noise(frames=50) - 60  # below -70 dB nearly everywhere
    assert features(spectrum)[40:].mean() < 0.1


def test_less_than_a_pool_gives_no_frames():
    assert features(noise(frames=1)).shape == (0, 85)
    assert features(torch.zeros(128, 0)).shape == (0, 85)


def test_impossible_values_are_refused():
    with pytest.raises(ValueError, match="bins is 4, expected an odd"):
        Contrast(bins=4)
    with pytest.raises(ValueError, match="pool is 0, expected more than 0"):
        Contrast(pool=0)
    with pytest.raises(ValueError, match=r"shape \(2, 128, 10\), expected \(bins, frames\)"):
        features(torch.zeros(2, 128, 10))

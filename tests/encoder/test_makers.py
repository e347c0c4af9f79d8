"""Makers: pairs of any system at its own sample rate, of the kind that its recipe says."""

from dataclasses import replace

import numpy as np
import pytest

from encoder.training.makers import pairs_of
from encoder.training.noise import NoisePairMaker
from encoder.training.pairing import NoisePairing
from encoder.training.stem_cache import Stem, StemCache, StemCacheWriter, StemTrack

HERTZ = 440


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Three tracks of 4 s, one note each all the time."""
    folder = tmp_path_factory.mktemp("tones")
    wave = 0.5 * np.sin(2 * np.pi * HERTZ * np.arange(4 * 16_000) / 16_000).astype(np.float32)
    with StemCacheWriter(folder) as writer:
        for number in range(3):
            stems = (Stem(name="all", start=0, scale=0.0),)
            track = StemTrack(track=str(number), group=str(number), split="train", stems=stems, length=0)
            writer.append(track, [wave])
    return StemCache.open(folder)


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_note_has_its_pitch_at_any_sample_rate(tones, system, rate):
    grid = replace(system.grid, sample_rate=rate)
    batch = pairs_of(tones, replace(system, grid=grid), split="train", seed=1).batch(0, 2)
    spectrum = np.abs(np.fft.rfft(batch.references[0] * np.hanning(batch.references.shape[1])))
    assert spectrum.argmax() * rate / batch.references.shape[1] == pytest.approx(HERTZ, abs=rate / len(spectrum))


def test_pairs_under_noise_are_made_as_their_recipe_says(tones, system):
    noisy = replace(system, pairing=NoisePairing())
    assert isinstance(pairs_of(tones, noisy, split="train", seed=1), NoisePairMaker)
    assert not isinstance(pairs_of(tones, system, split="train", seed=1), NoisePairMaker)

"""Features of stems: what stands out in each, as far as it is heard in the mix."""

from dataclasses import replace

import numpy as np
import pytest

from encoder import checkpoint, segments, stem_features
from encoder.encode import Encoder
from encoder.spectrogram import LogMel

RATE = 16_000


@pytest.fixture(scope="module")
def encoder(saved):
    return Encoder(saved)


def notes(seconds, *, seed):
    """A new sine every quarter of a second."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 4) / RATE
    made = [np.sin(2 * np.pi * 110 * 2 ** (rng.integers(0, 36) / 12) * time) for _ in range(int(4 * seconds))]
    return (0.3 * np.concatenate(made)).astype(np.float32)


def test_a_stem_that_is_the_whole_mix_has_the_features_of_the_mix(encoder):
    wave = notes(4, seed=1)
    stems = stem_features.of_stems(encoder, {"all": wave, "none": np.zeros_like(wave)})
    np.testing.assert_array_equal(stems["all"], encoder.encode_waveform(wave).features)
    assert stems["all"].max() > 50
    assert stems["none"].max() == 0


def test_of_a_residue_20_db_down_hardly_anything_is_left(encoder):
    wave = notes(4, seed=1)
    stems = stem_features.of_stems(encoder, {"drums": wave, "vocals": 0.1 * wave})
    # power 1 : 0.01, so the shares are 1 / 1.01 and 0.01 / 1.01; of 255 at most 2.52
    assert stems["vocals"].max() <= 3
    whole = encoder.encode_waveform(wave).features.astype(float)
    np.testing.assert_allclose(stems["drums"], whole / 1.01, atol=0.51)


def test_long_stems_are_made_block_by_block_like_short_ones(encoder, monkeypatch):
    stems = {"lead": notes(8, seed=1), "bass": notes(8, seed=2)}
    whole = stem_features.of_stems(encoder, stems)
    cut = segments.blocks
    monkeypatch.setattr(segments, "blocks", lambda chunks, grid, n_fft: cut(chunks, grid, n_fft, size=40))
    parts = stem_features.of_stems(encoder, stems)
    for name in stems:
        assert parts[name].shape == whole[name].shape
        # Each block is measured against its own loudest value and mean: a byte or so.
        assert np.mean(np.abs(parts[name].astype(int) - whole[name])) < 1


def test_stems_that_do_not_belong_together_are_refused(encoder):
    wave = notes(1, seed=1)
    with pytest.raises(ValueError, match="stems of a 16000, b 8000 samples, expected one or more stems of one length"):
        stem_features.of_stems(encoder, {"a": wave, "b": wave[:8000]})
    with pytest.raises(ValueError, match="stems of no samples"):
        stem_features.of_stems(encoder, {})
    with pytest.raises(ValueError, match="stems b hold NaN"):
        stem_features.of_stems(encoder, {"a": wave, "b": wave * np.nan})


def test_an_encoder_without_contrast_features_is_refused(system, tmp_path):
    mel = replace(system, name="mel", front_end=LogMel(bins=36))
    checkpoint.save(tmp_path / "mel.safetensors", mel, mel.build(), provenance={})
    with pytest.raises(ValueError, match="system mel has no contrast features"):
        stem_features.require_contrast(Encoder(tmp_path / "mel.safetensors"))

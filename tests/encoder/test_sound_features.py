"""Features of one sound: equal to librosa's, deaf to level and to the silence that fills the window."""

import importlib.util

import librosa
import numpy as np
import pytest
import torch

from encoder.sound_features import Cepstrum, SoundFeatures

RATE = 16_000
scattering = pytest.mark.skipif(importlib.util.find_spec("kymatio") is None, reason="kymatio is not installed")


@pytest.fixture(scope="module")
def cepstrum():
    return SoundFeatures().build(sample_rate=RATE, frame_hop=512)


def note(seconds=1.024, frequency=440.0, seed=0):
    time = np.arange(round(RATE * seconds)) / RATE
    tone = np.sign(np.sin(2 * np.pi * frequency * time)) * np.exp(-3 * time)
    return (0.3 * tone + 0.01 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def features(front_end, *waves):
    return front_end(torch.from_numpy(np.stack(waves)))[:, :, 0]


def test_mfccs_equal_those_of_librosa(cepstrum):
    wave = note()
    wave /= np.abs(wave).max()
    expected = librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=40)
    np.testing.assert_allclose(cepstrum.coefficients(torch.from_numpy(wave)[None])[0], expected, atol=2e-3)
    np.testing.assert_allclose(features(cepstrum, wave)[0], expected.mean(axis=1), atol=2e-3)


def test_the_deviation_over_time_stands_beside_the_mean(cepstrum):
    wave = note()
    wave /= np.abs(wave).max()
    front_end = Cepstrum(SoundFeatures(deviation=True), sample_rate=RATE)
    found, expected = features(front_end, wave)[0], librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=40)
    np.testing.assert_allclose(found[:40], features(cepstrum, wave)[0])
    np.testing.assert_allclose(found[40:], expected.std(axis=1), atol=2e-3)
    assert SoundFeatures(deviation=True).bins == len(found) == 80


def test_level_does_not_matter(cepstrum):
    loud, quiet = features(cepstrum, note(), 0.01 * note())
    np.testing.assert_allclose(loud, quiet, atol=1e-2)


def test_silence_that_fills_the_window_does_not_count(cepstrum):
    """A hit of 0.1 s in windows of 0.25 and 1 s: the same four frames, 0 to 1536 of 1600 samples."""
    hit = note(seconds=0.1)
    short, long = (np.pad(hit, (0, length - len(hit))) for length in (4000, 16000))
    np.testing.assert_allclose(features(cepstrum, short), features(cepstrum, long), atol=1e-3)
    frames = cepstrum.coefficients(torch.from_numpy(long / np.abs(long).max())[None])[0]
    np.testing.assert_allclose(features(cepstrum, long)[0], frames[:, :4].mean(dim=1), atol=1e-3)


def test_silence_has_finite_features(cepstrum):
    assert torch.isfinite(features(cepstrum, np.zeros(16_000, np.float32))).all()


def test_one_sound_does_not_change_the_features_of_another(cepstrum):
    together = features(cepstrum, note(), 5 * note(frequency=90.0, seed=1))
    np.testing.assert_allclose(together[0], features(cepstrum, note())[0], atol=1e-4)


@scattering
def test_scattering_has_as_many_features_as_it_says_and_is_deaf_to_level():
    config = SoundFeatures(feature="scattering")
    loud, quiet = features(config.build(sample_rate=RATE, frame_hop=512), note(), 0.01 * note())
    assert len(loud) == config.bins
    np.testing.assert_allclose(loud, quiet, atol=1e-2)
    assert (loud > 0).all()


@scattering
def test_scattering_tells_a_tremolo_from_a_steady_note_by_its_second_order():
    """The same tone, steady or at full depth 8 times a second: half of the coefficients of order 2 change."""
    time = np.arange(16_384) / RATE
    steady = np.sin(2 * np.pi * 880 * time).astype(np.float32)
    tremolo = (steady * (1 + np.sin(2 * np.pi * 30 * time)) / 2).astype(np.float32)
    one, other = features(SoundFeatures(feature="scattering").build(sample_rate=RATE, frame_hop=512), steady, tremolo)
    second = slice(80, None)
    assert (one - other)[second].abs().mean() > 0.2


def test_openl3_without_its_package_is_one_clear_line():
    if importlib.util.find_spec("openl3"):
        pytest.skip("openl3 is installed")
    with pytest.raises(ValueError, match="openl3 features need the package openl3"):
        SoundFeatures(feature="openl3").build(sample_rate=RATE, frame_hop=512)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(feature="chroma"), "feature is 'chroma'"),
        (dict(coefficients=0), "coefficients is 0"),
        (dict(feature="scattering", deviation=True), "deviation with scattering"),
    ],
)
def test_impossible_features_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SoundFeatures(**given)

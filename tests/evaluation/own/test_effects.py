"""Effects: they change the sound, and neither time nor pitch; `warp` changes these by what it is told."""

import numpy as np
import pytest

from evaluation.own import effects

RATE = 22_050


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def pitch(wave: np.ndarray) -> float:
    """Hz of the strongest partial, without the first and last tenth."""
    middle = wave[len(wave) // 10 : -len(wave) // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 19))
    return float(np.argmax(spectrum) * RATE / (1 << 19))


def pulse(at: int, samples: int) -> np.ndarray:
    """A short burst, whose time is plain in any treatment."""
    wave = np.zeros(samples, np.float32)
    wave[at : at + 400] = 0.5 * np.sin(2 * np.pi * 900 * np.arange(400) / RATE) * np.hanning(400)
    return wave


@pytest.mark.parametrize("ratio", [0.75, 1.0, 1.04, 1.37])
@pytest.mark.parametrize("semitones", [-4.0, 0.0, 3.0])
def test_stretching_and_transposing_are_independent(ratio, semitones):
    warped = effects.warp(tone(500, 2), tempo_ratio=ratio, transposition=semitones, varispeed=False, sample_rate=RATE)
    assert len(warped) == round(2 * RATE / ratio)
    assert pitch(warped) == pytest.approx(500 * 2 ** (semitones / 12), rel=0.004)  # 7 cents


@pytest.mark.parametrize("ratio", [0.75, 1.04, 1.37])
def test_under_varispeed_the_pitch_follows_the_tempo(ratio):
    warped = effects.warp(tone(500, 2), tempo_ratio=ratio, transposition=0.0, varispeed=True, sample_rate=RATE)
    assert len(warped) == round(2 * RATE / ratio)
    assert pitch(warped) == pytest.approx(500 * ratio, rel=0.002)


@pytest.mark.parametrize("seed", range(12))
def test_no_rack_moves_what_passes(seed):
    wave = pulse(11_025, RATE)
    rng = np.random.default_rng(seed)
    rack = effects.draw(rng, sample_rate=RATE)
    treated = effects.apply(rack, wave, sample_rate=RATE, rng=rng)
    assert treated.shape == wave.shape
    strengths = np.convolve(np.abs(treated), np.ones(200), "same")
    assert np.argmax(strengths) == pytest.approx(11_225, abs=220)  # the middle of the burst; 10 ms


def test_racks_differ_and_some_samples_stay_nearly_as_they_were():
    racks = [effects.draw(np.random.default_rng(seed), sample_rate=RATE).names for seed in range(200)]
    # None of five effects and no vinyl: 0.3 * 0.7 * 0.5 * 0.65 * 0.75 * 0.65 * 0.85 = 0.028, so 5.7 of 200.
    assert 1 <= sum(not names for names in racks) <= 14
    assert {name for names in racks for name in names} == {
        "equaliser", "filter", "compressor", "saturation", "lo-fi", "reverb", "vinyl",
    }  # fmt: skip


def test_one_seed_gives_one_sound_byte_for_byte():
    def treated() -> np.ndarray:
        rng = np.random.default_rng(3)
        return effects.apply(effects.draw(rng, sample_rate=RATE), tone(300, 1), sample_rate=RATE, rng=rng)

    assert treated().tobytes() == treated().tobytes()

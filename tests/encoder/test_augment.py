"""Augmentation: the spectra of both views, and warping measured against real stretchers."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import soxr
import torch

from encoder.segments import SegmentGrid
from encoder.spectrogram import FrontEnd, LogFrequency, LogMel
from encoder.training import augment, effects, mixing
from encoder.training.pairing import Pairing
from encoder.training.pairs import PairBatch

RATE = 16_000
FRAMES = 96
CONFIGS = [pytest.param(LogMel(), id="log-mel"), pytest.param(LogFrequency(), id="log-frequency")]


def song(seed=0, seconds=8):
    """Decaying notes of five harmonics on a grid of quarter seconds, and a snare on every second: (samples,)."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 2) / RATE
    waveform = np.zeros((seconds + 1) * RATE)
    for place in range(0, seconds * RATE, RATE // 4):
        if rng.random() < 0.8:
            pitch = 110 * 2 ** (rng.integers(0, 30) / 12)
            harmonics = (a * np.sin(2 * np.pi * pitch * n * time) for n, a in enumerate((0.3, 0.2, 0.1, 0.05, 0.05), 1))
            waveform[place : place + RATE // 2] += sum(harmonics) * np.exp(-5 * time)
        if place % (RATE // 2) == 0:
            waveform[place : place + RATE // 2] += 0.3 * rng.standard_normal(len(time)) * np.exp(-40 * time)
    return (0.5 * waveform[: seconds * RATE]).astype(np.float32)


def spectrum(front_end, samples):
    """(bins, frames) of the first frames of (samples,)."""
    needed = (FRAMES - 1) * front_end.frame_hop + front_end.config.n_fft
    return front_end(torch.from_numpy(samples[:needed]).unsqueeze(0))[0]


def warped(front_end, samples, tempo, transposition):
    """(bins, frames) of (samples,) by warping."""
    changes = {"tempo": torch.tensor([tempo]), "transposition": torch.tensor([float(transposition)])}
    return front_end.warped(torch.from_numpy(samples).unsqueeze(0), **changes, frames=FRAMES)[0]


def alike(a, b):
    """Correlation of two spectra over their upper 70 dB."""
    frames = min(a.shape[1], b.shape[1])
    a, b = (x[:, :frames].clamp(min=x.max() - 70).flatten() for x in (a, b))
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def compared(config, tempo, transposition, stretch):
    """Correlation of the really changed songs with the warped and with the unchanged ones, means of two songs."""
    front_end, found = FrontEnd(config), []
    for samples in (song(0), song(1)):
        real = spectrum(front_end, stretch(samples))
        unchanged = alike(spectrum(front_end, samples), real)
        found.append((alike(warped(front_end, samples, tempo, transposition), real), unchanged))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_without_change_warping_gives_the_plain_spectrum(config):
    front_end = FrontEnd(config)
    plain = spectrum(front_end, song())
    torch.testing.assert_close(warped(front_end, song(), 1.0, 0.0), plain, rtol=0, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("tempo", [0.75, 0.9, 1.1, 1.3])
def test_warping_is_like_playing_the_record_at_another_speed(config, tempo):
    # Resampling changes tempo and pitch together, exactly: 12 log2(tempo) semitones.
    changed, unchanged = compared(
        config, tempo, 12 * np.log2(tempo), lambda x: soxr.resample(x, RATE * tempo, RATE, quality="VHQ")
    )
    assert changed > 0.8
    assert changed > unchanged + 0.35


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("tempo", [0.7, 0.85, 1.2, 1.5])
def test_warping_is_like_a_time_stretch(config, tempo):
    # A real stretcher smears attacks its own way: two of them (librosa, atempo) agree to 0.85 to 0.9.
    changed, unchanged = compared(config, tempo, 0, lambda x: librosa.effects.time_stretch(x, rate=tempo))
    assert changed > (0.65 if tempo == 1.5 else 0.78)
    assert changed > unchanged + 0.4


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("semitones", [-3, 2])
def test_warping_is_like_a_pitch_shift(config, semitones):
    changed, unchanged = compared(
        config, 1.0, semitones, lambda x: librosa.effects.pitch_shift(x, sr=RATE, n_steps=semitones)
    )
    assert changed > 0.8
    assert changed > unchanged + 0.15


@pytest.mark.parametrize("config", CONFIGS)
def test_warping_is_like_both_at_once(config):
    def both(x):
        return librosa.effects.pitch_shift(librosa.effects.time_stretch(x, rate=0.8), sr=RATE, n_steps=2)

    changed, unchanged = compared(config, 0.8, 2, both)
    assert changed > 0.75
    assert changed > unchanged + 0.4


GRID = SegmentGrid(frames=FRAMES, step=8)
PAPER = Pairing()


def batch(pairs, *, longest=80_000, pairing=PAPER, seed=0):
    """Noise under other noise; pair i is of track i and has track 100 + i over it."""
    rng = np.random.default_rng(seed)
    samples, interferences = 0.1 * rng.standard_normal((2, pairs, longest)).astype(np.float32)
    tracks = np.arange(pairs)
    loudness = np.full((2, pairs), 0.1, np.float32)
    mixes = (
        mixing.draw(rng, pairing, tracks, 100 + tracks, loudness, step=None, first=n == 0) for n in range(pairing.mixes)
    )
    return PairBatch(
        references=samples[:, : GRID.window(1, 2048)].copy(),
        samples=samples,
        interferences=interferences,
        tempo=rng.uniform(0.7, 1.5, pairs).astype(np.float32),
        transposition=rng.uniform(-3, 3, pairs).astype(np.float32),
        tracks=tracks,
        moments=np.zeros(pairs, np.int64),
        effects=effects.draw(rng, pairing, pairs),
        mixes=tuple(mixes),
    )


def query(front_end, made, i):
    """The query view of pair i, mixed by hand: aug2(gain x sample + interference)."""
    mix = made.mixes[0]
    waveform = 10 ** (mix.gain[i] / 20) * made.samples[i] + mix.factor[0, i] * made.interferences[i]
    return warped(front_end, waveform.astype(np.float32), float(made.tempo[i]), float(made.transposition[i]))


def test_the_reference_view_is_plain_and_the_query_view_a_warped_mixture_pair_by_pair(monkeypatch):
    monkeypatch.setattr(augment, "_PORTION", 2)  # five pairs in three portions
    made, front_end = batch(5), FrontEnd(LogFrequency())
    views = augment.views(made, front_end, GRID)
    assert views.references.shape == views.queries.shape == (5, 128, FRAMES)
    assert views.tracks.tolist() == [0, 1, 2, 3, 4]
    assert views.covers.tolist() == [[100 + i, -1] for i in range(5)]
    for i in range(5):
        torch.testing.assert_close(views.references[i], spectrum(front_end, made.references[i]))
        torch.testing.assert_close(views.queries[i], query(front_end, made, i), rtol=0, atol=1e-3)


@pytest.mark.parametrize("mixes", [1, 2])
def test_the_reference_view_of_a_replayed_track_is_warped(mixes):
    made, front_end = batch(3, pairing=replace(PAPER, mixes=mixes)), FrontEnd(LogFrequency())
    speeds, semitones = np.array([[0.9, 1.0, 1.1], [-2.0, 0.0, 3.5]], np.float32)
    played = replace(made, references=made.samples, replayed=np.stack([speeds, semitones]))
    views = next(augment.every(played, front_end, GRID))
    for i in range(3):
        expected = warped(front_end, made.samples[i], float(speeds[i]), float(semitones[i]))
        torch.testing.assert_close(views.references[i], expected, rtol=0, atol=1e-3)


def test_colour_is_a_smooth_gain_over_frequency_the_same_in_every_frame():
    made = batch(2)
    mix = made.mixes[0]
    coloured = replace(made, mixes=(replace(mix, colour=np.full((3, 2, 4), 2, np.float32)),))
    plain, coloured = (augment.views(b, FrontEnd(LogMel()), GRID) for b in (made, coloured))
    # 2 dB of each half cosine cos(pi k (b + 0.5) / 64), k = 1 .. 4; the first bin gets nearly all of it, 4 x 2 dB
    positions = (np.arange(64) + 0.5) / 64
    gain = 2 * sum(np.cos(np.pi * order * positions) for order in (1, 2, 3, 4))
    assert gain[0] == pytest.approx(8.0, abs=0.05)
    for before, after in zip(plain[:2], coloured[:2]):
        expected = torch.from_numpy(gain).float().view(1, 64, 1).expand_as(before)
        torch.testing.assert_close(after - before, expected, rtol=0, atol=1e-4)


FOUR = Pairing(mixes=4, level=(-10.0, 8.0), interferers=0.3)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_first_of_several_mixes_is_nearly_the_mixture_of_the_waveforms(config):
    made, front_end = batch(4, pairing=FOUR), FrontEnd(config)
    by_waveform, by_magnitude = augment.views(made, front_end, GRID), next(augment.every(made, front_end, GRID))
    torch.testing.assert_close(by_magnitude.references, by_waveform.references)
    difference = by_magnitude.queries - by_waveform.queries
    # Noise over noise: phases are unrelated, so bands agree on average and differ cell by cell.
    assert difference.mean().abs() < 0.7
    assert difference.abs().mean() < 3


def test_every_mix_of_a_batch_is_another_and_a_part_of_them_is_the_same():
    made, front_end = batch(4, pairing=FOUR), FrontEnd(LogMel())
    every = list(augment.every(made, front_end, GRID))
    assert len(every) == 4
    assert all(not torch.allclose(a.queries, b.queries, atol=0.5) for a, b in zip(every, every[1:]))
    last = list(augment.every(made, front_end, GRID, part=slice(2, 4)))
    for a, b in zip(last, every[2:], strict=True):
        torch.testing.assert_close(a.queries, b.queries)
    for views, mix in zip(every, made.mixes):
        assert views.covers.tolist() == mix.covers.tolist()


def test_a_batch_that_is_mixed_once_is_mixed_as_waveforms():
    made, front_end = batch(3), FrontEnd(LogMel())
    (only,) = augment.every(made, front_end, GRID)
    assert torch.equal(only.queries, augment.views(made, front_end, GRID).queries)
    assert list(augment.every(made, front_end, GRID, part=slice(1, 1))) == []


def test_effects_change_the_query_view_alone(monkeypatch):
    pairing = Pairing(saturation=1.0, reverb=1.0)
    made, front_end = batch(3, pairing=pairing), FrontEnd(LogMel())
    dry = replace(made, effects=effects.draw(np.random.default_rng(0), Pairing(), 3))
    wet, plain = (augment.views(b, front_end, GRID) for b in (made, dry))
    assert torch.equal(wet.references, plain.references)
    assert (wet.queries - plain.queries).abs().mean(dim=(1, 2)).min() > 0.2
    monkeypatch.setattr(augment, "_PORTION", 1)  # a pair's reverberation does not depend on its neighbours
    torch.testing.assert_close(augment.views(made, front_end, GRID).queries, wet.queries, rtol=0, atol=1e-2)


def test_band_limits_are_of_each_view():
    made, front_end = batch(2), FrontEnd(LogMel())
    limits = np.full((2, 2, 2), np.inf, np.float32)
    limits[0, 1] = 4000, 60  # the reference view of the second pair
    limited = augment.views(replace(made, mixes=(replace(made.mixes[0], limits=limits),)), front_end, GRID)
    plain = augment.views(made, front_end, GRID)
    assert torch.equal(limited.queries, plain.queries)
    assert torch.equal(limited.references[0], plain.references[0])
    above = front_end.config.points()[1:-1] > 4000
    assert (limited.references[1][above] == -100).all()
    assert torch.equal(limited.references[1][~above], plain.references[1][~above])

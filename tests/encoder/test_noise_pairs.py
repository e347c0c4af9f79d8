"""Pairs under noise, found again in the waveforms: which excerpt, how far shifted, under what, how loud, in which room.

Every track is noise of its own, so correlating a view with a track tells whether and from which sample on it is in it.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import fftconvolve

from encoder.segments import SegmentGrid
from encoder.spectrogram import LogMel
from encoder.training import augment, effects, noise, train
from encoder.training.pairing import NoisePairing
from encoder.training.resampled import Resampled, at_rate
from encoder.training.stem_cache import Stem, StemTrack

RATE = 16_000
GRID = SegmentGrid(frame_hop=256, frames=16, step=4, minimum_samples=3840)
N_FFT = 128
WINDOW = 15 * 256 + 128  # 3968 samples
SHIFT = 800  # samples; the default offset of 50 ms


@dataclass
class FakeCache:
    """Stems as arrays (stems, samples) per track, in place of files."""

    stems: list[np.ndarray]

    @property
    def tracks(self):
        return [
            StemTrack(
                track=str(number),
                group=str(number),
                split="train",
                stems=tuple(Stem(name=str(i), start=0, scale=1.0) for i in range(len(stems))),
                length=stems.shape[1],
            )
            for number, stems in enumerate(self.stems)
        ]

    def read(self, track, start, length):
        around = np.pad(self.stems[int(track.track)], ((0, 0), (40_000, 40_000)))
        return around[:, start + 40_000 : start + 40_000 + length].copy()


def tracks(count=4, stems=2):
    rng = np.random.default_rng(0)
    return FakeCache([0.1 * rng.standard_normal((stems, 40_000)).astype(np.float32) for _ in range(count)])


def maker(pairing, cache=None, seed=1):
    return noise.NoisePairMaker(cache or tracks(), pairing, GRID, N_FFT, split="train", seed=seed)


def place(view, track):
    """Where a view lies in a track, in samples, and how much of the view's power that explains."""
    whole = track.sum(axis=0)
    correlation = fftconvolve(whole, view[::-1], mode="valid")
    start = int(np.abs(correlation).argmax())
    part = whole[start : start + len(view)]
    return start, float((part @ view) ** 2 / (part @ part) / (view @ view))


def test_both_views_hold_all_stems_of_one_excerpt_shifted_by_no_more_than_the_offset():
    cache = tracks()
    made = maker(NoisePairing(rooms=0.0), cache).batch(0, 32)
    shifts = []
    for row, track in enumerate(made.tracks):
        start, explained = place(made.references[row], cache.stems[track])
        query, also = place(made.samples[row, made.lead : made.lead + WINDOW], cache.stems[track])
        assert (explained, also) == pytest.approx((1, 1), abs=1e-4)
        shifts.append(query - start)
    assert np.abs(shifts).max() <= SHIFT
    assert len(set(shifts)) > 20
    assert np.abs(shifts).max() > SHIFT / 2  # 32 draws, uniform in both directions


def test_the_background_is_as_far_under_the_excerpt_as_the_snr_says():
    made = maker(NoisePairing(rooms=0.0, babble=0.5)).batch(3, 24)
    mix = made.mixes[0]
    for row in range(24):
        sample = made.samples[row, made.lead : made.lead + WINDOW] * 10 ** (mix.gain[row] / 20)
        background = made.interferences[row, :WINDOW] * mix.factor[0][row]
        snr = 20 * np.log10(np.sqrt(np.mean(sample**2) / np.mean(background**2)))
        assert snr == pytest.approx(mix.gain[row], abs=0.1)
    assert 0 <= mix.gain.min() < 5
    assert 15 < mix.gain.max() <= 20


def test_babble_is_of_other_tracks_and_noise_is_of_none():
    cache = tracks()
    babble = maker(NoisePairing(babble=1.0, voices=1), cache).batch(0, 16)
    for row in range(16):
        cover = babble.mixes[0].covers[row, 0]
        assert cover != babble.tracks[row]
        both, one = cache.stems[cover], babble.interferences[row, :WINDOW]
        alone = [place(one, stems[None])[1] for stems in both]
        assert max(place(one, both)[1], *alone) == pytest.approx(1, abs=1e-4)  # some or all of its stems
    steady = maker(NoisePairing(babble=0.0), cache).batch(0, 16)
    assert (steady.mixes[0].covers == -1).all()
    assert all(place(steady.interferences[0, :WINDOW], stems)[1] < 0.1 for stems in cache.stems)


def test_a_room_is_a_convolution_with_what_was_heard_before_and_keeps_the_loudness():
    made = maker(NoisePairing(rooms=1.0)).batch(0, 8)
    heard = effects.in_room(torch.from_numpy(made.samples), torch.from_numpy(made.responses))
    for row in range(8):
        plain = fftconvolve(made.samples[row], made.responses[row])[: made.samples.shape[1]]
        loud = np.sqrt(np.mean(made.samples[row] ** 2) / np.mean(plain**2))
        np.testing.assert_allclose(heard[row], plain * loud, atol=1e-5)
    # The window begins half a second into the sample, so that its first sample already reverberates.
    assert made.lead == RATE // 2
    cold = fftconvolve(made.samples[0, made.lead :], made.responses[0])[:WINDOW]
    assert not np.allclose(heard[0, made.lead : made.lead + WINDOW], cold, atol=1e-3)


def test_rooms_have_the_direct_sound_first_power_one_and_none_comes_first():
    rooms = noise.responses("", np.random.default_rng(0), sample_rate=RATE)
    np.testing.assert_allclose(np.square(rooms).sum(axis=1), 1, rtol=1e-5)
    assert rooms[0, 0] == 1
    assert (np.abs(rooms).argmax(axis=1) == 0).all()
    never = maker(NoisePairing(rooms=0.0)).batch(0, 8).responses
    assert (never[:, 0] == 1).all()
    assert (maker(NoisePairing(rooms=1.0)).batch(0, 8).responses[:, 0] < 1).all()


def test_views_of_the_device_are_the_clean_and_the_noisy_spectrum():
    front_end = LogMel(n_fft=N_FFT, bins=8).build(sample_rate=RATE, frame_hop=256)
    quiet = replace(NoisePairing(rooms=0.0, offset=0.0), level=(60.0, 60.0))
    views = augment.views(maker(quiet).batch(0, 6), front_end, GRID)
    level = (views.queries - views.references).mean(dim=(1, 2))
    torch.testing.assert_close(level, torch.full((6,), 60.0), atol=0.2, rtol=0)  # the sample's gain, nothing else
    loud = replace(quiet, level=(0.0, 0.0))
    views = augment.views(maker(loud).batch(0, 6), front_end, GRID)
    assert (views.queries - views.references).abs().mean() > 1


def test_a_batch_of_a_seed_is_always_the_same_and_another_seed_makes_another():
    first, again, other = (maker(NoisePairing(), seed=seed).batch(2, 4) for seed in (1, 1, 2))
    for name in ("references", "samples", "interferences", "responses"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_noise_and_rooms_are_read_from_folders(tmp_path):
    rng = np.random.default_rng(0)
    hiss, response = 0.1 * rng.standard_normal(RATE), np.zeros(RATE // 8)
    response[1000], response[1800] = 0.5, 0.25  # direct sound after 1000 samples, then a reflection
    for folder, wave in (("noise", hiss), ("rooms", response)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "one.wav", wave, RATE, subtype="FLOAT")
    pairing = NoisePairing(babble=0.0, rooms=1.0, noises=str(tmp_path / "noise"), responses=str(tmp_path / "rooms"))
    made = maker(pairing).batch(0, 4)
    assert place(made.interferences[0, :WINDOW], hiss[None].astype(np.float32))[1] == pytest.approx(1, abs=1e-4)
    # 0.5 and 0.25 scaled to power 1: 2 / sqrt(5) and 1 / sqrt(5)
    expected = np.zeros(RATE, np.float32)
    expected[0], expected[800] = 2 / 5**0.5, 1 / 5**0.5
    np.testing.assert_allclose(made.responses[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"holds no audio file, expected impulse responses; leave it away"):
        maker(replace(pairing, responses=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    "change",
    [
        dict(gain=5.0), dict(foreign_interference=0.5), dict(whole_reference=0.5), dict(drums=0.2), dict(short=0.4),
        dict(shortest=0.5), dict(chopped=0.2),
    ],
)  # fmt: skip
def test_values_that_noisy_pairs_do_not_read_are_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"pairing: {name} is {value}, which this training has no use for; leave it"):
        maker(NoisePairing(**change))


def test_a_folder_of_silent_noises_is_told(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="holds only silent files, expected background noise; leave it away"):
        maker(NoisePairing(noises=str(tmp_path)))


def test_noise_shorter_than_a_window_is_repeated():
    short = np.arange(3, dtype=np.float32)
    assert noise.cut(np.random.default_rng(0), short, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rooms": 1.5}, "rooms is 1.5, expected a probability"),
        ({"voices": 0}, "voices is 0, expected 1 or more"),
        ({"level": None}, "level is None, expected"),
    ],
)
def test_impossible_pairings_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        NoisePairing(**change)


def test_a_system_learns_from_noisy_pairs(cache, system, tmp_path):
    other = replace(system, pairing=NoisePairing(mixes=2))
    records = list(train.train(cache, other, tmp_path))
    assert len(records) == 2
    assert all(np.isfinite(record.loss) for record in records)


def test_a_cache_at_another_rate_gives_the_same_stretch_wherever_reading_begins():
    time = np.arange(32_000) / RATE
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    cache = FakeCache([tone[None], tone[None]])
    assert at_rate(cache, RATE) is cache
    other = Resampled(cache, 22_050)
    assert other.tracks[0].length == 44_100  # 2 s
    expected = np.sin(2 * np.pi * 440 * np.arange(44_100) / 22_050)
    for start in (5_000, 5_001, 12_345):
        read = other.read(other.tracks[0], start, 3_000)
        assert read.shape == (1, 3_000)
        np.testing.assert_allclose(read[0], expected[start : start + 3_000], atol=2e-3)
    assert not other.read(other.tracks[1], -4_000, 1_000).any()

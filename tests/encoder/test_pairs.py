"""Pairs: equations 6 to 8, found again in the waveforms: which stems, from where, shifted and scaled by how much.

Every stem is noise of its own, so correlating a view with a stem tells whether and from which sample on it is in it.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.signal import fftconvolve

from encoder.segments import SegmentGrid
from encoder.training.pairs import Pairing, PairMaker, _proper_subset
from encoder.training.stem_cache import Stem, StemTrack

GRID = SegmentGrid(frame_hop=256, frames=16, step=4, minimum_samples=3840)
N_FFT = 128
WINDOW = 15 * 256 + 128  # 3968 samples
PAIRING = Pairing(offset=0.02)  # 320 samples either way
LONGEST = 15 * 384 + 128 + 1  # tempo 1.5: 5889 samples
HALF = 2800  # samples; the slowest query view reads 15 x 179.2 + 128 = 2816
AROUND = 8000  # a view may begin before the track and end behind it
FOREIGN = replace(PAIRING, foreign_interference=1.0)


@dataclass
class FakeCache:
    """Stems as arrays (stems, samples) per track, in place of files."""

    stems: list[np.ndarray]
    split: str = "train"
    names: tuple[str, ...] = tuple("0123456789")

    @property
    def tracks(self):
        return [
            StemTrack(
                track=str(number),
                group=str(number),
                split=self.split,
                stems=tuple(Stem(name=self.names[i], start=0, scale=1.0) for i in range(len(stems))),
                length=stems.shape[1],
            )
            for number, stems in enumerate(self.stems)
        ]

    def read(self, track, start, length):
        stems = self.stems[int(track.track)]
        padded = np.pad(stems, ((0, 0), (10_000, 10_000)))
        return padded[:, start + 10_000 : start + 10_000 + length].copy()


def noise(stems, samples=20_000, *, seed=0, levels=None):
    waveforms = np.random.default_rng(seed).standard_normal((stems, samples)).astype(np.float32)
    return waveforms * (0.1 if levels is None else np.array(levels, np.float32)[:, None])


def maker(*stems, pairing=PAIRING, seed=1):
    return PairMaker(FakeCache(list(stems)), pairing, GRID, N_FFT, split="train", seed=seed)


def four_and_three():
    return maker(noise(4, seed=1), noise(3, seed=2))


def placed(view, stems):
    """Where each stem of (stems, samples) lies in a view: {stem: (first sample, gain)} of those that are in it."""
    found = {}
    for number, stem in enumerate(stems):
        if not stem.any():
            continue
        padded = np.pad(stem, AROUND)
        products = fftconvolve(padded, view[::-1], mode="valid")
        start = int(products.argmax())
        energy = np.square(padded[start : start + len(view)]).sum()
        # A stem at -10 dB among three others has correlation 0.18; of unlike noise the largest of 20000 is about
        # 4.3 / sqrt(2800) = 0.08.
        if products[start] > 0.13 * np.sqrt(energy * np.square(view).sum()):
            found[number] = (start - AROUND, products[start] / energy)
    return found


def queries(batch):
    """The query views of the first mix as waveforms, as augment.views mixes them."""
    mix = batch.mixes[0]
    gain = 10 ** (mix.gain[:, None] / 20)
    return gain * batch.samples + mix.factor[0][:, None] * batch.interferences


def cut(stem, start, length):
    return np.pad(stem, AROUND)[start + AROUND : start + AROUND + length]


def test_the_batch_of_a_number_is_always_the_same_and_no_other():
    first, again, other = four_and_three().batch(3, 8), four_and_three().batch(3, 8), four_and_three().batch(4, 8)
    for name in ("references", "samples", "interferences", "tempo", "transposition", "tracks", "moments"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for values, repeated in zip(vars(first.mixes[0]).values(), vars(again.mixes[0]).values()):
        np.testing.assert_array_equal(values, repeated)
    assert not np.array_equal(first.samples, other.samples)
    assert not np.array_equal(first.tempo, maker(noise(4, seed=1), noise(3, seed=2), seed=2).batch(3, 8).tempo)


def test_shapes_and_types_are_as_told():
    batch = four_and_three().batch(0, 5)
    assert batch.references.shape == (5, WINDOW)
    assert batch.samples.shape == batch.interferences.shape == (5, LONGEST)
    assert all(v.dtype == np.float32 for v in (batch.references, batch.samples, batch.interferences, batch.tempo))
    assert batch.tracks.dtype == np.int64
    assert (batch.moments.tolist(), len(batch.mixes)) == ([0] * 5, 1)


def test_equations_6_to_8_hold_sample_by_sample():
    pairs = four_and_three()
    batch = pairs.batch(0, 40)
    gains, shifts, sizes = [], [], set()
    for reference, query, track in zip(batch.references, queries(batch), batch.tracks):
        stems = pairs.cache.stems[track]
        sampled = placed(reference, stems)  # S_q
        others = set(range(len(stems))) - set(sampled)  # S_r
        sizes.add((len(stems), len(sampled)))
        assert 0 < len(sampled) < len(stems)
        (start,) = {at for at, _ in sampled.values()}
        np.testing.assert_allclose(reference, sum(cut(stems[i], start, WINDOW) for i in sampled), atol=1e-6)

        heard = placed(query[:HALF], stems)
        (covering,) = {heard[i][0] for i in others}
        (shifted,) = {heard[i][0] for i in sampled}
        x_q = sum(cut(stems[i], shifted, HALF) for i in sampled)
        mixed = sum(cut(stems[i], covering, HALF) for i in others)
        rest = query[:HALF] - mixed
        gain = rest @ x_q / (x_q @ x_q)
        np.testing.assert_allclose(rest, gain * x_q, atol=1e-5)  # x_r = gain * shift(x_q) + sum of S_r
        gains.append(20 * np.log10(gain))
        shifts.append(shifted - covering)
    assert sizes == {(4, 1), (4, 2), (4, 3), (3, 1), (3, 2)}
    # Uniform in +-10 dB and +-320 samples: of 40 draws the extremes lie in the outer fifth, and none outside.
    assert -10.001 <= min(gains) < -6
    assert 6 < max(gains) <= 10.001
    assert -320 <= min(shifts) < -192
    assert 192 < max(shifts) <= 320


def test_both_views_share_their_middle_whatever_the_tempo():
    pairs = four_and_three()
    batch = pairs.batch(0, 40)
    for reference, query, track, tempo in zip(batch.references, queries(batch), batch.tracks, batch.tempo):
        stems = pairs.cache.stems[track]
        sampled = placed(reference, stems)
        used = round(15 * 256 * float(tempo)) + N_FFT  # what FrontEnd.warped reads, from the first sample on
        (covering,) = {at for i, (at, _) in placed(query[:used], stems).items() if i not in sampled}
        middle = next(iter(sampled.values()))[0] + WINDOW / 2
        assert abs(covering + used / 2 - middle) <= 1


def test_a_replayed_track_is_played_otherwise_in_both_views():
    sounds = [noise(3, 30_000, seed=s) for s in (1, 2)]
    batch = maker(*sounds, pairing=replace(PAIRING, replayed=0.5, tempo=(0.9, 1.1))).batch(0, 60)
    tempo, semitones = batch.replayed
    asis = tempo == 1
    assert 15 < asis.sum() < 45
    assert not semitones[asis].any()
    assert 0.85 <= tempo.min() < 0.9
    assert 1.1 < tempo.max() <= 1.18
    assert -4 <= semitones.min() < -3
    assert 3 < semitones.max() <= 4
    # Between the views lies what would lie there without it.
    assert (np.abs(np.log(batch.tempo / tempo)) <= np.log(1.1) + 0.01).all()
    assert (np.abs(batch.transposition - semitones) <= 3).all()
    for reference, speed in zip(batch.references, tempo):
        read = round(15 * 256 * float(speed)) + N_FFT
        assert np.any(reference[read - 50 : read])
        assert not np.any(reference[read:])


def test_what_a_replayed_track_shows_has_its_middle_where_the_query_view_has_it():
    pairs = maker(noise(4, seed=1), noise(3, seed=2), pairing=replace(PAIRING, offset=0.0, replayed=1.0))
    batch = pairs.batch(0, 30)
    sides = zip(batch.references, queries(batch), batch.tracks, batch.replayed[0], batch.tempo)
    for reference, query, track, tempo, speed in sides:
        stems, (shown, heard) = pairs.cache.stems[track], (round(15 * 256 * float(t)) + N_FFT for t in (tempo, speed))
        sampled = placed(reference[:shown], stems)
        (covering,) = {at for i, (at, _) in placed(query[:heard], stems).items() if i not in sampled}
        assert abs(covering + heard / 2 - next(iter(sampled.values()))[0] - shown / 2) <= 1


def test_every_partition_is_as_likely():
    rng = np.random.default_rng(0)
    masks = [tuple(_proper_subset(rng, 3)) for _ in range(6000)]
    counts = [masks.count(mask) for mask in set(masks)]
    assert len(counts) == 6  # 2^3 less nothing and everything
    assert min(counts) > 850  # 1000 each, standard deviation 29


def test_tempo_and_transposition_are_both_drawn_for_every_pair_from_their_whole_range():
    batch = four_and_three().batch(0, 500)
    assert 0.7 <= batch.tempo.min() < 0.71
    assert 1.48 < batch.tempo.max() <= 1.5
    assert -3 <= batch.transposition.min() < -2.9
    assert 2.9 < batch.transposition.max() <= 3
    # Log-uniform: the median is sqrt(0.7 * 1.5) = 1.025
    assert np.median(batch.tempo) == pytest.approx(1.025, abs=0.05)
    assert np.mean((np.abs(batch.tempo - 1) > 0.02) & (np.abs(batch.transposition) > 0.1)) > 0.9
    assert not batch.mixes[0].colour.any()


def test_stems_far_under_the_mix_are_left_out():
    # -7 dB is heard, -41 dB is not
    levels = [0.1, 0.05, 0.001]
    pairs = maker(*(noise(3, seed=s, levels=levels) for s in (1, 2)), pairing=replace(PAIRING, gain=5.0))
    batch = pairs.batch(0, 20)
    for reference, query, track in zip(batch.references, queries(batch), batch.tracks):
        stems, first = pairs.cache.stems[track], query[:HALF]
        (sampled,) = placed(reference, stems[:2])
        start = placed(reference, stems[:2])[sampled][0]
        np.testing.assert_allclose(reference, cut(stems[sampled], start, WINDOW), atol=1e-7)
        heard = [cut(stems[i], at, len(first)) for i, (at, _) in placed(first, stems[:2]).items()]
        assert len(heard) == 2
        gains = np.linalg.lstsq(np.transpose(heard), first, rcond=None)[0]
        np.testing.assert_allclose(gains @ heard, first, atol=1e-5)


def test_a_moment_at_which_nothing_is_heard_is_passed_over():
    stems = noise(2, 100_000)
    stems[:, 20_000:] = 0
    pairs = maker(stems, noise(2, seed=5))
    batch = pairs.batch(0, 30)
    assert (np.sqrt(np.square(batch.references).mean(axis=1)) > 1e-3).all()


def test_a_silent_track_is_replaced_and_the_batch_says_by_which():
    silent = np.zeros((2, 20_000), np.float32)
    pairs = maker(silent, noise(2, seed=1), noise(2, seed=2))
    batch = pairs.batch(0, 12)
    assert set(batch.tracks.tolist()) == {1, 2}
    for reference, track in zip(batch.references, batch.tracks):
        assert placed(reference, pairs.cache.stems[track])


def test_a_cache_of_nothing_but_silence_is_refused():
    silent = np.zeros((2, 20_000), np.float32)
    with pytest.raises(ValueError, match="50 tracks in a row are silent"):
        maker(silent, silent).batch(0, 2)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_foreign_interference_comes_with_its_probability(probability):
    pairs = maker(noise(3, seed=1), noise(3, seed=2), pairing=replace(PAIRING, foreign_interference=probability))
    batch = pairs.batch(0, 120)
    foreign = [bool(placed(query, pairs.cache.stems[1 - track])) for query, track in zip(queries(batch), batch.tracks)]
    # Standard deviation of the share of 120: at most 0.042
    assert np.mean(foreign) == pytest.approx(probability, abs=0.13 if 0 < probability < 1 else 0)


def test_foreign_interference_is_as_loud_as_the_sample_before_its_gain():
    pairs = maker(noise(1, seed=1), noise(1, seed=2, levels=[0.001]), pairing=replace(FOREIGN, gain=0.0))
    batch = pairs.batch(0, 10)
    for query, track in zip(queries(batch), batch.tracks):
        mine, theirs = (placed(query[:HALF], pairs.cache.stems[number])[0][1] for number in (track, 1 - track))
        levels = (0.1, 0.001) if track == 0 else (0.001, 0.1)
        assert mine == pytest.approx(1, abs=0.1)
        assert theirs * levels[1] == pytest.approx(levels[0], rel=0.15)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_the_reference_is_the_whole_mix_with_its_probability(probability):
    pairs = maker(noise(3, seed=1), noise(3, seed=2), pairing=replace(FOREIGN, whole_reference=probability))
    batch = pairs.batch(0, 120)
    sizes = [len(placed(r, pairs.cache.stems[track])) for r, track in zip(batch.references, batch.tracks)]
    # Half of the samples are the whole mix anyway: 0.5 + 0.5 p
    assert np.mean(np.array(sizes) == 3) == pytest.approx(0.5 + 0.5 * probability, abs=0.15 if probability < 1 else 0)
    assert all(set(placed(q, pairs.cache.stems[t])) for q, t in zip(queries(batch), batch.tracks))


def test_tracks_of_one_stem_are_sampled_under_other_tracks():
    pairs = maker(noise(1, seed=1), noise(1, seed=2))
    batch = pairs.batch(0, 10)
    for reference, query, track in zip(batch.references, queries(batch), batch.tracks):
        assert placed(reference, pairs.cache.stems[track])
        assert placed(query, pairs.cache.stems[1 - track])


def test_where_the_other_track_is_silent_the_sample_is_heard_alone():
    pairs = maker(noise(1, seed=1), np.zeros((1, 20_000), np.float32))
    batch = pairs.batch(0, 4)
    assert np.isfinite(queries(batch)).all()
    assert batch.tracks.tolist() == [0] * 4


def test_a_track_shorter_than_the_window_is_padded():
    grid = replace(GRID, sample_rate=500)  # a second is enough to take part
    pairs = PairMaker(FakeCache([noise(2, 700), noise(2, 700)]), PAIRING, grid, N_FFT, split="train", seed=1)
    batch = pairs.batch(0, 4)
    assert (batch.references[:, 700:] == 0).all()
    assert (batch.references[:, :700] != 0).all()


def test_a_track_occurs_once_in_a_batch_as_long_as_there_are_enough():
    pairs = maker(*(noise(1, seed=s) for s in range(6)))
    assert sorted(pairs.batch(0, 6).tracks.tolist()) == list(range(6))
    assert len(pairs.batch(0, 20).tracks) == 20


def test_only_tracks_of_the_split_and_of_a_second_or_more_take_part():
    cache = FakeCache([noise(1), noise(1), noise(1, 15_999)], split="validation")
    assert len(PairMaker(cache, PAIRING, GRID, N_FFT, split="validation", seed=1).tracks) == 2
    with pytest.raises(ValueError, match="0 tracks of a second or more in split 'train', expected at least 2"):
        PairMaker(cache, PAIRING, GRID, N_FFT, split="train", seed=1)


def test_varispeed_transposes_by_the_tempo():
    batch = maker(noise(2), noise(2, seed=5), pairing=replace(PAIRING, varispeed=1.0)).batch(0, 8)
    assert np.allclose(batch.transposition, 12 * np.log2(batch.tempo), atol=1e-5)


def test_short_samples_are_cut_from_the_reference_view_before_they_are_shifted():
    pairing = replace(PAIRING, short=1.0, shortest=0.05, offset=0.0)  # the window is 0.248 s
    batch = maker(noise(2), noise(2, seed=5), pairing=pairing).batch(0, 40)
    sounding = (batch.samples != 0).mean(1)
    assert (sounding < 0.5).sum() > 10  # about half are not looped, of median sqrt(0.05 x 0.248) = 0.11 s in 0.37 s
    alone = batch.samples[sounding < 0.3]
    for reference, sample in zip(batch.references[sounding < 0.3], alone):
        part = sample[np.flatnonzero(sample)[0] + 80 : np.flatnonzero(sample)[-1] - 80]  # without its fades
        assert np.abs(fftconvolve(reference, part[::-1], mode="valid")).max() == pytest.approx(part @ part, rel=1e-3)


def test_loudness_is_that_of_the_sample_before_it_is_shortened():
    pairing = replace(PAIRING, short=1.0, shortest=0.05, level=(0.0, 0.0), offset=0.0)
    batch = maker(noise(1, seed=1), noise(1, seed=2, levels=[0.01]), pairing=pairing).batch(0, 20)
    # Noise of RMS 0.1 over noise of RMS 0.01 or the other way round: factors 10 and 0.1
    expected = np.where(batch.tracks == 0, 10.0, 0.1)
    np.testing.assert_allclose(batch.mixes[0].factor[0], expected, rtol=0.1)


@pytest.mark.parametrize("foreign", [0.0, 1.0])
def test_drums_alone_are_sampled_where_there_are_drums_beside_others(foreign):
    pairing = replace(PAIRING, offset=0.0, drums=1.0, foreign_interference=foreign)
    cache = FakeCache([noise(4, seed=1), noise(3, seed=2)], names=("lead", "drums", "percussion", "bass"))
    batch = PairMaker(cache, pairing, GRID, N_FFT, split="train", seed=1).batch(0, 12)
    for reference, track in zip(batch.references, batch.tracks):
        assert set(placed(reference, cache.stems[track])) == {1, 2}
    only = FakeCache([noise(2, seed=1), noise(2, seed=2)], names=("drums", "percussion"))
    whole = PairMaker(only, replace(pairing, foreign_interference=1.0), GRID, N_FFT, split="train", seed=1)
    sizes = {len(placed(r, only.stems[t])) for r, t in zip(whole.batch(0, 12).references, whole.batch(0, 12).tracks)}
    assert sizes == {1, 2}  # nothing but drums: any stems, as ever

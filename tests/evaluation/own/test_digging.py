"""Digging: what is taken of a track, and where it is cut."""

import numpy as np
import pytest
import soundfile

from evaluation.own import digging, recipe
from evaluation.own.material import Material, Silent
from evaluation.own.survey import Track

RATE = 22_050
SECONDS = 20.0


def tone(hz: float = 330.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(SECONDS * RATE)) / RATE)


def clicks(level: float = 0.5) -> np.ndarray:
    """A burst of noise every half second, from 0.1 s on."""
    wave = np.zeros(round(SECONDS * RATE))
    burst = level * np.random.default_rng(0).standard_normal(RATE // 20) * np.linspace(1, 0, RATE // 20)
    for place in range(RATE // 10, len(wave) - len(burst), RATE // 2):
        wave[place : place + len(burst)] += burst
    return wave


@pytest.fixture
def track(tmp_path):
    """``track(mix=wave, drums=wave)``: a track on disk with the given stems."""

    def make(**waves: np.ndarray) -> Material:
        paths = {name: tmp_path / f"{name}.wav" for name in waves}
        for name, wave in waves.items():
            soundfile.write(paths[name], wave, RATE)
        about = Track(id="t", form="stems", files=(), family="f", artist="", title="", duration=None, further=False)
        return Material(track=about, mix=paths.pop("mix"), duration=SECONDS, stems=paths)

    return make


def dug(material: Material, seed: int = 0, **decisions) -> digging.Dug:
    drawn = recipe.draw(np.random.default_rng(0))
    drawn = type(drawn)(**{**vars(drawn), "beat": False, "length": 4.0, **decisions})
    return digging.dig(material, drawn, sample_rate=RATE, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(2))
def test_an_excerpt_of_music_with_a_beat_lasts_whole_beats_and_begins_on_one(track, seed):
    excerpt = dug(track(mix=clicks() + 0.1 * tone()), seed)
    beats = (excerpt.end - excerpt.start) / 0.5
    assert beats == pytest.approx(8, abs=0.1)  # 4 s at 120 a minute
    after = (excerpt.start - 0.1) % 0.5  # the beat lies within 40 ms behind the cut
    assert after > 0.46 or after < 0.02


@pytest.mark.parametrize("seconds", [1.2, 3.0, 12.0])
def test_without_a_beat_it_is_about_as_long_as_wanted(track, seconds):
    excerpt = dug(track(mix=tone()), length=seconds)
    assert 0.55 * seconds < excerpt.end - excerpt.start < 1.75 * seconds
    assert 1.2 <= excerpt.end - excerpt.start <= 12.0


def test_the_wave_is_what_lies_in_the_track_from_start_to_end(track):
    mix = np.random.default_rng(1).uniform(-0.5, 0.5, round(SECONDS * RATE))
    excerpt = dug(track(mix=mix))
    first = round(excerpt.start * RATE)
    assert np.allclose(excerpt.wave, mix[first : first + len(excerpt.wave)], atol=1e-4)
    assert (excerpt.end - excerpt.start) * RATE == pytest.approx(len(excerpt.wave))


def test_a_tone_is_a_riff_and_bursts_are_a_beat(track):
    assert digging.percussive_share(tone()[: 4 * RATE].astype(np.float32)) < 0.1
    assert digging.percussive_share(clicks()[: 4 * RATE].astype(np.float32)) > 0.8
    assert dug(track(mix=tone())).sample_type == "riff"
    assert dug(track(mix=clicks() + 0.01 * tone())).sample_type == "beat"


def test_a_wanted_beat_is_the_stem_of_drums(track):
    excerpt = dug(track(mix=clicks() + tone(), drums=clicks(), lead=tone()), beat=True)
    assert excerpt.stems == ("drums",)
    assert excerpt.sample_type == "beat"


def test_a_wanted_beat_is_taken_out_of_a_mix_that_is_somewhat_percussive(track):
    excerpt = dug(track(mix=clicks(0.25) + tone()), beat=True)
    assert excerpt.stems == (digging.PERCUSSIVE_PART,)
    assert excerpt.sample_type == "beat"
    assert digging.percussive_share(excerpt.wave) > 0.6


def test_where_no_beat_is_to_be_had_it_is_a_riff(track):
    assert dug(track(mix=tone()), beat=True).sample_type == "riff"


def test_a_stem_that_is_not_heard_in_the_mix_is_not_taken(track):
    quiet = 0.05 * tone(200)  # 26 dB under the mix, and loud enough by itself
    material = track(mix=tone() + quiet, lead=quiet)
    taken = [dug(material, seed).stems for seed in range(4)]
    assert set(taken) == {()}


def test_riffs_are_taken_from_stems_and_from_the_mix(track):
    material = track(mix=tone() + tone(200), lead=tone(200), drums=clicks())
    assert {dug(material, seed).stems for seed in range(6)} == {("lead",), ()}


def test_silence_is_refused(track):
    with pytest.raises(Silent, match="is silent in all 8 places looked at"):
        dug(track(mix=0 * tone()))

"""Material: a track's audio, its stems, and any part of it."""

from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from encoder import audio
from encoder.audio import AudioError
from evaluation.own import listing, material, survey
from evaluation.own.listing import Music

RATE = 16_000


def write(path: Path, seconds: float, hz: float = 440.0, *, level: float = 0.3, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, wave, rate)
    return path


def surveyed(folder: Path, **options) -> survey.Survey:
    return survey.look(listing.read(Music(path=folder)), (), **{"shortest": 15.0, **options})


def ready(track: survey.Track, cache: Path, **options) -> material.Material:
    defaults = {"with_stems": True, "sample_rate": 22_050, "shortest": 15.0, "longest": 30.0}
    return material.make_ready(track, cache, **{**defaults, **options})


def test_a_silent_recording_is_found_out(tmp_path):
    write(tmp_path / "silent.wav", 20, level=0.0)
    (track,) = surveyed(tmp_path).tracks
    with pytest.raises(AudioError, match="is silent, expected music"):
        ready(track, tmp_path / "cache")


def test_a_recording_is_used_where_it_lies(tmp_path):
    write(tmp_path / "a.wav", 20)
    (track,) = surveyed(tmp_path).tracks
    made = ready(track, tmp_path / "cache")
    assert made.mix == tmp_path / "a.wav"
    assert made.duration == 20.0
    assert not (tmp_path / "cache").exists()


def test_stems_are_summed_cut_and_kept(tmp_path):
    write(tmp_path / "song" / "drums.wav", 40, 200, level=0.2)
    write(tmp_path / "song" / "bass.wav", 40, 100, level=0.3)
    (track,) = surveyed(tmp_path).tracks
    made = ready(track, tmp_path / "cache")
    assert sorted(made.stems) == ["bass", "drums"]
    assert made.duration == 30.0
    waves = {name: soundfile.read(path)[0] for name, path in {**made.stems, "mix": made.mix}.items()}
    assert np.allclose(waves["mix"], waves["bass"] + waves["drums"], atol=1e-4)
    before = made.mix.stat().st_mtime_ns
    assert ready(track, tmp_path / "cache").mix.stat().st_mtime_ns == before
    assert not ready(track, tmp_path / "cache", with_stems=False).stems


def test_a_part_is_what_lies_there_at_the_wanted_rate(tmp_path):
    # At 1 s the tone changes from 500 to 1000 Hz; from 1.5 s on, 0.5 s hold 500 periods of 1000 Hz.
    wave = np.concatenate([np.sin(2 * np.pi * hz * np.arange(RATE) / RATE) for hz in (500, 1000)])
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave], axis=1), RATE)
    part = material.read_part(tmp_path / "a.wav", 1.5, 0.5, sample_rate=22_050)
    assert part.start == 1.5
    assert len(part.wave) == 11_025
    assert np.argmax(np.abs(np.fft.rfft(part.wave))) == 500  # bins of 2 Hz


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_part_lies_where_the_whole_has_it(tmp_path, suffix):
    wave = np.random.default_rng(0).standard_normal(20 * RATE)
    smooth = np.convolve(0.1 * wave, np.ones(8) / 8, "same")  # what lossy formats keep
    soundfile.write(tmp_path / f"a.{suffix}", smooth, RATE)
    whole = audio.read(tmp_path / f"a.{suffix}", sample_rate=RATE)
    part = material.read_part(tmp_path / f"a.{suffix}", 7.3, 2.0, sample_rate=RATE)
    first = round(part.start * RATE)
    assert np.allclose(part.wave[200:], whole[first + 200 : first + len(part.wave)], atol=1e-3)


def test_a_truncated_recording_is_found_out(tmp_path):
    whole = write(tmp_path / "whole.flac", 20).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    tracks = {track.id: track for track in surveyed(tmp_path).tracks}
    with pytest.raises(AudioError, match="cut.flac: (is truncated|cannot be decoded)"):
        ready(tracks["cut.flac"], tmp_path / "cache")


@pytest.mark.skipif(survey.midi_renderer().missing != "", reason="fluidsynth or its soundfont is not installed")
def test_midi_files_are_rendered_with_stems_where_they_are_sampled(tmp_path):
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    for channel, note in ((9, 36), (0, 60)):
        hits = [mido.Message("note_on", channel=channel, note=note, velocity=100)]
        hits += [mido.Message("note_on", channel=channel, note=note, velocity=100, time=480) for _ in range(31)]
        file.tracks.append(mido.MidiTrack(hits))  # 32 quarters at 120 a minute: 16 s
    file.save(tmp_path / "song.mid")
    (track,) = surveyed(tmp_path).tracks
    made = ready(track, tmp_path / "cache")
    assert sorted(made.stems) == ["drums", "lead"]
    assert made.duration > 15
    mix_only = ready(track, tmp_path / "cache", with_stems=False)
    assert not mix_only.stems
    assert mix_only.mix.read_bytes() == made.mix.read_bytes()


@pytest.mark.skipif(survey.midi_renderer().missing != "", reason="fluidsynth or its soundfont is not installed")
def test_another_soundfont_gives_another_rendering(tmp_path, monkeypatch):
    (tmp_path / "other.sf2").symlink_to(material.midi.find_soundfont())
    mido.MidiFile(type=1).save(tmp_path / "song.mid")
    used = []

    def render(path, *, soundfont, **_):
        used.append(soundfont)
        return {"lead": np.full(30 * RATE, 0.1 * len(used), np.float32)}

    monkeypatch.setattr(material.midi, "render", render)
    (track,) = surveyed(tmp_path).tracks
    given = (None, tmp_path / "other.sf2", None)
    mixes = [ready(track, tmp_path / "cache", soundfont=soundfont).mix for soundfont in given]
    assert used == list(given[:2])  # the third was there
    assert mixes[0] == mixes[2] != mixes[1]


def test_a_part_beyond_the_end_goes_as_far_as_the_file(tmp_path):
    write(tmp_path / "a.wav", 2)
    assert len(material.read_part(tmp_path / "a.wav", 1.5, 3.0, sample_rate=None).wave) == RATE // 2

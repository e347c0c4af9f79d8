"""Material: what can be used of listed music, with families, audio and stems."""

import shutil
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from encoder import audio
from encoder.audio import AudioError
from encoder.training.sources import StemFile
from evaluation import listing, material, survey
from evaluation.listing import Music

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


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    write(tmp_path / "good.wav", 20)
    write(tmp_path / "short.wav", 3)
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    shutil.copy(tmp_path / "good.wav", tmp_path / "twin.wav")
    found = surveyed(tmp_path)
    assert [track.id for track in found.tracks] == ["good.wav"]
    assert found.left_out["short.wav"] == "short.wav: lasts 3.0 s, expected at least 15 s"
    assert found.left_out["twin.wav"] == "is the same file as good.wav"
    assert found.left_out["broken.wav"].startswith("broken.wav: ")


def test_a_listed_file_that_is_missing_is_left_out(tmp_path):
    write(tmp_path / "good.wav", 20)
    (tmp_path / "list.txt").write_text("good.wav\ngone.wav\n")
    found = surveyed(tmp_path / "list.txt")
    assert [track.id for track in found.tracks] == ["good.wav"]
    assert "no such file" in found.left_out["gone.wav"]


def test_midi_files_are_left_out_where_fluidsynth_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "song.mid").write_bytes(b"MThd")
    monkeypatch.setattr(survey.shutil, "which", lambda program: None)
    assert "fluidsynth is not installed; install" in surveyed(tmp_path).left_out["song.mid"]


def test_tracks_of_one_group_or_one_artist_are_one_family_also_through_others(tmp_path):
    rows = ["a,A,Ann,g1,a.wav", "b,B,Ann,g2,b.wav", "c,C,Cem,g2,c.wav", "d,D,Dea,g3,d.wav"]
    (tmp_path / "manifest.csv").write_text("id,title,artist,group,file\n" + "\n".join(rows) + "\n")
    for number, name in enumerate("abcd"):
        write(tmp_path / f"{name}.wav", 20, 300 + number)
    family = {track.id: track.family for track in surveyed(tmp_path).tracks}
    assert family["a"] == family["b"] == family["c"] != family["d"]  # a-b by artist, b-c by group


def test_without_artists_folders_are_families_and_files_at_the_top_are_their_own(tmp_path):
    for number, name in enumerate(("x/1.wav", "x/2.wav", "3.wav", "4.wav")):
        write(tmp_path / name, 20, 300 + number)
    family = [track.family for track in surveyed(tmp_path).tracks]  # by id: 3, 4, x/1, x/2
    assert family[2] == family[3]
    assert len(set(family)) == 3


def test_further_music_that_is_among_the_music_is_not_taken_twice(tmp_path):
    write(tmp_path / "a.wav", 20)
    listed = listing.read(Music(path=tmp_path))
    found = survey.look(listed, listed, shortest=15.0)
    assert [track.further for track in found.tracks] == [False]
    assert not found.left_out


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


def test_a_part_beyond_the_end_goes_as_far_as_the_file(tmp_path):
    write(tmp_path / "a.wav", 2)
    assert len(material.read_part(tmp_path / "a.wav", 1.5, 3.0, sample_rate=None).wave) == RATE // 2


def test_reasons_do_not_tell_folders(tmp_path):
    file = StemFile(stem="mix", path=tmp_path / "a.wav")
    assert survey.reason(AudioError(file.path, "is silent"), [file]) == "a.wav: is silent"

"""Material: what can be used of listed music, with families, audio and stems."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from encoder.audio import AudioError
from encoder.training.sources import StemFile
from evaluation import listing, material
from evaluation.listing import Music

RATE = 16_000


def write(path: Path, seconds: float, hz: float = 440.0, *, level: float = 0.3, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, wave, rate)
    return path


def surveyed(folder: Path, **options) -> material.Survey:
    return material.survey(listing.read(Music(path=folder)), (), **{"shortest": 15.0, **options})


def ready(track: material.Track, cache: Path, **options) -> material.Material:
    defaults = {"with_stems": True, "sample_rate": 22_050, "shortest": 15.0, "longest": 30.0}
    return material.make_ready(track, cache, **{**defaults, **options})


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    write(tmp_path / "good.wav", 20)
    write(tmp_path / "short.wav", 3)
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    shutil.copy(tmp_path / "good.wav", tmp_path / "twin.wav")
    survey = surveyed(tmp_path)
    assert [track.id for track in survey.tracks] == ["good.wav"]
    assert survey.left_out["short.wav"] == "short.wav: lasts 3.0 s, expected at least 15 s"
    assert survey.left_out["twin.wav"] == "is the same file as good.wav"
    assert survey.left_out["broken.wav"].startswith("broken.wav: ")


def test_a_listed_file_that_is_missing_is_left_out(tmp_path):
    write(tmp_path / "good.wav", 20)
    (tmp_path / "list.txt").write_text("good.wav\ngone.wav\n")
    survey = surveyed(tmp_path / "list.txt")
    assert [track.id for track in survey.tracks] == ["good.wav"]
    assert "no such file" in survey.left_out["gone.wav"]


def test_midi_files_are_left_out_where_fluidsynth_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "song.mid").write_bytes(b"MThd")
    monkeypatch.setattr(material.shutil, "which", lambda program: None)
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
    survey = material.survey(listed, listed, shortest=15.0)
    assert [track.further for track in survey.tracks] == [False]
    assert not survey.left_out


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


def test_a_part_beyond_the_end_goes_as_far_as_the_file(tmp_path):
    write(tmp_path / "a.wav", 2)
    assert len(material.read_part(tmp_path / "a.wav", 1.5, 3.0, sample_rate=None).wave) == RATE // 2


def test_reasons_do_not_tell_folders(tmp_path):
    file = StemFile(stem="mix", path=tmp_path / "a.wav")
    assert material.reason(AudioError(file.path, "is silent"), [file]) == "a.wav: is silent"

"""Survey: what can be used of listed music, what is left out and why, and who belongs together."""

import shutil
from pathlib import Path

import numpy as np
import soundfile

from encoder.audio import AudioError
from encoder.training.sources import StemFile
from evaluation.own import listing, survey
from evaluation.own.listing import Music

RATE = 16_000


def write(path: Path, seconds: float, hz: float = 440.0, *, level: float = 0.3, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, wave, rate)
    return path


def surveyed(folder: Path, **options) -> survey.Survey:
    return survey.look(listing.read(Music(path=folder)), (), **{"shortest": 15.0, **options})


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


def test_reasons_do_not_tell_folders(tmp_path):
    file = StemFile(stem="mix", path=tmp_path / "a.wav")
    assert survey.reason(AudioError(file.path, "is silent"), [file]) == "a.wav: is silent"

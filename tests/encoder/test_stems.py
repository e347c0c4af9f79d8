"""Preparation: a folder of music becomes a stem cache, one record per source, whatever the sources are like."""

import shutil

import numpy as np
import pytest
import soundfile

from encoder.training import beats, midi, stems
from encoder.training.beats import Beats
from encoder.training.stem_cache import StemCache
from encoder.training.stems import StemSettings, prepare

ALL = StemSettings(min_beats=0)


def write(path, *, seconds=1.0, amplitude=0.5, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, amplitude * np.sin(2 * np.pi * 440 * times), rate)


def run(directory, out, **options):
    options.setdefault("settings", ALL)
    return {record.track: record for record in prepare(directory, out, **options)}


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    write(folder / "htdemucs/7/vocals.flac", seconds=1.0)
    write(folder / "htdemucs/7/drums.flac", seconds=0.75, amplitude=0.25)
    write(folder / "htdemucs/7/bass.flac", amplitude=0.0)
    write(folder / "Ann/song.wav", seconds=2.0, rate=44_100)
    write(folder / "Ann/short.wav", seconds=0.25)
    write(folder / "Ann/silence.wav", amplitude=0.0)
    (folder / "Ann/text.wav").write_text("no audio")
    (folder / "Ann/text.mid").write_text("no music")
    return folder


def test_good_sources_are_stored_and_bad_ones_are_records_with_their_reason(music, tmp_path):
    records = run(music, tmp_path / "out")
    assert {track: (record.status, record.stems, record.seconds) for track, record in records.items()} == {
        "7": ("stored", ("drums", "vocals"), 1.0),  # the bass is silent
        "Ann/song.wav": ("stored", ("mix",), 2.0),
        "Ann/short.wav": ("failed", (), 0.0),
        "Ann/silence.wav": ("left out", (), 0.0),
        "Ann/text.wav": ("failed", (), 0.0),
        "Ann/text.mid": ("failed", (), 0.0),
    }
    assert "expected at least 0.5 s" in records["Ann/short.wav"].reason
    assert "is silent" in records["Ann/silence.wav"].reason
    assert sorted(record.position for record in records.values()) == [1, 2, 3, 4, 5, 6]
    assert {record.total for record in records.values()} == {6}


def test_stems_are_aligned_and_keep_their_level(music, tmp_path):
    run(music, tmp_path / "out")
    cache = StemCache.open(tmp_path / "out")
    (track,) = (track for track in cache.tracks if track.track == "7")
    drums, vocals = cache.read(track, 0, track.length)
    assert (len(drums), track.kind, track.split) == (16_000, "multitrack", "train")
    assert np.abs(vocals).max() == pytest.approx(0.5, abs=1e-3)
    assert np.abs(drums).max() == pytest.approx(0.25, abs=1e-3)
    assert not drums[12_000:].any()  # 0.75 s of drums, then padding


def test_a_second_run_stores_only_what_is_new(music, tmp_path, monkeypatch):
    run(music, tmp_path / "out")
    write(music / "Ann/new.wav")
    before = (tmp_path / "out/audio.i16").read_bytes()
    records = run(music, tmp_path / "out")
    assert {track for track, record in records.items() if record.status == "present"} == {"7", "Ann/song.wav"}
    assert [track for track, record in records.items() if record.status == "stored"] == ["Ann/new.wav"]
    after = (tmp_path / "out/audio.i16").read_bytes()
    assert after[: len(before)] == before
    assert len(after) - len(before) == 2 * 16_000  # one second


def test_a_run_that_was_broken_off_keeps_its_tracks_and_is_gone_on_with(music, tmp_path):
    running = prepare(music, tmp_path / "out", settings=ALL)
    while next(running).status != "stored":
        pass
    running.close()
    assert len(StemCache.open(tmp_path / "out")) == 1
    run(music, tmp_path / "out")
    assert len(StemCache.open(tmp_path / "out")) == 2


def test_only_the_splits_asked_for_are_prepared(tmp_path):
    for name in "ab":
        write(tmp_path / f"music/{name}.wav")
    (tmp_path / "music/manifest.csv").write_text("id,file,split\na,a.wav,train\nb,b.wav,test\n")
    assert set(run(tmp_path / "music", tmp_path / "out", splits={"train"})) == {"a"}
    with pytest.raises(ValueError, match="no recordings, stems or MIDI files of split validation"):
        prepare(tmp_path / "music", tmp_path / "out", splits={"validation"})


def test_a_track_with_too_few_beats_is_left_out(music, tmp_path, monkeypatch):
    # A beat each half second from the start: 1 s has beats at 0 and 0.5, 2 s also at 1 and 1.5.
    def each_half_second(waveform, sample_rate):
        times = np.arange(0, len(waveform) / sample_rate, 0.5)
        return Beats(beats=times, downbeats=times[:1])

    monkeypatch.setattr(beats, "tracker", lambda **options: each_half_second)
    records = run(music, tmp_path / "out", settings=StemSettings(min_beats=3))
    assert records["Ann/song.wav"].status == "stored"  # 3 beats after the first
    assert records["7"].status == "left out"
    assert records["7"].reason.endswith("has 1 beats after the first downbeat, expected 3 or more")


def test_recordings_are_separated_where_asked_and_single_stems_never_are(tmp_path, monkeypatch):
    write(tmp_path / "music/song.wav")
    write(tmp_path / "music/kick.wav")
    (tmp_path / "music/manifest.csv").write_text("id,file,kind\nsong,song.wav,song\nkick,kick.wav,oneshot\n")
    waveform = np.full(16_000, 0.5, np.float32)
    monkeypatch.setattr(stems, "_separator", lambda settings: lambda path, sample_rate: dict.fromkeys("vd", waveform))
    records = run(tmp_path / "music", tmp_path / "out")
    assert {track: record.stems for track, record in records.items()} == {"song": ("v", "d"), "kick": ("mix",)}


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not any(path.is_file() for path in midi.SOUNDFONTS),
    reason="fluidsynth or Debian's FluidR3_GM soundfont is not installed",
)
def test_midi_files_are_rendered_into_the_cache(tmp_path):
    import mido

    drums = mido.MidiTrack([mido.Message("note_on", channel=9, note=36), mido.Message("note_off", note=36, time=480)])
    lead = mido.MidiTrack([mido.Message("note_on", note=72), mido.Message("note_off", note=72, time=480)])
    (tmp_path / "music").mkdir()
    mido.MidiFile(tracks=[drums, lead]).save(tmp_path / "music/tune.mid")
    record = run(tmp_path / "music", tmp_path / "out")["tune.mid"]
    assert (record.status, record.stems) == ("stored", ("drums", "lead"))
    assert StemCache.open(tmp_path / "out").tracks[0].kind == "midi"


def test_a_folder_without_music_and_a_soundfont_that_is_missing_are_told_at_once(music, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no recordings, stems or MIDI files; check"):
        prepare(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(midi.MidiError, match="no soundfont"):
        prepare(music, tmp_path / "out", settings=StemSettings(min_beats=0, soundfont=tmp_path / "gone.sf2"))


@pytest.mark.parametrize("wrong", [{"min_beats": -1}, {"workers": 0}, {"time_limit": 0.0}])
def test_impossible_settings_are_refused_with_value_and_expectation(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*, expected"):
        StemSettings(**wrong)

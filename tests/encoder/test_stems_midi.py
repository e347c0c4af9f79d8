"""MIDI files are split by voice, and the stems add up to the piece."""

import shutil

import mido
import numpy as np
import pytest

from encoder.training import midi
from encoder.training.midi import MidiError

needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not any(path.is_file() for path in midi.SOUNDFONTS),
    reason="fluidsynth or Debian's FluidR3_GM soundfont is not installed",
)


def staff(channel, program, notes, *, ends=True):
    """One staff: quarter notes one after the other, 480 ticks each (half a second at 120 beats per minute)."""
    track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
    for note in notes:
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=100))
        track.append(mido.Message("note_off" if ends else "control_change", channel=channel, time=480, **(
            {"note": note} if ends else {"control": 1, "value": 0})))  # fmt: skip
    return track


def song(path, *staves):
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    file.tracks.extend(staves)
    file.save(path)
    return path


def notes_of(file):
    return [message.note for message in file.tracks[0] if message.type == "note_on" and message.velocity > 0]


@pytest.fixture
def band(tmp_path):
    return song(
        tmp_path / "band.mid",
        staff(9, 0, [36, 38, 36, 38]),
        staff(0, 33, [40, 43]),  # finger bass
        staff(1, 80, [72, 74, 76, 77, 79, 81]),  # square lead: most onsets, and high
        staff(2, 0, [60, 64]),  # piano
        staff(3, 48, [55, 57]),  # strings
        staff(4, 61, [62]),  # brass
    )


def test_voices_go_to_their_stems_and_no_note_is_lost(band):
    stems = midi.split(band)
    assert {name: notes_of(file) for name, file in stems.items()} == {
        "drums": [36, 38, 36, 38],
        "bass": [40, 43],
        "lead": [72, 74, 76, 77, 79, 81],
        "chords": [60, 64],
        "pads": [55, 57],
        "other": [62],
    }


def test_two_hands_on_one_channel_are_two_voices(tmp_path):
    stems = midi.split(song(tmp_path / "tune.mid", staff(0, 0, [72, 74, 76]), staff(0, 0, [48, 50, 52])))
    # Three onsets each; mean pitch 74 against 50.
    assert {name: notes_of(file) for name, file in stems.items()} == {"lead": [72, 74, 76], "chords": [48, 50, 52]}


def test_a_note_ends_in_the_stem_it_began_in_though_the_program_changed(tmp_path):
    track = mido.MidiTrack(
        [
            mido.Message("program_change", program=33),
            mido.Message("note_on", note=40, velocity=90),
            mido.Message("program_change", program=0, time=240),
            mido.Message("note_off", note=40, time=240),
            mido.Message("note_on", note=70, velocity=90),
            mido.Message("note_on", note=70, velocity=0, time=480),
        ]
    )
    stems = midi.split(song(tmp_path / "change.mid", track))
    ends = [m.note for m in stems["bass"].tracks[0] if m.type == "note_off"]
    assert (list(stems), notes_of(stems["bass"]), ends) == (["bass", "lead"], [40], [40])


def test_all_stems_share_tempo_and_timeline(tmp_path):
    lead = staff(1, 80, [72, 74])
    lead.insert(0, mido.MetaMessage("set_tempo", tempo=1_000_000))  # 60 beats per minute
    stems = midi.split(song(tmp_path / "slow.mid", lead, staff(0, 33, [40])))
    # The tempo stands on the lead's staff, yet the bass's one quarter note lasts a second too (0.5 s without it).
    assert {name: file.length for name, file in stems.items()} == {"bass": 1.0, "lead": 2.0}


def test_a_broken_a_missing_and_an_empty_file_are_told_apart(tmp_path):
    (tmp_path / "text.mid").write_text("no music in here")
    (tmp_path / "void.mid").write_bytes(b"")
    whole = song(tmp_path / "whole.mid", staff(0, 0, range(40, 80))).read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[: len(whole) // 2])
    for name in ("text.mid", "void.mid", "cut.mid"):
        with pytest.raises(MidiError, match=f"{name}: is not a readable MIDI file"):
            midi.split(tmp_path / name)
    with pytest.raises(MidiError, match="no such file"):
        midi.split(tmp_path / "none.mid")
    with pytest.raises(MidiError, match="holds no notes"):
        midi.split(song(tmp_path / "rest.mid", staff(0, 0, [])))


def test_without_fluidsynth_or_soundfont_the_cure_is_named(band, monkeypatch, tmp_path):
    with pytest.raises(MidiError, match=r"no soundfont .*gone.sf2; install the package fluid-soundfont-gm"):
        midi.find_soundfont(tmp_path / "gone.sf2")
    monkeypatch.setattr(midi.shutil, "which", lambda program: None)
    with pytest.raises(MidiError, match="not installed; install the packages fluidsynth and fluid-soundfont-gm"):
        midi.render(band)


@needs_fluidsynth
def test_rendered_stems_hold_their_notes_and_sum_to_the_level_asked_for(tmp_path):
    stems = midi.render(song(tmp_path / "two.mid", staff(0, 33, [33] * 4), staff(1, 73, [81] * 4)))
    assert set(stems) == {"bass", "lead"}
    # A1 is 55 Hz and A5 880 Hz: 0.5 s bins of 2 Hz, so bins near 27 and 440, or an octave above for the flute's and
    # the bass's first overtone.
    for name, pitch in (("bass", 55), ("lead", 880)):
        spectrum = np.abs(np.fft.rfft(stems[name][:8000]))
        strongest = 2 * int(spectrum.argmax())
        assert min(abs(strongest - pitch * harmonic) for harmonic in (1, 2, 3)) <= 6
    length = max(map(len, stems.values()))
    mix = sum(np.pad(stem, (0, length - len(stem))) for stem in stems.values())
    assert np.abs(mix).max() == pytest.approx(0.9, abs=1e-5)
    assert 2 * 16_000 <= length < 8 * 16_000  # four half seconds and the release


@needs_fluidsynth
def test_a_note_that_never_ends_is_ended_with_its_track(tmp_path):
    # An organ note sounds for as long as it is held.
    (stem,) = midi.render(song(tmp_path / "hanging.mid", staff(0, 19, [60, 62], ends=False)), time_limit=20).values()
    assert len(stem) < 8 * 16_000


@needs_fluidsynth
def test_the_time_limit_ends_a_rendering(band):
    with pytest.raises(MidiError, match=r"band.mid: still rendering after 0 s"):
        midi.render(band, time_limit=0.001)


def test_an_arrangement_has_the_same_stems_but_another_band_key_and_tempo(tmp_path):
    song = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    track.append(mido.Message("program_change", channel=0, program=0))
    for channel, note in ((0, 60), (9, 36)):
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=90, time=0))
        track.append(mido.Message("note_off", channel=channel, note=note, time=480))
    song.tracks.append(track)
    song.save(tmp_path / "song.mid")

    written, again, other = (midi.split(tmp_path / "song.mid", arrangement=n) for n in (0, 3, 4))
    assert written.keys() == again.keys() == other.keys() == {"drums", "lead"}
    assert _facts(midi.split(tmp_path / "song.mid", arrangement=3)["lead"]) == _facts(again["lead"])  # the same number
    assert len({_facts(stems["lead"]) for stems in (written, again, other)}) == 3
    assert {_drums(stems["drums"]) for stems in (written, again, other)} == {(36,)}  # drums keep their notes


def _facts(stem):
    kinds = {"program_change": "program", "note_on": "note", "set_tempo": "tempo"}
    return tuple((m.type, getattr(m, kinds[m.type])) for m in stem.tracks[0] if m.type in kinds)


def _drums(stem):
    return tuple(m.note for m in stem.tracks[0] if m.type == "note_on")

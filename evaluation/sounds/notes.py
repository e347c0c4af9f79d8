"""Notes: a labelled collection of sounds that anyone can render, from the General MIDI programs of a soundfont.

Label is the cluster of the instrument, by how its tone is made: ours, no listener was asked. Technique is the program,
or of drums the key, whatever soundfont and kit it is of; sound effects are left out. Each program plays every
combination of pitch, velocity and length, each kit every key at each velocity; a sound is one note, 1.2 s at most.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import mido
import numpy as np
import soundfile
from numpy.typing import NDArray

from encoder.training import midi
from evaluation.sounds import listing
from evaluation.sounds.listing import Row

# General MIDI programs, counted from 0, by how their tone is made.
CLUSTERS = {
    "piano": (0, 1, 2, 3, 4, 5),
    "bells": (8, 9, 10, 11, 14, 98, 112),
    "mallets": (12, 13, 108, 114),
    "organ": (16, 17, 18, 19, 20, 21, 22, 23),
    "plucked": (6, 7, 15, 24, 25, 26, 27, 28, 31, 45, 46, 104, 105, 106, 107),
    "bass": (32, 33, 34, 35, 36, 37, 38, 39),
    "bowed": (40, 41, 42, 43, 44, 48, 49, 50, 51, 110),
    "voice": (52, 53, 54, 85, 91),
    "brass": (56, 57, 58, 59, 60, 61, 62, 63),
    "reed": (64, 65, 66, 67, 68, 69, 70, 71, 109, 111),
    "pipe": (72, 73, 74, 75, 76, 77, 78, 79),
    "lead": (29, 30, 80, 81, 82, 83, 84, 86, 87),
    "pad": (88, 89, 90, 92, 93, 94, 95, 96, 97, 99, 100, 101, 102, 103),
    "tom": (47, 116, 117, 118),
    "block": (113, 115),
    "cymbal": (119,),
}
# Keys of General MIDI drum kits.
DRUMS = {
    "kick": (35, 36),
    "snare": (37, 38, 39, 40),
    "hat": (42, 44, 46),
    "cymbal": (49, 51, 52, 53, 55, 57, 59),
    "tom": (41, 43, 45, 47, 48, 50),
    "hand-drum": (60, 61, 62, 63, 64, 65, 66),
    "shaken": (54, 58, 69, 70, 73, 74),
    "block": (56, 67, 68, 75, 76, 77, 80, 81),
}
_LABELS = {program: label for label, programs in CLUSTERS.items() for program in programs}
_DRUM_LABELS = {key: label for label, keys in DRUMS.items() for key in keys}
_DRUM_CHANNEL = 9  # counted from 0
_LENGTHS = {"short": 0.12, "long": 0.8}  # seconds
_APART, _KEPT = 1.6, 1.2  # seconds from note to note, and of each that are kept
_TICKS, _TEMPO = 1000, 1_000_000  # ticks a beat, microseconds a beat: a tick is a millisecond
_SILENCE = 1e-4  # peak, of a loudest note at 0.9


@dataclass(frozen=True, kw_only=True)
class NoteSettings:
    """What is rendered."""

    programs: tuple[int, ...] = tuple(sorted(_LABELS))  # counted from 0
    kits: tuple[int, ...] = (0, 8, 16, 24, 25, 32, 40)  # programs of the drum channel
    pitches: tuple[int, ...] = (48, 55, 60, 67)  # MIDI numbers
    velocities: tuple[int, ...] = (50, 110)
    soundfont: Path | None = None  # None: Debian's General MIDI soundfont
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.programs) - set(_LABELS)):
            raise ValueError(
                f"notes: programs hold {unknown[0]}, expected some of 0 to 119 but 55, which have a cluster"
            )
        for name in ("kits", "pitches", "velocities"):
            if wrong := [value for value in getattr(self, name) if not 0 <= value <= 127]:
                raise ValueError(f"notes: {name} hold {wrong[0]}, expected numbers from 0 to 127")

    @property
    def voices(self) -> tuple["Voice", ...]:
        """Who plays, one after the other."""
        played = product(self.pitches, self.velocities, _LENGTHS)
        notes = tuple(Note(pitch=p, velocity=v, length=length) for p, v, length in played)
        struck = product(sorted(_DRUM_LABELS), self.velocities)
        strokes = tuple(Note(pitch=key, velocity=v, length="short") for key, v in struck)
        return (
            *(Voice(program=program, drums=False, notes=notes) for program in self.programs),
            *(Voice(program=kit, drums=True, notes=strokes) for kit in self.kits),
        )


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note of a program."""

    pitch: int
    velocity: int
    length: str  # of _LENGTHS

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.pitch}-{self.velocity}-{self.length}"


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A program, or a kit of drums, and what it plays."""

    program: int
    drums: bool
    notes: tuple[Note, ...]

    @property
    def name(self) -> str:
        """Of the mark that it has been rendered."""
        return f"kit-{self.program}" if self.drums else f"{self.program:03d}"

    def file(self, note: Note, soundfont: Path) -> Path:
        """cluster/technique/sound.flac."""
        if self.drums:
            name = f"{soundfont.stem}-{self.name}-{note.velocity}.flac"
            return Path(_DRUM_LABELS[note.pitch], f"key-{note.pitch}", name)
        return Path(_LABELS[self.program], self.name, f"{soundfont.stem}-{note.name}.flac")


def write(directory: Path, settings: NoteSettings) -> Iterator[Voice]:
    """Render into cluster/technique/, yield each voice that is there, and write the table of all that is there.

    What has been rendered is kept, so a killed run goes on, and another soundfont adds to it. MidiError where
    fluidsynth or the soundfont is missing.
    """
    soundfont = midi.find_soundfont(settings.soundfont)
    for voice in settings.voices:
        whole = directory / ".rendered" / f"{soundfont.stem}-{voice.name}"
        if not whole.exists():
            _render(voice, directory, soundfont, settings.sample_rate)
            whole.parent.mkdir(exist_ok=True)
            whole.touch()
        yield voice
    found = sorted(directory.glob("*/*/*.flac"))
    listing.write(directory, [Row(path, path.parts[-3], path.parts[-2]) for path in found])


def score(voice: Voice) -> mido.MidiFile:
    """The notes one after the other on one channel."""
    on = dict(channel=_DRUM_CHANNEL if voice.drums else 0)
    tempo, chosen = (
        mido.MetaMessage("set_tempo", tempo=_TEMPO),
        mido.Message("program_change", program=voice.program, **on),
    )
    track = mido.MidiTrack([tempo, chosen])
    for note in voice.notes:
        length = round(1000 * _LENGTHS[note.length])
        track.append(mido.Message("note_on", note=note.pitch, velocity=note.velocity, time=0, **on))
        track.append(mido.Message("note_off", note=note.pitch, time=length, **on))
        track.append(mido.Message("control_change", control=7, value=100, time=round(1000 * _APART) - length, **on))
    song = mido.MidiFile(type=0, ticks_per_beat=_TICKS)
    song.tracks.append(track)
    return song


def cut(wave: NDArray[np.float32], notes: Sequence[Note], sample_rate: int) -> Iterator[tuple[Note, NDArray]]:
    """Each note that sounds, with its samples."""
    for number, note in enumerate(notes):
        start = round(number * _APART * sample_rate)
        sound = wave[start : start + round(_KEPT * sample_rate)]
        if np.abs(sound).max(initial=0.0) > _SILENCE:
            yield note, sound


def _render(voice: Voice, directory: Path, soundfont: Path, sample_rate: int) -> None:
    with tempfile.TemporaryDirectory(prefix="asid-notes-") as place:
        song = Path(place) / "notes.mid"
        score(voice).save(song)
        stems = midi.render(song, sample_rate=sample_rate, soundfont=soundfont)
    for note, sound in cut(np.sum(list(stems.values()), axis=0), voice.notes, sample_rate):
        path = directory / voice.file(note, soundfont)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, sample_rate)

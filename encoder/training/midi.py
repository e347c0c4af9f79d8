"""MIDI: one multi-track MIDI file -> up to six aligned stems, rendered with fluidsynth.

Every note belongs to the stem of its voice: its staff (the MIDI file's own track), channel and program. Each stem is
written as a MIDI file of its own that keeps all tempo, program and controller events, so that the stems share one
timeline and sum to the piece:

    drums    channel 10
    bass     General MIDI programs 33-40, contrabass, tuba, bass lead
    lead     the busiest of the remaining voices, high ones preferred
    chords   pianos, chromatic percussion, organs, guitars
    pads     strings, ensembles, synthesiser pads
    other    everything else

An arrangement is the same piece for another band: every program is exchanged for another of its stem, all but the
drums are transposed together, and tempo changes by up to a fifth.
"""

import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np
import soundfile
from numpy.typing import NDArray

SUFFIXES = frozenset({".mid", ".midi"})
SOUNDFONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), Path("/usr/share/sounds/sf2/default-GM.sf2"))

_DRUM_CHANNEL = 9  # counted from 0
# Programs counted from 0.
_BASS = frozenset(range(32, 40)) | {43, 58, 87}
_CHORDS = frozenset(range(32))
_PADS = frozenset(range(40, 56)) | frozenset(range(88, 96))
_KITS = (0, 8, 16, 24, 25, 32, 40)  # General MIDI level 2 drum kits
_CHANNELS = range(16)
_PEAK = 0.9  # of the sum of the stems


class Voice(NamedTuple):
    """What one player plays; two hands on one channel are two voices."""

    staff: int
    channel: int
    program: int


class MidiError(ValueError):
    """No stems from a MIDI file; the message names the reason and the cure."""


@dataclass(frozen=True)
class _Event:
    """A message at its time; notes carry the voice they sound in."""

    tick: int
    message: mido.Message
    voice: Voice | None  # None for everything but notes

    @property
    def starts_note(self) -> bool:
        return self.voice is not None and self.message.type == "note_on" and self.message.velocity > 0


def render(
    path: Path,
    *,
    sample_rate: int = 16_000,
    soundfont: Path | None = None,
    time_limit: float = 120.0,
    arrangement: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Stems of a MIDI file by name, each (samples,) mono; together they peak at 0.9. Arrangement 0 is as written.

    ``time_limit`` bounds fluidsynth in seconds per stem, since a broken file may never end. Raises MidiError where
    the file cannot be read, holds no notes or takes longer, and where fluidsynth or a soundfont is missing.
    """
    fluidsynth, soundfont = _fluidsynth(), find_soundfont(soundfont)
    with tempfile.TemporaryDirectory(prefix="asid-midi-") as folder:
        waveforms = {}
        for name, song in split(path, arrangement=arrangement).items():
            score, sound = Path(folder) / "stem.mid", Path(folder) / "stem.wav"
            song.save(score)
            command = [fluidsynth, "-ni", "-q", "-g", "0.5", "-r", str(sample_rate), "-O", "float", "-T", "wav"]
            # Loads only the instruments a stem needs: a fifth of the start-up time.
            command += ["-o", "synth.dynamic-sample-loading=1", "-F", str(sound), str(soundfont), str(score)]
            waveforms[name] = _run(command, sound, path, time_limit)
    return _level(waveforms, path)


def find_soundfont(given: Path | None = None) -> Path:
    """The soundfont given, else Debian's General MIDI one; raises MidiError where there is none."""
    for soundfont in [Path(given)] if given else SOUNDFONTS:
        if soundfont.is_file():
            return soundfont
    wanted = given or SOUNDFONTS[0]
    raise MidiError(f"no soundfont {wanted}; install the package fluid-soundfont-gm or name another .sf2 file")


def split(path: Path, *, arrangement: int = 0) -> dict[str, mido.MidiFile]:
    """One MIDI file per stem, all on the timeline of the whole; raises MidiError."""
    song = _parsed(path)
    if arrangement:
        rearrange(song, np.random.default_rng([arrangement, *path.stem.encode()]))
    events = list(_with_voices(song))
    lead = _busiest(events)
    stems = {event.voice: _stem_name(event.voice, lead) for event in events if event.voice is not None}
    sounding = {stems[event.voice] for event in events if event.starts_note}
    if not sounding:
        raise MidiError(f"{path}: holds no notes, expected at least one")
    order = ("drums", "bass", "lead", "chords", "pads", "other")
    return {
        name: _only(song, [event for event in events if event.voice is None or stems[event.voice] == name])
        for name in order
        if name in sounding
    }


def rearrange(song: mido.MidiFile, rng: np.random.Generator) -> None:
    """Give the song another band, key (up to five semitones) and tempo (up to a fifth), in place.

    One that states no tempo keeps the usual one, and drums that state no kit are played by a program of the band's.
    """
    programs = {program: int(rng.choice(sorted(_family(program)))) for program in range(128)}
    kit, semitones, pace = int(rng.choice(_KITS)), int(rng.integers(-5, 6)), float(rng.uniform(0.8, 1.25))
    changed = {message.channel for track in song.tracks for message in track if message.type == "program_change"}
    for message in (message for track in song.tracks for message in track):
        drums = getattr(message, "channel", None) == _DRUM_CHANNEL
        if message.type == "program_change":
            message.program = kit if drums else programs[message.program]
        elif message.type in ("note_on", "note_off") and not drums:
            message.note = int(np.clip(message.note + semitones, 0, 127))
        elif message.type == "set_tempo":
            message.tempo = round(message.tempo / pace)
    first = [mido.Message("program_change", channel=c, program=programs[0]) for c in _CHANNELS if c not in changed]
    song.tracks.insert(0, mido.MidiTrack(first))


def _family(program: int) -> frozenset[int]:
    """Programs that may take this one's part: those of its stem, noises left out."""
    for family in (_BASS, _CHORDS, _PADS):
        if program in family:
            return family
    return frozenset(range(56, 120)) - _BASS - _PADS


def _parsed(path: Path) -> mido.MidiFile:
    try:
        return mido.MidiFile(path, clip=True)
    except FileNotFoundError as error:
        raise MidiError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
        # mido has no error of its own: a broken file surfaces as whatever its parser ran into.
        raise MidiError(f"{path}: is not a readable MIDI file ({error or type(error).__name__})") from error


def _with_voices(song: mido.MidiFile) -> Iterator[_Event]:
    """All events in order; the end of a note belongs to the voice that began it, whatever the program is by then."""
    program = dict.fromkeys(_CHANNELS, 0)
    begun: dict[tuple[int, int, int], Voice] = {}
    for tick, staff, message in _merged(song):
        voice = None
        if message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            voice = Voice(staff, message.channel, program[message.channel])
            begun[staff, message.channel, message.note] = voice
        elif message.type in ("note_on", "note_off"):
            voice = begun.get((staff, message.channel, message.note))
            if voice is None:
                continue  # ends a note that never began
        yield _Event(tick, message, voice)


def _merged(song: mido.MidiFile) -> list[tuple[int, int, mido.Message]]:
    """(tick, staff, message) of all staves in time order, without their ends."""
    messages = []
    for staff, track in enumerate(song.tracks):
        tick = 0
        for message in track:
            tick += message.time
            if message.type != "end_of_track":
                messages.append((tick, staff, message))
    return sorted(messages, key=lambda item: item[0])  # stable: simultaneous messages keep the order of the staves


@dataclass
class _Line:
    onsets: set[int] = field(default_factory=set)
    pitches: list[int] = field(default_factory=list)


def _busiest(events: Iterable[_Event]) -> Voice | None:
    """The voice with most onsets, weighted by its mean pitch; neither drums nor bass."""
    lines: dict[Voice, _Line] = defaultdict(_Line)
    for event in events:
        if event.starts_note and event.voice.channel != _DRUM_CHANNEL and event.voice.program not in _BASS:
            lines[event.voice].onsets.add(event.tick)
            lines[event.voice].pitches.append(event.message.note)
    return max(lines, key=lambda voice: len(lines[voice].onsets) * np.mean(lines[voice].pitches), default=None)


def _stem_name(voice: Voice, lead: Voice | None) -> str:
    if voice.channel == _DRUM_CHANNEL:
        return "drums"
    if voice.program in _BASS:
        return "bass"
    if voice == lead:
        return "lead"
    return "chords" if voice.program in _CHORDS else "pads" if voice.program in _PADS else "other"


def _only(song: mido.MidiFile, events: list[_Event]) -> mido.MidiFile:
    track, last = mido.MidiTrack(), 0
    for event in events:
        track.append(event.message.copy(time=event.tick - last))
        last = event.tick
    for channel in _CHANNELS:  # hanging notes would sound, and render, for ever: pedal up, all notes off
        track.append(mido.Message("control_change", channel=channel, control=64, value=0))
        track.append(mido.Message("control_change", channel=channel, control=123, value=0))
    stem = mido.MidiFile(type=0, ticks_per_beat=song.ticks_per_beat)
    stem.tracks.append(track)
    return stem


def _fluidsynth() -> str:
    program = shutil.which("fluidsynth")
    if program is None:
        raise MidiError(
            "MIDI files are rendered with fluidsynth, which is not installed; install the packages fluidsynth and "
            "fluid-soundfont-gm and run the same command again"
        )
    return program


def _run(command: list[str], sound: Path, path: Path, time_limit: float) -> NDArray[np.float32]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=time_limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MidiError(f"{path}: still rendering after {time_limit:.0f} s; leave it out or raise the limit") from error
    if done.returncode or not sound.is_file():
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise MidiError(f"{path}: fluidsynth gave no audio ({reason})")
    audio, _ = soundfile.read(sound, dtype="float32", always_2d=True)  # (samples, channels)
    sound.unlink()
    return audio.mean(axis=1)


def _level(waveforms: dict[str, NDArray[np.float32]], path: Path) -> dict[str, NDArray[np.float32]]:
    mix = np.zeros(max(map(len, waveforms.values())), np.float32)
    for waveform in waveforms.values():
        mix[: len(waveform)] += waveform
    peak = np.abs(mix).max(initial=0.0)
    if peak == 0:
        raise MidiError(f"{path}: renders to silence; check its volume controllers and the soundfont")
    return {name: waveform * np.float32(_PEAK / peak) for name, waveform in waveforms.items()}

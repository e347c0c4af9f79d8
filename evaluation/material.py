"""Material: listed music -> tracks to make a benchmark of: usable ones, with their families, audio and stems.

Tracks of one family (group, artist) may share motifs. Headers are read of everything; only what a benchmark uses is
looked into, and MIDI files and the sums of stems are rendered only then, once for all benchmarks of a cache folder.
"""

import hashlib
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from encoder import audio, truncation
from encoder.audio import AudioError
from encoder.training import midi
from encoder.training.midi import MidiError
from encoder.training.sources import Form, StemFile
from evaluation.listing import Listed

VERSION = 1  # of what is rendered here; raise it whenever a change here changes a sample
_SILENCE = 1e-3  # of full scale; a track whose looked-at parts stay under it is silent
_PEAK = 0.99  # of a sum of stems
_LOOK = 2.0  # seconds looked at in three places of a recording
_MIDI_LIMIT = 600.0  # seconds of wall time per stem: a busy machine must not decide what is in a benchmark


@dataclass(frozen=True, kw_only=True)
class Track:
    """One track as its header tells."""

    id: str
    form: Form
    files: tuple[StemFile, ...]
    family: str  # tracks of one may share material
    artist: str
    title: str
    duration: float | None  # seconds; None where only rendering tells
    further: bool  # from the source that may give distractors only


@dataclass(frozen=True, kw_only=True)
class Material:
    """A track ready to be used."""

    track: Track
    mix: Path
    duration: float  # seconds
    stems: Mapping[str, Path] = field(default_factory=dict)


class Silent(ValueError):
    """A track is silent wherever it was looked at."""

    def __init__(self, track: Track, places: int) -> None:
        super().__init__(f"is silent in all {places} places looked at, expected music")
        self.track = track


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the listed music offers; everything listed is in one of the two."""

    tracks: tuple[Track, ...]  # by id
    left_out: Mapping[str, str]  # id -> reason


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a file at a sample rate of one's own."""

    wave: NDArray[np.float32]  # (samples,) mono
    start: float  # seconds in the file, exactly


def survey(music: Sequence[Listed], further: Sequence[Listed], *, shortest: float) -> Survey:
    """The tracks that can be used as far as headers tell; `further` may not become more than distractors.

    Left out are what no header is read of, what lasts less than `shortest` seconds, MIDI files where fluidsynth or a
    soundfont is missing, and files whose bytes another one has.
    """
    tracks: list[Track] = []
    left_out: dict[str, str] = {}
    among = {listed.source.path for listed in music}
    further = [listed for listed in further if listed.source.path not in among]
    twins = _twins([file for listed in (*music, *further) for file in listed.source.files])
    renderer = midi_renderer()
    for listed, is_further in [*((one, False) for one in music), *((one, True) for one in further)]:
        path = listed.source.path
        if path in twins:
            left_out.setdefault(listed.source.track, f"is the same file as {twins[path].name}")
            continue
        try:
            tracks.append(_probed(listed, is_further, shortest, renderer))
        except (AudioError, MidiError) as error:
            left_out[listed.source.track] = reason(error, listed.source.files)
    return Survey(tracks=tuple(_with_families(tracks)), left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """What renders MIDI files here."""

    soundfont: str  # name and bytes
    missing: str = ""  # what is not installed, with the cure


def midi_renderer() -> Renderer:
    """What is installed of fluidsynth and a soundfont."""
    if shutil.which("fluidsynth") is None:
        missing = "is a MIDI file, and fluidsynth is not installed; install fluidsynth and fluid-soundfont-gm"
        return Renderer(soundfont="", missing=missing)
    try:
        soundfont = midi.find_soundfont()
    except MidiError as error:
        return Renderer(soundfont="", missing=f"is a MIDI file, but there is {error}")
    return Renderer(soundfont=f"{soundfont.name} {soundfont.stat().st_size}")


def reason(error: ValueError, files: Sequence[StemFile]) -> str:
    """An error's message without the folders of the files, which may differ between two machines."""
    message = str(error)
    for file in files:
        message = message.replace(str(file.path), file.path.name)
    return message


def _twins(files: Sequence[StemFile]) -> dict[Path, Path]:
    """File -> an earlier one with the same bytes."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in dict.fromkeys(file.path for file in files):
        if file.is_file():
            by_size[file.stat().st_size].append(file)
    twins: dict[Path, Path] = {}
    for same_size in by_size.values():
        first: dict[str, Path] = {}
        for file in same_size if len(same_size) > 1 else []:
            with file.open("rb") as content:
                original = first.setdefault(hashlib.file_digest(content, "sha256").hexdigest(), file)
            if original != file:
                twins[file] = original
    return twins


def _probed(listed: Listed, further: bool, shortest: float, renderer: Renderer) -> Track:
    source, artist, duration = listed.source, listed.source.artist, None
    if source.form == "midi":
        if renderer.missing:
            raise MidiError(renderer.missing)
    else:
        about = [audio.info(file.path) for file in source.files]
        duration = max(one.duration for one in about)
        if duration < shortest:
            raise AudioError(source.path, f"lasts {duration:.1f} s, expected at least {shortest:g} s")
        artist = artist or ("" if listed.described else about[0].artist)
    # A manifest knows group and artist; elsewhere the artist counts, and only without one the place.
    group = f"group {source.group}" if listed.described or not artist else ""
    return Track(
        id=source.track, form=source.form, files=source.files, family=group, artist=artist,
        title=source.title, duration=duration, further=further,
    )  # fmt: skip


def _with_families(tracks: Iterable[Track]) -> list[Track]:
    """Tracks that share a group or an artist, directly or through others, become one family, named by its first key."""
    ordered = sorted(tracks, key=lambda track: (track.id, track.further))
    keys = [[key for key in (t.family, t.artist and f"artist {t.artist.casefold()}") if key] for t in ordered]
    leader: dict[str, str] = {}

    def family(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for first, *others in keys:
        for other in others:
            low, high = sorted((family(first), family(other)))
            leader[high] = low
    return [replace(track, family=family(own[0])) for track, own in zip(ordered, keys, strict=True)]


# -- making ready -----------------------------------------------------------------------------------------------


def make_ready(
    track: Track, cache: Path, *, with_stems: bool, sample_rate: int, shortest: float, longest: float
) -> Material:
    """A track with files to read from; MIDI files and sums of stems are rendered into `cache`, cut to `longest` s.

    Raises AudioError or MidiError where it turns out to be unusable: unreadable, truncated, silent, too short.
    """
    if track.form == "recording":
        duration = _looked_at(track.files[0].path)
        return Material(track=track, mix=track.files[0].path, duration=duration)
    folder = cache / track.form / _digest(track, with_stems, sample_rate, longest)
    if not (folder / "mix.flac").is_file():
        _write_stems(folder, _stems(track, sample_rate), with_stems, sample_rate, longest)
    duration = audio.info(folder / "mix.flac").duration
    if duration < shortest:
        raise AudioError(track.files[0].path, f"lasts {duration:.1f} s, expected at least {shortest:g} s")
    stems = {path.stem: path for path in sorted(folder.glob("*.flac")) if path.stem != "mix"}
    return Material(track=track, mix=folder / "mix.flac", duration=duration, stems=stems)


def _looked_at(path: Path) -> float:
    """Duration in seconds of a recording whose beginning, middle and end sound; raises AudioError."""
    duration = audio.info(path).duration
    places = (0.0, max(0.0, duration / 2 - _LOOK / 2), max(0.0, duration - _LOOK - 0.5))
    peaks = [np.abs(read_part(path, place, _LOOK, sample_rate=None).wave).max(initial=0.0) for place in places]
    if not np.isfinite(peaks).all():
        raise AudioError(path, "holds samples that are NaN or infinite, expected finite audio")
    if max(peaks) < _SILENCE:
        raise AudioError(path, "is silent, expected music")
    return duration


def _digest(track: Track, *settings: object) -> str:
    digest = hashlib.sha256(f"{VERSION} {settings}".encode())
    for file in track.files:
        digest.update(file.stem.encode())
        if track.form == "midi":
            digest.update(file.path.read_bytes() + midi_renderer().soundfont.encode())
        else:
            stat = file.path.stat()
            digest.update(f"{file.path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def _stems(track: Track, sample_rate: int) -> dict[str, NDArray[np.float32]]:
    if track.form == "midi":
        return midi.render(track.files[0].path, sample_rate=sample_rate, time_limit=_MIDI_LIMIT)
    return {file.stem: audio.read(file.path, sample_rate=sample_rate) for file in track.files}


def _write_stems(
    folder: Path, stems: Mapping[str, NDArray[np.float32]], with_stems: bool, sample_rate: int, longest: float
) -> None:
    """Stems (a tenth of a gigabyte for ten songs) and their sum; it is written last, so that where it is, all is."""
    length = min(max(map(len, stems.values())), round(longest * sample_rate))
    mix = np.zeros(length, np.float32)
    for wave in stems.values():
        mix[: len(wave)] += wave[:length]
    gain = np.float32(min(1.0, _PEAK / max(float(np.abs(mix).max(initial=0.0)), 1e-9)))
    for name, wave in {**(stems if with_stems else {}), "mix": mix}.items():
        write_flac(folder / f"{name}.flac", wave[:length] * gain, sample_rate=sample_rate)


def write_flac(path: Path, wave: NDArray[np.float32], *, sample_rate: int) -> None:
    """A 16-bit flac, there in one step, with the same bytes for the same samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.unfinished")
    samples = np.rint(np.clip(wave, -1.0, 1.0) * 32_767).astype(np.int16)
    soundfile.write(unfinished, samples, sample_rate, format="FLAC", subtype="PCM_16")
    unfinished.replace(path)


def read_part(path: Path, start: float, seconds: float, *, sample_rate: int | None) -> Part:
    """So many seconds of a file from `start` on, as far as it goes; `sample_rate` None keeps the file's own.

    Only the part is decoded where libsndfile reads the file, else (FFmpeg) the whole. Raises AudioError.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if note := truncation.noted(file):
                raise AudioError(path, f"is truncated: {note}; copy it again")
            native, first = file.samplerate, min(round(start * file.samplerate), len(file))
            file.seek(first)
            wave = file.read(round(seconds * native), dtype="float32", always_2d=True).mean(axis=1)
            expected = min(round(seconds * native), len(file) - first)
    except soundfile.LibsndfileError:
        native = sample_rate or 22_050
        whole, first = audio.read(path, sample_rate=native), round(start * native)
        wave = whole[first : first + round(seconds * native)]
        expected = len(wave)
    if truncation.falls_short(len(wave), expected):
        raise AudioError(path, f"is truncated: ends {(expected - len(wave)) / native:.1f} s before its header says")
    if sample_rate is not None and native != sample_rate:
        wave = soxr.resample(wave, native, sample_rate)
    return Part(wave=np.ascontiguousarray(wave, np.float32), start=first / native)

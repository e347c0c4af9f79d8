"""Survey: listed music -> the tracks that can be used as far as headers tell, with their families, and the others.

Tracks of one family (group, artist) may share motifs.
"""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from encoder import audio
from encoder.audio import AudioError
from encoder.training import midi
from encoder.training.midi import MidiError
from encoder.training.sources import Form, StemFile
from evaluation.own.listing import Listed


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
class Survey:
    """What the listed music offers; everything listed is in one of the two."""

    tracks: tuple[Track, ...]  # by id
    left_out: Mapping[str, str]  # id -> reason


def look(
    music: Sequence[Listed], further: Sequence[Listed], *, shortest: float, soundfont: Path | None = None
) -> Survey:
    """The tracks that can be used as far as headers tell; `further` may not become more than distractors.

    Left out are what no header is read of, what lasts less than `shortest` seconds, MIDI files where fluidsynth or a
    soundfont is missing, and files whose bytes another one has.
    """
    tracks: list[Track] = []
    left_out: dict[str, str] = {}
    among = {listed.source.path for listed in music}
    further = [listed for listed in further if listed.source.path not in among]
    doubled = twins([file for listed in (*music, *further) for file in listed.source.files])
    renderer = midi_renderer(soundfont)
    for listed, is_further in [*((one, False) for one in music), *((one, True) for one in further)]:
        path = listed.source.path
        if path in doubled:
            left_out.setdefault(listed.source.track, f"is the same file as {doubled[path].name}")
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


def midi_renderer(given: Path | None = None) -> Renderer:
    """What is installed of fluidsynth and a soundfont, the given one or Debian's."""
    if shutil.which("fluidsynth") is None:
        missing = "is a MIDI file, and fluidsynth is not installed; install fluidsynth and fluid-soundfont-gm"
        return Renderer(soundfont="", missing=missing)
    try:
        soundfont = midi.find_soundfont(given)
    except MidiError as error:
        return Renderer(soundfont="", missing=f"is a MIDI file, but there is {error}")
    return Renderer(soundfont=f"{soundfont.name} {soundfont.stat().st_size}")


def reason(error: ValueError, files: Sequence[StemFile]) -> str:
    """An error's message without the folders of the files, which may differ between two machines."""
    message = str(error)
    for file in files:
        message = message.replace(str(file.path), file.path.name)
    return message


def twins(files: Sequence[StemFile]) -> dict[Path, Path]:
    """File -> an earlier one with the same bytes."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in dict.fromkeys(file.path for file in files):
        if os.access(file, os.R_OK) and file.is_file():
            by_size[file.stat().st_size].append(file)
    later: dict[Path, Path] = {}
    for same_size in by_size.values():
        first: dict[str, Path] = {}
        for file in same_size if len(same_size) > 1 else []:
            with file.open("rb") as content:
                original = first.setdefault(hashlib.file_digest(content, "sha256").hexdigest(), file)
            if original != file:
                later[file] = original
    return later


def _probed(listed: Listed, further: bool, shortest: float, renderer: Renderer) -> Track:
    source, artist, duration = listed.source, listed.source.artist, None
    if source.form == "midi":
        if renderer.missing:
            raise MidiError(renderer.missing)
        if not os.access(source.path, os.R_OK):
            raise MidiError(f"{source.path}: cannot be read; check the path and its permissions")
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

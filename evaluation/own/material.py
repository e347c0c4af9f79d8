"""Material: a surveyed track -> its audio: the whole in one file, its stems, and any part of it.

Recordings are used where they lie; MIDI files and the sums of stems are rendered once for all benchmarks of a cache
folder.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from encoder import audio, truncation
from encoder.audio import AudioError
from encoder.training import midi
from evaluation.own.survey import Track, midi_renderer

VERSION = 1  # of what is rendered here; raise it whenever a change here changes a sample
_SILENCE = 1e-3  # of full scale; a track whose looked-at parts stay under it is silent
_RATE = 22_050  # Hz of what has to be decoded whole, where no rate is asked for
_PEAK = 0.99  # of a sum of stems
_LOOK = 2.0  # seconds looked at in three places of a recording
_MIDI_LIMIT = 600.0  # seconds of wall time per stem: a busy machine must not decide what is in a benchmark


@dataclass(frozen=True, kw_only=True)
class Material:
    """A track ready to be used."""

    track: Track
    mix: Path
    duration: float  # seconds
    stems: Mapping[str, Path] = field(default_factory=dict)


class Unusable(ValueError):
    """A track proves unusable while queries are made of it."""

    def __init__(self, track: Track, reason: str) -> None:
        super().__init__(reason)
        self.track = track


class Silent(Unusable):
    """A track is silent wherever it was looked at."""

    def __init__(self, track: Track, places: int) -> None:
        super().__init__(track, f"is silent in all {places} places looked at, expected music")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a file at a sample rate of one's own."""

    wave: NDArray[np.float32]  # (samples,) mono
    start: float  # seconds in the file, exactly


def make_ready(
    track: Track,
    cache: Path,
    *,
    with_stems: bool,
    sample_rate: int,
    shortest: float,
    longest: float,
    soundfont: Path | None = None,
) -> Material:
    """A track with files to read from; MIDI files and sums of stems are rendered into `cache`, cut to `longest` s.

    Raises AudioError or MidiError where it turns out to be unusable: unreadable, truncated, silent, too short.
    """
    if track.form == "recording":
        duration = _looked_at(track.files[0].path)
        return Material(track=track, mix=track.files[0].path, duration=duration)
    folder = cache / track.form / _digest(track, soundfont, with_stems, sample_rate, longest)
    if not (folder / "mix.flac").is_file():
        _write_stems(folder, _stems(track, sample_rate, soundfont), with_stems, sample_rate, longest)
    duration = audio.info(folder / "mix.flac").duration
    if duration < shortest:
        raise AudioError(track.files[0].path, f"lasts {duration:.1f} s, expected at least {shortest:g} s")
    stems = {path.stem: path for path in sorted(folder.glob("*.flac")) if path.stem != "mix"}
    return Material(track=track, mix=folder / "mix.flac", duration=duration, stems=stems)


def _looked_at(path: Path) -> float:
    """Duration in seconds of a recording whose beginning, middle or end sounds; raises AudioError."""
    duration = audio.info(path).duration if _tells_its_length(path) else len(audio.read(path)) / 16_000
    places = (0.0, max(0.0, duration / 2 - _LOOK / 2), max(0.0, duration - _LOOK - 0.5))
    peaks = [np.abs(read_part(path, place, _LOOK, sample_rate=None).wave).max(initial=0.0) for place in places]
    if not np.isfinite(peaks).all():
        raise AudioError(path, "holds samples that are NaN or infinite, expected finite audio")
    if max(peaks) < _SILENCE:
        raise AudioError(path, "is silent, expected music")
    return duration


def _digest(track: Track, soundfont: Path | None, *settings: object) -> str:
    digest = hashlib.sha256(f"{VERSION} {settings}".encode())
    for file in track.files:
        digest.update(file.stem.encode())
        if track.form == "midi":
            digest.update(file.path.read_bytes() + midi_renderer(soundfont).soundfont.encode())
        else:
            stat = file.path.stat()
            digest.update(f"{file.path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def _stems(track: Track, sample_rate: int, soundfont: Path | None) -> dict[str, NDArray[np.float32]]:
    if track.form == "midi":
        how = dict(sample_rate=sample_rate, soundfont=soundfont, time_limit=_MIDI_LIMIT)
        return midi.render(track.files[0].path, **how)
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

    Only the part is decoded where libsndfile reads the file and knows its length, else the whole. Raises AudioError.
    """
    if not _tells_its_length(path):
        rate = sample_rate or _RATE
        first = round(start * rate)
        whole = audio.read(path, sample_rate=rate)
        return Part(wave=whole[first : first + round(seconds * rate)], start=first / rate)
    with soundfile.SoundFile(path) as file:
        native, first = file.samplerate, min(round(start * file.samplerate), len(file))
        wave = _decoded(file, path, first, round(seconds * native))
    if sample_rate is not None and native != sample_rate:
        wave = soxr.resample(wave, native, sample_rate)
    return Part(wave=np.ascontiguousarray(wave, np.float32), start=first / native)


def _tells_its_length(path: Path) -> bool:
    """Whether libsndfile reads the file and its header tells how long it is."""
    try:
        with soundfile.SoundFile(path) as file:
            return truncation.announced_frames(file, path) is not None
    except soundfile.LibsndfileError:
        return False


def _decoded(file: soundfile.SoundFile, path: Path, first: int, samples: int) -> NDArray[np.float32]:
    if note := truncation.noted(file):
        raise AudioError(path, f"is truncated: {note}; copy it again")
    expected = min(samples, len(file) - first)
    try:
        file.seek(first)
        wave = file.read(samples, dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"cannot be decoded ({error.error_string}); export the file again") from error
    if truncation.falls_short(len(wave), expected):
        missing = (expected - len(wave)) / file.samplerate
        raise AudioError(path, f"is truncated: ends {missing:.1f} s before its header says; copy it again")
    if not np.isfinite(wave).all():
        raise AudioError(path, "holds NaN or infinite samples, expected finite audio; export the file again")
    return wave

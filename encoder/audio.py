"""Audio: any file libsndfile or FFmpeg reads, as mono float32 at one sample rate, whole or as a stream.

libsndfile (wav, flac, ogg, opus, mp3, aiff ...) is tried first; what it does not know goes to FFmpeg where that is
installed (m4a, aac, video). Channels are averaged; resampling is soxr's high quality, chunk by chunk (FFmpeg's own
for what FFmpeg reads).

    ValueError
     └─ AudioError      the file cannot be used; says which and why
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from encoder import truncation

_LIBSNDFILE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
_FFMPEG = (".m4a", ".m4b", ".aac", ".mp4", ".wma", ".webm", ".mkv", ".mka", ".mov", ".avi", ".ac3", ".ape", ".wv")
SUFFIXES = frozenset(_LIBSNDFILE + _FFMPEG)  # of the files that are taken for audio in a folder
SHORTEST = 0.5  # seconds
_CHUNK = 30  # seconds decoded at a time


class AudioError(ValueError):
    """The file cannot be used as audio; the message names file, value and expectation."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self):
        return AudioError, (self.path, self.reason)


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file says of itself before it is decoded."""

    duration: float  # seconds
    title: str  # the file's name where it has no tag
    artist: str
    isrc: str = ""


def info(path: Path) -> AudioInfo:
    """Duration and tags as the header announces them; raises AudioError where there is none."""
    path = Path(path)
    try:
        with soundfile.SoundFile(_existing(path)) as file:
            title, artist = (_tag(file, name) for name in ("title", "artist"))
            return AudioInfo(duration=len(file) / file.samplerate, title=title or path.stem, artist=artist)
    except soundfile.LibsndfileError as error:
        return _ffprobe(path, refusal=str(error.error_string))


def read(path: Path, *, sample_rate: int = 16_000) -> NDArray[np.float32]:
    """The whole file as (samples,) mono float32; raises AudioError."""
    return np.concatenate(list(stream(path, sample_rate=sample_rate)))


def stream(path: Path, *, sample_rate: int = 16_000) -> Iterator[NDArray[np.float32]]:
    """The file as consecutive mono float32 chunks of about 30 s.

    Raises AudioError where the file is missing, unreadable, empty, shorter than 0.5 s, ends before its header says
    (truncated), or holds samples that are not finite.
    """
    path, total = Path(path), 0
    for chunk in _decoded(_existing(path), sample_rate):
        total += len(chunk)
        if len(chunk):
            yield chunk
    if total == 0:
        raise AudioError(path, "holds no audio, expected at least 0.5 s")
    if total < SHORTEST * sample_rate:
        raise AudioError(path, f"lasts {total / sample_rate:.2f} s, expected at least {SHORTEST} s")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise AudioError(path, "no such file; check the path")
    if not path.is_file():
        raise AudioError(path, "is not a file, expected an audio file")
    if path.stat().st_size == 0:
        raise AudioError(path, "is empty (0 bytes), expected audio")
    if path.suffix.lower() == ".raw":
        raise AudioError(path, "is headerless (.raw), expected a file that tells its sample rate; convert it to wav")
    return path


def _tag(file: soundfile.SoundFile, name: str) -> str:
    return (getattr(file, name, "") or "").strip()


def _decoded(path: Path, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        yield from _ffmpeg(path, sample_rate, refusal=str(error.error_string))
        return
    with file:
        yield from _libsndfile(file, path, sample_rate)


def _libsndfile(file: soundfile.SoundFile, path: Path, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    if note := truncation.noted(file):
        raise AudioError(path, f"is truncated: {note}; copy it again")
    announced, decoded = truncation.announced_frames(file, path), 0
    resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
    while True:
        try:
            chunk = file.read(_CHUNK * file.samplerate, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(path, f"cannot be decoded ({error.error_string}); export the file again") from error
        if not len(chunk):
            break
        decoded += len(chunk)
        mono = _finite(np.ascontiguousarray(chunk.mean(axis=1)), path)
        yield mono if file.samplerate == sample_rate else resampler.resample_chunk(mono)
    if announced is not None and truncation.falls_short(decoded, announced):
        was, is_ = announced / file.samplerate, decoded / file.samplerate
        raise AudioError(path, f"is truncated: ends after {is_:.1f} s, expected {was:.1f} s by its header")
    if file.samplerate != sample_rate:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _finite(mono: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    # Before resampling, which spreads one NaN over its neighbours.
    if bad := np.count_nonzero(~np.isfinite(mono)):
        raise AudioError(path, f"{bad} samples are NaN or infinite, expected finite audio; export the file again")
    return mono


def _ffprobe(path: Path, *, refusal: str) -> AudioInfo:
    _require_ffmpeg(path, refusal)
    entries = "stream=codec_type:format=duration:format_tags=title,artist,isrc"
    command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries", entries, "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout or "{}")
    shown = found.get("format", {})
    if not found.get("streams") or "duration" not in shown:
        raise AudioError(path, f"neither libsndfile ({refusal.strip()}) nor FFmpeg reads it; expected an audio file")
    tags = {key.lower(): value for key, value in shown.get("tags", {}).items()}
    title, artist, isrc = (tags.get(key, "") for key in ("title", "artist", "isrc"))
    return AudioInfo(duration=float(shown["duration"]), title=title or path.stem, artist=artist, isrc=isrc)


def _require_ffmpeg(path: Path, refusal: str) -> None:
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise AudioError(path, f"libsndfile cannot read it ({refusal.strip()}) and FFmpeg is not installed")


def _ffmpeg(path: Path, sample_rate: int, *, refusal: str) -> Iterator[NDArray[np.float32]]:
    _require_ffmpeg(path, refusal)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", str(path), "-map", "0:a:0"]
    # Without a limit FFmpeg makes mono of stereo sqrt(2) too loud.
    command += ["-ac", "1", "-rematrix_maxval", "1", "-ar", str(sample_rate), "-f", "f32le", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            while data := process.stdout.read(4 * _CHUNK * sample_rate):
                yield _finite(np.frombuffer(data, "<f4"), path)
            message = process.stderr.read().decode(errors="replace").strip().splitlines()
            process.wait()
        finally:
            process.kill()
    if process.returncode:
        reason = message[-1] if message else f"exit status {process.returncode}"
        raise AudioError(path, f"neither libsndfile nor FFmpeg reads it ({reason}); expected an audio file")

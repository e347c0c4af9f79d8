"""Audio: any file libsndfile or FFmpeg reads, as mono float32 at one sample rate, whole or as a stream.

libsndfile (wav, flac, ogg, opus, mp3, aiff, au, caf, w64) is tried first; what it does not know goes to FFmpeg where
that is installed (m4a, aac, video; an mp3 or flac whose header does not tell its length). Channels are averaged;
resampling is soxr's high quality, chunk by chunk (FFmpeg's own for what FFmpeg reads). What a file may ask of the
decoder is in encoder/limits.py.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from encoder import ffmpeg, truncation
from encoder.limits import DEFAULT, LONGEST_TEXT, AudioError, Limits, printable

_LIBSNDFILE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
_FFMPEG = (".m4a", ".m4b", ".aac", ".mp4", ".wma", ".webm", ".mkv", ".mka", ".mov", ".avi", ".ac3", ".ape", ".wv")
SUFFIXES = frozenset(_LIBSNDFILE + _FFMPEG)  # of the files that are taken for audio in a folder
SHORTEST = DEFAULT.shortest  # seconds
LOUDEST = 1e6  # full scale is 1; the powers of such samples still fit float32, and their sums
_CHUNK = 30  # seconds decoded at a time
_CHUNK_VALUES = 2**22  # samples of all channels decoded at a time, at most
# wav and rf64, wave64, aiff, au, caf, flac, ogg, mp3 (and aac, which libsndfile then refuses)
_FORMATS = re.compile(
    rb"RIF[FX]....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|FORM....AIF[FC]|\.snd|dns\.|caff|fLaC|OggS|ID3|\xff[\xe0-\xff]",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file says of itself before it is decoded."""

    duration: float  # seconds; by decoding where the header does not tell
    title: str  # the file's name where it has no tag
    artist: str
    isrc: str = ""


def info(path: Path, *, limits: Limits = DEFAULT) -> AudioInfo:
    """Duration and tags as the header announces them; raises AudioError where there is none."""
    path = Path(path)
    try:
        with _opened(path) as file:
            limits.check_format(path, sample_rate=file.samplerate, channels=file.channels)
            frames = truncation.announced_frames(file, path)
            tags = {name: getattr(file, name, "") or "" for name in ("title", "artist")}
            duration = None if frames is None else frames / file.samplerate
    except _UnknownToLibsndfile as refusal:
        probed = ffmpeg.probe(path, refusal=str(refusal), limits=limits)
        duration, tags = probed.duration, probed.tags
    title, artist, isrc = (printable(tags.get(name, "").strip())[:LONGEST_TEXT] for name in ("title", "artist", "isrc"))
    duration = _counted(path, limits) if duration is None else duration
    return AudioInfo(duration=duration, title=title or printable(path.stem), artist=artist, isrc=isrc)


def read(path: Path, *, sample_rate: int = 16_000, limits: Limits = DEFAULT) -> NDArray[np.float32]:
    """The whole file as (samples,) mono float32; raises AudioError."""
    return np.concatenate(list(stream(path, sample_rate=sample_rate, limits=limits)))


def stream(path: Path, *, sample_rate: int = 16_000, limits: Limits = DEFAULT) -> Iterator[NDArray[np.float32]]:
    """The file as consecutive mono float32 chunks of at most about 30 s.

    Raises AudioError where the file is missing, unreadable, empty, ends before its header says (truncated), is shorter
    or otherwise beyond the limits, or holds samples that are not finite or above 1e6 (full scale is 1).
    """
    path, total = Path(path), 0
    for chunk in _decoded(path, sample_rate, limits):
        total += len(chunk)
        limits.check_duration(path, total / sample_rate)
        if len(chunk):
            yield chunk
    if total == 0:
        raise AudioError(path, f"holds no audio, expected at least {limits.shortest:g} s")
    if total < limits.shortest * sample_rate:
        digits = 2 if limits.shortest >= 0.1 else 4  # never "lasts 0.01 s, expected at least 0.01 s"
        raise AudioError(path, f"lasts {total / sample_rate:.{digits}f} s, expected at least {limits.shortest:g} s")


def _existing(path: Path) -> Path:
    try:
        if not path.exists():
            raise AudioError(path, "no such file; check the path")
        if not path.is_file():
            raise AudioError(path, "is not a file, expected an audio file")
        path.open("rb").close()
        size = path.stat().st_size
        str(path).encode()
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror}; check its permissions and its disk") from error
    except UnicodeEncodeError as error:
        raise AudioError(path, "has a name that is not UTF-8, expected one that is; rename it") from error
    if size == 0:
        raise AudioError(path, "is empty (0 bytes), expected audio")
    if path.suffix.lower() == ".raw":
        raise AudioError(path, "is headerless (.raw), expected a file that tells its sample rate; convert it to wav")
    return path


def _counted(path: Path, limits: Limits) -> float:
    return sum(len(chunk) for chunk in stream(path, limits=limits)) / 16_000


class _UnknownToLibsndfile(Exception):
    """A file that is left to FFmpeg; the message says why."""


def _opened(path: Path) -> soundfile.SoundFile:
    """The file as libsndfile opens it; AudioError where it cannot be read, _UnknownToLibsndfile where it is not known.

    libsndfile is only shown the formats listed here: its readers of old and rare ones are the least looked after, and
    one of them prints to stdout.
    """
    with _existing(path).open("rb") as file:
        start = file.read(12)
    if not _FORMATS.match(start):
        raise _UnknownToLibsndfile("not one of its formats")
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise _UnknownToLibsndfile(str(error.error_string).strip()) from error


def _decoded(path: Path, sample_rate: int, limits: Limits) -> Iterator[NDArray[np.float32]]:
    """Mono chunks as libsndfile or else FFmpeg gives them, all samples finite."""
    try:
        with _opened(path) as file:
            if truncation.announced_frames(file, path) is not None:
                yield from _libsndfile(file, path, sample_rate, limits)
                return
            # Of an mp3 libsndfile would decode no more than the length that it guesses.
            refusal, strict = "does not know its length", file.format != "MP3"
    except _UnknownToLibsndfile as error:
        refusal, strict = str(error), True
    how = dict(refusal=refusal, strict=strict, limits=limits, chunk=_CHUNK * sample_rate)
    for mono in ffmpeg.decoded(path, sample_rate, **how):
        yield _sound(mono, path)


def _libsndfile(
    file: soundfile.SoundFile, path: Path, sample_rate: int, limits: Limits
) -> Iterator[NDArray[np.float32]]:
    limits.check_format(path, sample_rate=file.samplerate, channels=file.channels)
    if note := truncation.noted(file):
        raise AudioError(path, f"is truncated: {note}; copy it again")
    announced, decoded = len(file), 0
    limits.check_duration(path, announced / file.samplerate)
    resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
    for chunk in _frames(file, path, limits):
        decoded += len(chunk)
        mono = _mono(chunk, path)
        yield mono if file.samplerate == sample_rate else resampler.resample_chunk(mono)
    if truncation.falls_short(decoded, announced):
        was, is_ = announced / file.samplerate, decoded / file.samplerate
        raise AudioError(path, f"is truncated: ends after {is_:.1f} s, expected {was:.1f} s by its header")
    if file.samplerate != sample_rate:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _frames(file: soundfile.SoundFile, path: Path, limits: Limits) -> Iterator[NDArray[np.float32]]:
    """(frames, channels) until the end; AudioError where that does not decode, or not in time."""
    size, spent = min(_CHUNK * file.samplerate, _CHUNK_VALUES // file.channels), 0.0
    while True:
        began = time.monotonic()
        try:
            chunk = file.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(path, f"cannot be decoded ({error.error_string}); export the file again") from error
        if not len(chunk):
            return
        spent += time.monotonic() - began
        if spent > limits.decoding:
            raise limits.too_slow(path)
        yield chunk


def _mono(chunk: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # such samples are refused in the next line
        return _sound(np.ascontiguousarray(chunk.mean(axis=1)), path)


def _sound(mono: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    # Before resampling, which spreads one NaN over its neighbours.
    if bad := np.count_nonzero(~np.isfinite(mono)):
        raise AudioError(path, f"{bad} samples are NaN or infinite, expected finite audio; export the file again")
    if (peak := np.abs(mono).max(initial=0.0)) > LOUDEST:
        raise AudioError(path, f"has a peak of {peak:.3g}, expected audio within -1 to 1; export the file again")
    return mono

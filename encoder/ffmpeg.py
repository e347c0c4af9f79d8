"""FFmpeg: decodes what libsndfile does not know (m4a, aac, wma, webm, video), as a process of its own.

It gets one file and nothing else: no shell, no standard input, the path behind `file:` (so that neither `-x.wav` nor
`http:x` nor `%03d` means anything), the file protocol alone, and containers of media alone. Playlists (m3u8, concat,
dash, sdp), which would have it read other files or the network, are not among them, whatever the file is called.
"""

import json
import math
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, Timer

import numpy as np
from numpy.typing import NDArray

from encoder.limits import LONGEST_TEXT, AudioError, Limits

# As FFmpeg names its demuxers, all aliases of each.
_CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "aac", "asf", "avi", "ac3", "eac3", "ape", "wv",
    "tta", "mp3", "flac", "ogg", "wav", "w64", "aiff", "au", "caf", "amr", "dts", "dsf", "mpc", "mpc8", "tak",
    "flv",
)  # fmt: skip
_ALLOCATION = 512 * 2**20  # bytes that one allocation may take; tables of nine hours take a tenth of it
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_PROBING = 60.0  # seconds ffprobe may take; it reads headers
_INPUT = ("-max_alloc", str(_ALLOCATION), "-protocol_whitelist", "file", "-format_whitelist", ",".join(_CONTAINERS))


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What FFmpeg reads in a file's header."""

    duration: float | None  # seconds; None where the header does not tell
    tags: dict[str, str]  # by name in lower case


def probe(path: Path, *, refusal: str, limits: Limits) -> Probed:
    """The header of a file that libsndfile refused with those words; AudioError where there is no audio in it."""
    _require(path, refusal)
    entries = "stream=codec_type,sample_rate,channels:format=duration:format_tags=title,artist,isrc"
    command = ["ffprobe", "-v", "error", *_INPUT, "-select_streams", "a:0", "-show_entries", entries, "-of", "json"]
    try:
        done = subprocess.run(
            [*command, _url(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBING, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(path, f"FFmpeg still reads its header after {_PROBING:.0f} s; leave it out") from error
    found = _parsed(done.stdout) if done.returncode == 0 else {}
    if not found.get("streams"):
        raise AudioError(path, f"neither libsndfile ({refusal}) nor FFmpeg reads it; expected an audio file")
    stream, container = found["streams"][0], found.get("format", {})
    limits.check_format(path, sample_rate=int(stream.get("sample_rate", 0)), channels=int(stream.get("channels", 0)))
    tags = {key.lower(): str(value) for key, value in container.get("tags", {}).items()}
    return Probed(duration=_seconds(container.get("duration")), tags=tags)


def decoded(
    path: Path, sample_rate: int, *, refusal: str, strict: bool, limits: Limits, chunk: int
) -> Iterator[NDArray[np.float32]]:
    """Mono at that rate in chunks of so many samples; AudioError where FFmpeg cannot decode all, or unless strict, any.

    An mp3 that does not tell its length is not read strictly: where it was cut, or two songs joined, a frame is broken.
    """
    _require(path, refusal)
    command = ["ffmpeg", "-nostdin", "-v", "error", *(["-xerror"] if strict else []), *_INPUT, "-i", _url(path)]
    command += ["-map", "0:a:0"]
    # Without a limit FFmpeg makes mono of stereo sqrt(2) too loud.
    command += ["-ac", "1", "-rematrix_maxval", "1", "-ar", str(sample_rate), "-f", "f32le", "-"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said = deque(maxlen=1)
        listening = Thread(target=said.extend, args=(process.stderr,), daemon=True)  # a full pipe would halt FFmpeg
        listening.start()
        reader = _Reader(process, limits.decoding)
        try:
            while data := reader.read(4 * chunk):
                yield np.frombuffer(data[: len(data) // 4 * 4], "<f4")
            process.wait()
        finally:
            process.kill()
            listening.join()
    if reader.expired:
        raise limits.too_slow(path)
    if process.returncode:
        reason = _message(said[0], path) if said else f"exit status {process.returncode}"
        raise AudioError(path, f"neither libsndfile nor FFmpeg reads it ({reason}); expected an audio file")


class _Reader:
    """Reads what a process writes, and kills it when the reads have waited so many seconds in all.

    Time in which nobody reads is not counted: who encodes what was decoded may take as long as it likes.
    """

    def __init__(self, process: subprocess.Popen, seconds: float) -> None:
        self._process, self._left, self.expired = process, seconds, False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer at the end or after the kill."""
        timer, began = Timer(self._left, self._expire), time.monotonic()
        timer.start()
        try:
            return self._process.stdout.read(size)
        finally:
            timer.cancel()
            self._left = max(0.0, self._left - (time.monotonic() - began))

    def _expire(self) -> None:
        self.expired = True
        self._process.kill()


def _require(path: Path, refusal: str) -> None:
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise AudioError(path, f"libsndfile cannot read it ({refusal}) and FFmpeg is not installed")


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"


def _message(line: bytes, path: Path) -> str:
    """What FFmpeg said, without the file's name and places in memory."""
    text = line.decode(errors="replace").strip().removeprefix(f"{_url(path)}: ")
    return _ADDRESS.sub("", text)[:LONGEST_TEXT]


def _parsed(output: bytes) -> dict:
    try:
        return json.loads(output.decode(errors="replace"))
    except json.JSONDecodeError:  # of some broken files ffprobe prints half of what it should
        return {}


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text)
    except (TypeError, ValueError):  # not there, or "N/A"
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None

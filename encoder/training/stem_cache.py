"""Stem cache: the stems of all training tracks, decoded once, read at random without decoding.

A cache is a folder of two files:

    audio.i16    the samples of all stems one after the other, 16 kHz mono int16, read through a memory map
    stems.csv    one row per stem: track, group, split, kind, stems (in its track), stem, title, artist, licence,
                 start and length (samples in audio.i16), scale (int16 times scale is the amplitude)

The stems of one track lie side by side, are aligned and equally long. Both files only grow: first the samples of a
track, flushed to disk, then its rows at once. A row therefore always has its samples, and whatever a killed writer
left behind the last whole track is cut off when the cache is next opened for writing.
"""

import csv
import errno
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import FileIO, StringIO
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
AUDIO, STEMS = "audio.i16", "stems.csv"
COLUMNS = ["track", "group", "split", "kind", "stems", "stem", "title", "artist", "licence", "start", "length", "scale"]
_LARGEST = 32_767  # of int16, kept symmetric


class StemCacheError(ValueError):
    """The folder is not a usable stem cache; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Stem:
    """One stem's place in the cache."""

    name: str
    start: int  # samples
    scale: float  # int16 times scale is the amplitude


@dataclass(frozen=True, kw_only=True)
class StemTrack:
    """One track: aligned stems of equal length, side by side in the cache."""

    track: str
    group: str  # tracks of one group may share material
    split: str
    stems: tuple[Stem, ...]
    length: int  # samples of each stem
    kind: str = ""  # song, loop, drum, oneshot, midi ...
    title: str = ""
    artist: str = ""
    licence: str = ""

    @property
    def start(self) -> int:
        """First sample of the first stem in the cache."""
        return self.stems[0].start

    @property
    def end(self) -> int:
        """First sample in the cache behind the last stem."""
        return self.start + len(self.stems) * self.length


class StemCache:
    """Reads a cache; one instance serves several threads, and pickles as its folder's name."""

    def __init__(self, directory: Path, tracks: list[StemTrack], audio: NDArray[np.int16]) -> None:
        self.directory, self.tracks, self._audio = directory, tracks, audio

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The cache in a folder; raises StemCacheError where there is none, or none of its tracks is complete."""
        directory = Path(directory)
        if not (directory / STEMS).is_file() or not (directory / AUDIO).is_file():
            raise StemCacheError(
                f"{directory} is no stem cache, expected {AUDIO} and {STEMS} in it; run `asid prepare stems`"
            )
        tracks, _ = _committed(directory)
        if not tracks:
            raise StemCacheError(
                f"the stem cache {directory} holds 0 tracks, expected 1; run `asid prepare stems` again"
            )
        samples = (directory / AUDIO).stat().st_size // 2
        if samples < tracks[-1].end:
            raise StemCacheError(
                f"{directory / AUDIO} holds {samples} samples, expected {tracks[-1].end} by {STEMS}; prepare it afresh"
            )
        # A plain array over the map: slicing the memmap class itself costs several times as much.
        return cls(directory, tracks, np.asarray(np.memmap(directory / AUDIO, np.int16, mode="r")))

    def read(self, track: StemTrack, start: int, length: int) -> NDArray[np.float32]:
        """``length`` samples of all stems of a track from ``start`` on, as (stems, length), zero outside the track."""
        window = np.zeros((len(track.stems), length), np.float32)
        first, last = max(start, 0), min(start + length, track.length)
        if first < last:
            stored = self._audio[track.start : track.end].reshape(len(track.stems), track.length)
            scales = np.array([[stem.scale] for stem in track.stems], np.float32)
            np.multiply(stored[:, first:last], scales, out=window[:, first - start : last - start])
        return window

    def __len__(self) -> int:
        return len(self.tracks)

    def __reduce__(self):
        return StemCache.open, (self.directory,)


class StemCacheWriter:
    """Appends tracks to a cache, new or begun; use it in a ``with`` block, one writer per cache."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Unbuffered: bytes that found no room must not be tried again when the files are closed.
        self._audio = FileIO(self.directory / AUDIO, "a")
        self._rows = FileIO(self.directory / STEMS, "a")
        try:
            self._lock()
            self._recover()
        except StemCacheError:
            self.close()
            raise

    def __contains__(self, track: str) -> bool:
        return _one_line(track) in self._known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the files; what was appended is already on disk."""
        self._audio.close()
        self._rows.close()

    def append(self, track: StemTrack, waveforms: Sequence[NDArray[np.float32]]) -> StemTrack:
        """Adds one track, shorter stems padded with zeros; returns it with its place in the cache.

        ``track.stems`` name the waveforms, each (samples,); their start and scale, and ``track.length``, are set
        here. Raises ValueError where names and waveforms disagree or the track is there already, and OSError where the
        disk is full: then the cache is as it was before the call.
        """
        if track.track in self:
            raise ValueError(f"track {track.track!r} is in the cache already; check for it with `in` first")
        if len(track.stems) != len(waveforms) or not waveforms:
            raise ValueError(
                f"track {track.track!r}: {len(track.stems)} names for {len(waveforms)} stems, expected as many"
            )
        length = max(map(len, waveforms))
        scales = [float(np.abs(waveform).max(initial=0.0)) / _LARGEST for waveform in waveforms]
        block = np.zeros((len(waveforms), length), "<i2")
        for row, waveform, scale in zip(block, waveforms, scales):
            row[: len(waveform)] = np.rint(waveform / scale) if scale else 0
        start = self._audio_end // 2
        stems = (
            Stem(name=stem.name, start=start + i * length, scale=scale)
            for i, (stem, scale) in enumerate(zip(track.stems, scales))
        )
        placed = replace(track, stems=tuple(stems), length=length)
        self._commit(placed, block)
        return placed

    def _commit(self, track: StemTrack, block: NDArray[np.int16]) -> None:
        rows = _as_rows(track)
        try:
            _write(self._audio, memoryview(block).cast("B"))
            _write(self._rows, memoryview(rows))
        except OSError as error:
            self._drop_uncommitted()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            message = (
                f"no room for track {track.track!r} ({block.nbytes / 1e6:.1f} MB) in {self.directory}; the "
                f"{len(self._known)} tracks there are kept: free some space and run the same command again"
            )
            raise OSError(error.errno, message) from error
        self._audio_end += block.nbytes
        self._rows_end += len(rows)
        self._known.add(_one_line(track.track))

    def _drop_uncommitted(self) -> None:
        for name, end in ((AUDIO, self._audio_end), (STEMS, self._rows_end)):
            os.truncate(self.directory / name, end)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)  # falls with the process, however it ends
        except BlockingIOError as error:
            raise StemCacheError(f"another preparation is writing to {self.directory}; wait for its end") from error

    def _recover(self) -> None:
        tracks, self._rows_end = _committed(self.directory)
        self._audio_end = 2 * tracks[-1].end if tracks else 0  # bytes
        self._known = {track.track for track in tracks}
        found = os.path.getsize(self.directory / AUDIO)
        if found < self._audio_end:
            raise StemCacheError(
                f"{self.directory / AUDIO} holds {found} bytes, expected {self._audio_end} by {STEMS}; "
                "prepare into a new folder"
            )
        self._drop_uncommitted()
        if not self._rows_end:
            header = (",".join(COLUMNS) + "\n").encode()
            _write(self._rows, memoryview(header))
            self._rows_end = len(header)


def _write(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]  # the operating system may take less than it was given
    os.fsync(file.fileno())


def _one_line(text: str) -> str:
    # One row, one line: that is how the end of the last whole row is found again.
    return " ".join(text.split())


def _as_rows(track: StemTrack) -> bytes:
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    about = [_one_line(value) for value in (track.track, track.group, track.split, track.kind)]
    rights = [_one_line(value) for value in (track.title, track.artist, track.licence)]
    for stem in track.stems:
        rows.writerow([*about, len(track.stems), _one_line(stem.name), *rights, stem.start, track.length, stem.scale])
    return text.getvalue().encode()


def _committed(directory: Path) -> tuple[list[StemTrack], int]:
    """The tracks whose rows are all there, and the byte in stems.csv behind the last of them."""
    tracks: list[StemTrack] = []
    rows: list[dict[str, str]] = []
    end = position = 0
    for line in (directory / STEMS).read_bytes().splitlines(keepends=True):
        position += len(line)
        values = _values(line)
        if values and not end:
            _check_header(directory, values)
            end = position
            continue
        if len(values) != len(COLUMNS):
            break  # cut in the middle, or never written as a row
        rows.append(dict(zip(COLUMNS, values)))
        if len(rows) == int(rows[0]["stems"]):
            tracks.append(_as_track(rows))
            rows, end = [], position
    return tracks, end


def _values(line: bytes) -> list[str]:
    """The values of a whole row, and none of a broken one."""
    if not line.endswith(b"\n"):
        return []
    try:
        return next(csv.reader([line.decode()]))
    except (UnicodeDecodeError, csv.Error):
        return []


def _check_header(directory: Path, columns: list[str]) -> None:
    if columns != COLUMNS:
        raise StemCacheError(
            f"{directory / STEMS} has the columns {', '.join(columns)}, expected {', '.join(COLUMNS)}; "
            "prepare into a new folder"
        )


def _as_track(rows: list[dict[str, str]]) -> StemTrack:
    shared = ("track", "group", "split", "kind", "title", "artist", "licence")
    stems = (Stem(name=row["stem"], start=int(row["start"]), scale=float(row["scale"])) for row in rows)
    return StemTrack(stems=tuple(stems), length=int(rows[0]["length"]), **{name: rows[0][name] for name in shared})

"""Discover: which files under the paths given are taken for audio, and which are refused before anybody opens them.

Below a folder everything with a suffix of audio counts, unless it is hidden or lies in a hidden folder. What a link
leads to must lie in that folder too, so that whoever may put files into a watched folder cannot have others read;
linked folders are not entered, hence no loop. A path given by name is trusted: it may be a link itself, or hidden.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from encoder.audio import SUFFIXES
from encoder.limits import printable


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file or folder that is not ingested."""

    path: Path  # printable: bytes that are no text are written as escapes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies under the paths given, in their order, each folder's content in order of name."""

    files: tuple[Path, ...]
    refused: tuple[Refused, ...] = ()


def discover(paths: Iterable[Path], *, within: Path | None = None) -> Found:
    """Files as given, and every audio file (by its suffix) below the folders given.

    Where `within` is given, paths that lead out of that folder, by `..` or by a link, are refused. FileNotFoundError
    where a path does not exist or a folder holds neither audio nor anything refused.
    """
    files, refused = [], []
    for path in map(Path, paths):
        judged = list(_outside(path, within) or _under(path))
        files += [one for one in judged if isinstance(one, Path)]
        refused += [one for one in judged if isinstance(one, Refused)]
    return Found(files=tuple(files), refused=tuple(refused))


def is_named_like_audio(path: Path) -> bool:
    """Whether a path below a folder that is looked through has a suffix of audio, and no part of it is hidden."""
    return path.suffix.lower() in SUFFIXES and not any(map(is_hidden, path.parts))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant to be seen; such files bear the names of others without their content.

    As `._song.mp3` of macOS, or what lies in .Trash-1000.
    """
    return name.startswith(".")


def _outside(path: Path, within: Path | None) -> list[Refused]:
    if within is None or _lies_in(path, within):
        return []
    return [_refused(path, f"lies outside of {within}, expected a path in it; move it there")]


def _under(path: Path) -> list[Path | Refused]:
    if not path.exists():
        raise FileNotFoundError(f"{printable(str(path))}: no such file or folder; check the path")
    if not path.is_dir():
        return [_refused(path, reason)] if (reason := _unusable(path)) else [path]
    found = list(_below(path))
    if not found:
        raise FileNotFoundError(f"{path}: holds no audio file, expected at least one (wav, flac, mp3, ogg, m4a ...)")
    return found


def _below(root: Path) -> Iterator[Path | Refused]:
    unreadable: list[OSError] = []
    entries: list[Path] = []
    for place, folders, names in os.walk(root, onerror=unreadable.append):
        folders[:] = [name for name in folders if not is_hidden(name)]  # walked no further: bins, snapshots, caches
        entries += [Path(place, name) for name in names if is_named_like_audio(Path(name))]
        entries += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
    reasons = {Path(error.filename): f"cannot be read: {error.strerror}; check its permissions" for error in unreadable}
    for path in sorted([*entries, *reasons]):
        reason = reasons.get(path) or _linked_away(path, root) or _unusable(path)
        if reason:
            yield _refused(path, reason)
        elif not path.is_dir():  # a link to another folder of the same root: what is in there is met there
            yield path


def _linked_away(path: Path, root: Path) -> str:
    if not path.is_symlink() or _lies_in(path, root):
        return ""
    return f"is a link to {os.path.realpath(path)}, outside of {root}; copy the file there, or ingest that folder too"


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _unusable(path: Path) -> str:
    """Why a path cannot be opened without harm; empty where it can, or is a folder."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return "has a name that is not UTF-8, which no ledger can hold; rename it"
    except OSError as error:  # a link to nothing or to itself, a folder that may not be entered
        return f"cannot be read: {error.strerror}; check where it leads and its permissions"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "is a pipe, a socket or a device, expected an audio file; take it out"  # opening one may wait for ever


def _refused(path: Path, reason: str) -> Refused:
    return Refused(path=Path(printable(str(path.absolute()))), reason=printable(reason))

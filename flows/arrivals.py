"""Arrivals: a folder that others drop files into -> the audio files that may be used now.

A file is ready when neither its content nor its name or times have changed for `settle` seconds; whoever copies slower
than that is caught up with when the file has changed again. A symbolic link that leads out of the folder is refused.
"""

import stat
import time
from dataclasses import dataclass
from pathlib import Path

from flows.discover import is_named_like_audio


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """The audio files of one look, by path."""

    ready: tuple[Path, ...]
    waiting: tuple[Path, ...]  # may still be written
    refused: tuple[Path, ...]  # lead out of the folder


def look(folder: Path, *, settle: float, below: bool = True) -> Arrivals:
    """The audio files in `folder`, and in its subfolders unless `below` is off; hidden ones are no audio files.

    `settle` are seconds. FileNotFoundError where there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; make it, or name another one")
    inside, now = folder.resolve(), time.time()
    found: dict[str, list[Path]] = {"ready": [], "waiting": [], "refused": []}
    for path in sorted(folder.rglob("*") if below else folder.iterdir()):
        if is_named_like_audio(path.relative_to(folder)) and (state := _state(path, inside, now - settle)):
            found[state].append(path)
    return Arrivals(**{state: tuple(paths) for state, paths in found.items()})


def _state(path: Path, inside: Path, settled: float) -> str | None:
    """ready, waiting or refused; None for what is no file, or is gone already."""
    if not path.resolve().is_relative_to(inside):
        return "refused"
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # The time of the inode's change cannot be set by whoever keeps a file's times while copying it.
    return "ready" if max(status.st_mtime, status.st_ctime) <= settled else "waiting"

"""Whole files: what is written is there in full or not at all, whenever the writing ends."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its place at the end; an error leaves `path` as it was.

    The place has the same suffix, is hidden, and is short however long the name is. OSError where it cannot be moved.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    unfinished = path.with_name(f".{digest}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """OSError where nothing can be made at `path`: what would hold it is no folder, or may not be written."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f"{path}: {folder} is no folder that may be written; choose another place")

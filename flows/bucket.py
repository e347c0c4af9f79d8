"""Bucket: the audio objects below a prefix of an object store -> the same files in a folder, for `watch` to ingest.

The copies stay: pages of evidence play them, and what lies in the folder unchanged is not fetched again. A copy has
its object's time of change, so that size and time tell whether it is still the same. Objects that vanish leave their
copy, as a reference stays in the catalogue until `asid remove`. An object is there whole or not at all, so none is
waited for.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.whole import whole
from flows import logs
from flows.discover import is_named_like_audio
from store import objects

_CHUNK = 8 << 20  # bytes held of an object
_NO_NAME = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}  # errors of the key, not of the disk


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """One look at a bucket."""

    fetched: int
    kept: int  # copies that were there already
    refused: tuple[str, ...] = ()  # keys that no file below the folder can have


def mirror(url: str, folder: Path) -> Mirrored:
    """Fetch what is new below `url` (``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///``) into the folder.

    Credentials come from the store's usual environment variables. ValueError without obstore, ObjectsUnavailable where
    the store does not answer.
    """
    store, fetched, kept, refused = objects.opened(url), 0, 0, []
    try:
        with objects.reaching(url):
            for meta in (meta for page in store.list() for meta in page):
                target = _target(folder, meta["path"])
                if target is None:
                    refused.append(meta["path"])
                elif not is_named_like_audio(target.relative_to(folder)):
                    continue
                elif (state := _brought(store, meta, target)) == "refused":
                    refused.append(meta["path"])
                else:
                    fetched, kept = fetched + (state == "fetched"), kept + (state == "kept")
    except FileNotFoundError as error:
        raise objects.unavailable(url, error) from error
    logs.tell("mirrored", url=url, fetched=fetched, kept=kept, refused=len(refused))
    return Mirrored(fetched=fetched, kept=kept, refused=tuple(refused))


def _target(folder: Path, key: str) -> Path | None:
    """The file of an object; None where its key would lead out of the folder."""
    parts = key.split("/")
    return None if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) else folder / key


def _brought(store: Any, meta: dict[str, Any], target: Path) -> str:
    """fetched, kept, or refused where no file can have the key: too long, or a folder's or a file's name already."""
    try:
        if _same(target, meta):
            return "kept"
        _fetch(store, meta, target)
    except OSError as error:
        if error.errno not in _NO_NAME:
            raise
        return "refused"
    return "fetched"


def _same(target: Path, meta: dict[str, Any]) -> bool:
    """Whether the copy is the object's; OSError where there can be none, before anything is fetched for nothing."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return status.st_size == meta["size"] and abs(status.st_mtime - meta["last_modified"].timestamp()) < 1e-3


def _fetch(store: Any, meta: dict[str, Any], target: Path) -> None:
    """One object into its file, in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as unfinished:
        with unfinished.open("wb") as file:
            for chunk in store.get(meta["path"]).stream(min_chunk_size=_CHUNK):
                file.write(chunk)
        changed = meta["last_modified"].timestamp()
        os.utime(unfinished, (changed, changed))

"""Bucket: the audio objects below a prefix of an object store -> the same files in a folder, for `watch` to ingest.

The copies stay: pages of evidence play them, and what lies in the folder unchanged is not fetched again. A copy has
its object's time of change, so that size and time tell whether it is still the same. Objects that vanish leave their
copy, as a reference stays in the catalogue until `asid remove`. An object is there whole or not at all, so none is
waited for.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.audio import SUFFIXES
from flows import logs

_CHUNK = 8 << 20  # bytes held of an object


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """One look at a bucket."""

    fetched: int
    kept: int  # copies that were there already
    refused: tuple[str, ...] = ()  # keys that no file below the folder can have


def is_prefix(place: str) -> bool:
    """Whether a place is in an object store, not on this machine's disks."""
    return "://" in place


def mirror(url: str, folder: Path) -> Mirrored:
    """Fetch what is new below `url` (``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///``) into the folder.

    Credentials come from the store's usual environment variables. ValueError without obstore, ConnectionError where the
    store does not answer.
    """
    store, failures = _opened(url)
    fetched, kept, refused = 0, 0, []
    try:
        for meta in (meta for page in store.list() for meta in page):
            target = _target(folder, meta["path"])
            if target is None:
                refused.append(meta["path"])
            elif not _is_audio(target):
                continue
            elif _same(target, meta):
                kept += 1
            else:
                _fetch(store, meta, target)
                fetched += 1
    except failures as error:
        raise ConnectionError(f"{url} cannot be read ({_line(error)}); check address and credentials") from error
    logs.tell("mirrored", url=url, fetched=fetched, kept=kept, refused=len(refused))
    return Mirrored(fetched=fetched, kept=kept, refused=tuple(refused))


def _opened(url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """The store at that prefix, and what it raises of its own."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ValueError(f"{url} needs obstore, which is not installed; pip install 'asid[cluster]'") from error
    return from_url(url), (BaseError, FileNotFoundError, PermissionError)


def _target(folder: Path, key: str) -> Path | None:
    """The file of an object; None where its key would lead out of the folder."""
    parts = key.split("/")
    return None if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) else folder / key


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _same(target: Path, meta: dict[str, Any]) -> bool:
    if not target.is_file():
        return False
    status = target.stat()
    return status.st_size == meta["size"] and abs(status.st_mtime - meta["last_modified"].timestamp()) < 1e-3


def _fetch(store: Any, meta: dict[str, Any], target: Path) -> None:
    """One object into its file, in one step: a name that begins with a dot is no audio file yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    with unfinished.open("wb") as file:
        for chunk in store.get(meta["path"]).stream(min_chunk_size=_CHUNK):
            file.write(chunk)
    changed = meta["last_modified"].timestamp()
    os.utime(unfinished, (changed, changed))
    os.replace(unfinished, target)


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

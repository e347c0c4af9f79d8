"""What is to be done with a list of files: compares them with the ledger, decodes nothing.

A file whose size and modification time are those in the ledger is taken as unchanged without being read. Otherwise its
content is hashed: the same content at a new path, with the old path gone, is a moved file and keeps its number; other
content makes the track pending again. A file that failed and has not changed is reported, not tried again, unless
``retry``. What another worker is encoding is left as it is.

A file that was removed stays out, whatever its content is now, unless ``retry``. This is said of the file, not of one
encoder: an encoder that is new to it leaves it out too, and ``retry`` lets it in again for all of them.
"""

import hashlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from store.catalogue import Catalogue, Track, spelling


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A file that waits to be encoded and added."""

    number: int
    path: Path
    size: int  # bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every file of the list is in one of these, but for one that was moved while another worker encodes it."""

    pending: tuple[Pending, ...]
    unchanged: tuple[Track, ...]  # stored already with this checkpoint
    failed: tuple[Track, ...]  # with the reason, now or from an earlier run
    removed: tuple[Track, ...]  # taken out by the user; they stay out


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    content_hash: str = ""
    size: int = 0  # bytes
    mtime_ns: int = 0
    reason: str = ""  # why it cannot be read

    @property
    def facts(self) -> dict[str, str | int]:
        return {
            "path": str(self.path),
            "content_hash": self.content_hash,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
        }


def plan(catalogue: Catalogue, paths: Iterable[str | Path], *, retry: bool = False) -> Plan:
    """Compare files with the ledger and write what changed into it."""
    absolute = list(dict.fromkeys(map(spelling, paths)))
    try:
        _write(catalogue, absolute, retry)
    except IntegrityError:  # another process has just written the same new files
        _write(catalogue, absolute, retry)
    return _report(catalogue, absolute)


def _write(catalogue: Catalogue, paths: list[Path], retry: bool) -> None:
    known = {track.path: track for track in catalogue.by_paths(paths)}
    files = [_look(path, known.get(path)) for path in paths]
    known |= _moved(catalogue, [file for file in files if file.path not in known and file.content_hash])
    new = [file for file in files if file.path not in known]
    out = set() if retry else _removed_elsewhere(catalogue, new)
    outcomes = {file.path: _outcome(file, known.get(file.path), retry, removed=file.path in out) for file in files}
    catalogue.write(
        new=[outcomes[file.path] for file in new],
        changed={known[path].number: values for path, values in outcomes.items() if path in known and values},
        revived=[path for path, values in outcomes.items() if retry and values.get("state") == "pending"],
    )


def content_hash(path: Path) -> str:
    """blake2b of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _look(path: Path, known: Track | None) -> _File:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may wait for ever
            return _File(path=path, reason="is no regular file, expected an audio file")
        same = known is not None and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)
        content = (same and known.content_hash) or content_hash(path)  # of a file that was out of reach none is known
    except OSError as error:
        return _File(path=path, reason=f"cannot be read: {error.strerror or error}")
    return _File(path=path, content_hash=content, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _moved(catalogue: Catalogue, files: list[_File]) -> dict[Path, Track]:
    """New path -> track of the same content whose old path is gone; each track moves once."""
    gone = [track for track in catalogue.by_hashes(file.content_hash for file in files) if not track.path.exists()]
    homeless = {track.content_hash: track for track in gone}
    return {file.path: homeless.pop(file.content_hash) for file in files if file.content_hash in homeless}


def _removed_elsewhere(catalogue: Catalogue, files: list[_File]) -> set[Path]:
    """Of files that are new to this encoder, those that were removed while others were in use, moved since or not."""
    others = catalogue.elsewhere([file.path for file in files])
    hashes = [file.content_hash for file in files if file.content_hash and file.path not in others]
    moved = {content for content, path in catalogue.removed_contents(hashes) if not path.exists()}
    return {file.path for file in files if others.get(file.path, file.content_hash in moved)}


def _outcome(file: _File, track: Track | None, retry: bool, *, removed: bool) -> dict[str, str | int]:
    """The values to write into the file's row; empty where nothing changes."""
    if track is None and removed:
        return {**file.facts, "state": "removed", "reason": ""}
    if track is not None and track.claimed:
        return {}
    if track is not None and track.state == "removed" and not retry:
        return file.facts if file.content_hash and _differs(track, file) else {}
    if file.reason:
        # A stored track stays searchable while its file is out of reach.
        stored = track is not None and track.state == "stored"
        return {} if stored else {**file.facts, "state": "failed", "reason": file.reason}
    if track is not None and track.content_hash == file.content_hash and _settled(track, retry):
        return file.facts if _differs(track, file) else {}
    return {**file.facts, "state": "pending", "reason": ""}


def _differs(track: Track, file: _File) -> bool:
    """Whether the file lies elsewhere than the ledger says, or has been touched."""
    return (track.path, track.size, track.mtime_ns) != (file.path, file.size, file.mtime_ns)


def _settled(track: Track, retry: bool) -> bool:
    """Whether the track of an unchanged file needs nothing done."""
    return track.state == "stored" or (track.state == "failed" and not retry)


def _report(catalogue: Catalogue, paths: list[Path]) -> Plan:
    tracks = {track.path: track for track in catalogue.by_paths(paths)}
    paths = [path for path in paths if path in tracks]  # moved while another worker encodes it: the next run's
    by_state = {
        state: [tracks[path] for path in paths if tracks[path].state == state]
        for state in ("stored", "failed", "removed")
    }
    waiting = [tracks[path] for path in paths if tracks[path].state == "pending"]
    return Plan(
        pending=tuple(Pending(number=track.number, path=track.path, size=track.size) for track in waiting),
        unchanged=tuple(by_state["stored"]),
        failed=tuple(by_state["failed"]),
        removed=tuple(by_state["removed"]),
    )

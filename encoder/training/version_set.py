"""Version sets: a folder of recordings -> which of them are versions of one musical work, and who may train on them.

Three layouts are read:

    versions.csv   columns track, work, split (train, validation, test) and file (relative to the audio folder); others
                   such as title and artist are kept as they are
    *.pt           the field's metadata (released CLEWS code): a pickled list of a dictionary of recordings and one of
                   splits; read as plain values, so that nothing in it is ever executed
    list           SHS100K: `list`, SHS100K-TRAIN, SHS100K-VAL, SHS100K-TEST, tab-separated; audio at 12/1234-5.mp3

A work counts in a split where it has at least two recordings there.
"""

import csv
import hashlib
import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

FILE = "versions.csv"
SPLITS = ("train", "validation", "test")
_COLUMNS = ("track", "work", "split", "file")
_RELEASED_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_SHS100K = {"SHS100K-TRAIN": "train", "SHS100K-VAL": "validation", "SHS100K-TEST": "test"}


class VersionSetError(ValueError):
    """A folder or file that is no version set; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One recording of a work."""

    track: str  # its name within the set
    work: str
    split: str
    path: Path
    title: str = ""
    artist: str = ""


def digest(versions: Iterable[Version]) -> str:
    """Tells whether two sets hold the same recordings, by name, work and size."""
    told = [(v.track, v.work, v.split, v.path.stat().st_size) for v in versions]
    return hashlib.sha256(repr(sorted(told)).encode()).hexdigest()[:16]


def read(source: Path, *, audio: Path | None = None) -> tuple[Version, ...]:
    """All versions of a set: a folder in one of the layouts, or its file; `audio` is where the recordings lie.

    Without `audio`, that is the folder `audio` beside the list, or the list's own. Raises VersionSetError.
    """
    source = Path(source)
    file = _list_of(source)
    folder = audio or (file.parent / "audio" if (file.parent / "audio").is_dir() else file.parent)
    if file.suffix == ".csv":
        versions = _read_csv(file, folder)
    elif file.suffix == ".pt":
        versions = _read_metadata(file, folder)
    else:
        versions = _read_shs100k(file, folder)
    if not versions:
        raise VersionSetError(f"{file}: names no recordings, expected at least two versions of a work")
    return versions


def of_split(versions: Iterable[Version], split: str) -> tuple[Version, ...]:
    """The versions of a split whose work has another one there; VersionSetError where there are none."""
    if split not in SPLITS:
        raise VersionSetError(f"no split is called {split!r}, expected one of {', '.join(SPLITS)}")
    members = [version for version in versions if version.split == split]
    counts = Counter(version.work for version in members)
    kept = tuple(version for version in members if counts[version.work] > 1)
    if not kept:
        found = ", ".join(sorted({version.split for version in versions})) or "none"
        raise VersionSetError(f"no work has two versions in the split {split} (splits that are there: {found})")
    return kept


def require_files(versions: Iterable[Version]) -> None:
    """VersionSetError that names the first recording that is not there, and how many are not."""
    missing = [version.path for version in versions if not version.path.is_file()]
    if missing:
        raise VersionSetError(f"{missing[0]}: no such file ({len(missing)} missing); name their folder with --audio")


def require_apart(training: Iterable[Version], others: Iterable[Version]) -> None:
    """VersionSetError where a work to train on is also one to measure with."""
    shared = {version.work for version in training} & {version.work for version in others}
    if shared:
        raise VersionSetError(
            f"work {min(shared)!r} is in the split train and in another one ({len(shared)} are); split by work"
        )


def _list_of(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise VersionSetError(f"{source}: no such folder or file, expected a version set")
    for candidate in (source / FILE, *sorted(source.glob("*.pt")), source / "list"):
        if candidate.is_file():
            return candidate
    raise VersionSetError(
        f"{source}: is no version set, expected {FILE}, a metadata file *.pt, or SHS100K's list in it"
    )


def _read_csv(file: Path, audio: Path) -> tuple[Version, ...]:
    with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets begin it with a byte-order mark
        reader = csv.DictReader(lines)
        missing = set(_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise VersionSetError(f"{file}: has no column {min(missing)}, expected {', '.join(_COLUMNS)}")
        rows = list(reader)
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if empty := [name for name in _COLUMNS if not (row[name] or "").strip()]:  # a short row has None
            raise VersionSetError(f"{file}, line {number}: {empty[0]} is empty, expected {', '.join(_COLUMNS)} in each")
        if row["split"] not in SPLITS:
            raise VersionSetError(f"{file}, line {number}: split is {row['split']!r}, expected {', '.join(SPLITS)}")
        if row["track"] in seen:
            raise VersionSetError(f"{file}, line {number}: track {row['track']!r} is there twice, name each once")
        seen.add(row["track"])
    return tuple(
        Version(
            track=row["track"], work=row["work"], split=row["split"], path=_inside(audio, row["file"], file),
            title=row.get("title") or "", artist=row.get("artist") or "",
        )
        for row in rows
    )  # fmt: skip


def _read_metadata(file: Path, audio: Path) -> tuple[Version, ...]:
    try:
        info, splits = torch.load(file, map_location="cpu", weights_only=True)
        return tuple(
            _of_metadata(info[track], track, clique, split, audio, file)
            for split, cliques in splits.items()
            for clique, tracks in cliques.items()
            for track in tracks
        )
    except pickle.UnpicklingError as error:
        raise VersionSetError(
            f"{file}: holds code or objects, which are never loaded, expected plain values"
        ) from error
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, VersionSetError):
            raise
        raise VersionSetError(f"{file}: is no metadata of versions, expected a list [recordings, splits]") from error


def _of_metadata(entry: dict[str, Any], track: str, clique: str, split: str, audio: Path, file: Path) -> Version:
    if split not in _RELEASED_SPLITS:
        raise VersionSetError(f"{file}: split is {split!r}, expected one of {', '.join(_RELEASED_SPLITS)}")
    names = {name: str(entry.get(name) or "") for name in ("title", "artist")}
    path = _inside(audio, str(entry["filename"]), file)
    return Version(track=str(track), work=str(clique), split=_RELEASED_SPLITS[split], path=path, **names)


def _read_shs100k(file: Path, audio: Path) -> tuple[Version, ...]:
    named = {row[0] + "-" + row[1]: row for row in _tab_separated(file, columns=4)}
    versions = []
    for name, split in _SHS100K.items():
        members = file.parent / name
        for row in _tab_separated(members, columns=2) if members.is_file() else ():
            track = f"{row[0]}-{row[1]}"
            if track not in named:
                raise VersionSetError(f"{members}: recording {track} is not in {file.name}")
            versions.append(
                Version(
                    track=track, work=row[0], split=split, path=audio / track[:2] / f"{track}.mp3",
                    title=named[track][2], artist=named[track][3],
                )
            )  # fmt: skip
    return tuple(versions)


def _tab_separated(file: Path, *, columns: int) -> list[list[str]]:
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < columns:
            raise VersionSetError(
                f"{file}, line {number}: {len(row)} columns, expected at least {columns} between tabs"
            )
    return rows


def _inside(audio: Path, name: str, file: Path) -> Path:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise VersionSetError(f"{file}: file is {name!r}, expected a path below the audio folder {audio}")
    return audio / name

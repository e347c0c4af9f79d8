"""Listing: a folder, a list or a manifest of music -> the tracks it names, each with where it lies. Nothing is opened
but the list itself.

    folder       everything below it, with the manifests found there (encoder.training.sources)
    list.txt     one path per line, from the list's folder on; blank lines and lines that begin with # are left out
    manifest.csv the rows of it, in their columns

Of what manifests name, a filter of the form column=value keeps a part.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder.training import midi
from encoder.training.sources import MANIFEST, Form, Source, StemFile, discover

_Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Music:
    """Where music lies, and which part of it is meant."""

    path: Path  # a folder, a list (.txt) or a manifest (.csv)
    where: tuple[str, ...] = ()  # "column=value" of the manifests; several values of one column are alternatives

    def __post_init__(self) -> None:
        for condition in self.where:
            column, _, value = condition.partition("=")
            if not column or not value:
                raise ValueError(f"filter {condition!r}, expected COLUMN=VALUE, as in split=test")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One track as it was found."""

    source: Source
    described: bool  # by a manifest, so that its group and artist are known

    @property
    def identity(self) -> list[object]:
        """What tells that a track is still the same: what is known of it, and size and time of change of its files."""
        stats = [file.path.stat() if file.path.is_file() else None for file in self.source.files]
        known = [self.source.track, self.source.group, self.source.artist, self.described]
        return [*known, *([s.st_size, s.st_mtime_ns] if s else [] for s in stats)]


def read(music: Music) -> tuple[Listed, ...]:
    """The tracks, sorted by id.

    Raises FileNotFoundError where nothing lies at the path, and ValueError where a filter has no column to look at or
    two tracks have one id.
    """
    path = Path(music.path)
    if path.is_dir():
        found, manifests = discover(path), sorted(path.rglob(MANIFEST))
    elif path.suffix.lower() == ".csv":
        found, manifests = discover(path.parent, manifest=path), [path]
    elif path.is_file():
        found, manifests = _from_list(path), []
    else:
        raise FileNotFoundError(
            f"{path}: no such file or folder, expected a folder, a list (.txt) or a manifest (.csv)"
        )
    rows = _rows(manifests)
    if music.where:
        kept = _fitting(rows, music)
        found = [source for source in found if source.track in kept]
    return tuple(
        Listed(source=source, described=source.track in rows) for source in sorted(found, key=lambda s: s.track)
    )


def _rows(manifests: Sequence[Path]) -> dict[str, _Row]:
    """Track id -> its row; stems that make one track together stand under their group, as their track does."""
    rows: dict[str, _Row] = {}
    for path in manifests:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            for row in csv.DictReader(lines):
                rows[row.get("id") or ""] = row
                if row.get("stem") and row.get("group"):
                    rows.setdefault(row["group"], row)
    return rows


def _fitting(rows: Mapping[str, _Row], music: Music) -> set[str]:
    wanted: dict[str, set[str]] = {}
    for condition in music.where:
        column, _, value = condition.partition("=")
        wanted.setdefault(column, set()).add(value)
    columns = sorted({column for row in rows.values() for column in row if column})
    for column in wanted:
        if column not in columns:
            known = ", ".join(columns) or "none, as it has no manifest"
            raise ValueError(f"{music.path}: no column {column!r} to filter by, expected one of its columns: {known}")
    return {
        track
        for track, row in rows.items()
        if all((row.get(column) or "").strip() in values for column, values in wanted.items())
    }


def _from_list(path: Path) -> list[Source]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text in UTF-8, expected one path per line") from error
    named = [path.parent / line for line in lines if line and not line.startswith("#")]
    files = sorted({Path(os.path.abspath(file)) for file in named})
    root = Path(os.path.commonpath([file.parent for file in files])) if files else path.parent
    return [_listed(file, root) for file in files]


def _listed(path: Path, root: Path) -> Source:
    place = path.relative_to(root)
    group = place if path.parent == root else place.parent  # as in a folder: those at the top are their own group
    form: Form = "midi" if path.suffix.lower() in midi.SUFFIXES else "recording"
    files = (StemFile(stem="mix", path=path),)
    return Source(track=place.as_posix(), form=form, files=files, group=group.as_posix(), title=path.stem)

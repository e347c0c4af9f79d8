"""Listing: what each sound is called, its label, its technique and where its audio lies.

A technique is what makes two sounds nearly the same: an instrument played in one way, a program of a synthesiser. Where
nothing tells it, each sound is a technique of its own.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder.audio import SUFFIXES

TABLE, MANIFEST = "sounds.csv", "manifest.csv"


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """Sounds with their labels; rows belong together."""

    about: str  # where they are from
    names: tuple[str, ...]
    paths: tuple[Path, ...]  # of audio, or of features (.npy)
    labels: NDArray[np.int64]
    techniques: NDArray[np.int64]
    label_names: tuple[str, ...]  # of label 0, 1 ...

    def __post_init__(self) -> None:
        lengths = tuple(map(len, (self.names, self.paths, self.labels, self.techniques)))
        if len(set(lengths)) != 1:
            raise ValueError(f"sounds must agree, got (names, paths, labels, techniques) = {lengths}")

    def __len__(self) -> int:
        return len(self.names)

    def pick(self, rows: Sequence[int] | NDArray) -> "Sounds":
        """Only these sounds."""
        rows = np.asarray(rows, np.int64)
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            techniques=self.techniques[rows],
        )


class Row(NamedTuple):
    """One sound as a table has it."""

    path: Path
    label: str
    technique: str


def of_rows(rows: Sequence[Row], *, about: str) -> Sounds:
    """Sounds of rows; numbers are given to labels and techniques in the order of their names."""
    if not rows:
        raise FileNotFoundError(f"{about}: names no sounds, expected some")
    label_names, labels = np.unique([row.label for row in rows], return_inverse=True)
    _, techniques = np.unique([f"{row.label}/{row.technique}" for row in rows], return_inverse=True)
    return Sounds(
        about=about,
        names=tuple(row.path.name for row in rows),
        paths=tuple(row.path for row in rows),
        labels=labels.astype(np.int64),
        techniques=techniques.astype(np.int64),
        label_names=tuple(map(str, label_names)),
    )


def write(directory: Path, rows: Sequence[Row]) -> None:
    """Write the table of a folder; paths lie in it."""
    with (directory / TABLE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "technique"])
        writer.writerows([row.path.relative_to(directory).as_posix(), row.label, row.technique] for row in rows)


def table(path: Path, split: str | None = None) -> list[Row]:
    """Rows of a sounds.csv."""
    rows = _rows(path, ("file", "label", "technique"), split)
    return [Row(path.parent / row["file"], row["label"], row["technique"]) for row in rows]


def one_shots(path: Path, split: str | None = None) -> list[Row]:
    """Rows of a manifest.csv that are one-shots, each a technique of its own."""
    rows = [row for row in _rows(path, ("file", "title", "kind"), split) if row["kind"] == "oneshot"]
    return [Row(path.parent / row["file"], row["title"].split("_")[0].lower(), row["title"]) for row in rows]


def folders(directory: Path) -> list[Row]:
    """Rows of a folder without a table; what lies in no subfolder has no label and is left out."""
    found = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    parts = [(path, path.relative_to(directory).parts) for path in found]
    return [Row(path, part[0], part[1] if len(part) > 2 else path.stem) for path, part in parts if len(part) > 1]


def _rows(path: Path, columns: Sequence[str], split: str | None) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = [*columns, *(["split"] if split else [])]
    if rows and (missing := [name for name in needed if name not in rows[0]]):
        raise ValueError(f"{path}: has no column {missing[0]!r}, expected {', '.join(needed)}")
    return [row for row in rows if split is None or row["split"] == split]

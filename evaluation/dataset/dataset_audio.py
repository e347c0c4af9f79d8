"""Dataset audio: which of a dataset's recordings lie in the user's folder, which are missing, unreadable or others.

Files are found by name in the folder and below it: T001.flac is track T001, whatever the suffix; names that begin with
N are noise tracks where no list names them. Headers are read, nothing is decoded (but an mp3 that does not
tell its length): a file that ends before its header says is found when it is used.

    ValueError
     └─ IncompleteDataset    recordings are missing or cannot be used; says how many and which first
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder import audio
from encoder.audio import AudioError
from evaluation.dataset.annotations import Annotations

_TOLERANCE = 1.0  # seconds that an annotation may go beyond the end of the file
_NAMED = 5  # of each kind in a message


class IncompleteDataset(ValueError):
    """Recordings of the dataset are missing or cannot be used."""

    def __init__(self, message: str, inventory: "Inventory") -> None:
        super().__init__(message)
        self.inventory = inventory


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What of a dataset's audio is there; ids of each kind are sorted."""

    directory: Path
    files: Mapping[str, Path]  # track id -> usable file
    durations: Mapping[str, float]  # seconds, by the header
    queries: tuple[str, ...]  # expected
    references: tuple[str, ...]  # expected
    distractors: tuple[str, ...]  # expected, or found where no list names them
    missing: tuple[str, ...]
    unusable: Mapping[str, str]  # track id -> reason

    @property
    def complete(self) -> bool:
        """Whether everything is there and there are noise tracks at all."""
        return not self.missing and not self.unusable and bool(self.distractors)

    def usable(self, ids: Iterable[str]) -> dict[str, Path]:
        """Id -> file of those that are there."""
        return {track: self.files[track] for track in ids if track in self.files}

    def facts(self) -> dict[str, Any]:
        """What goes into a benchmark's facts; JSON-safe."""
        return {
            "complete": self.complete,
            "missing": list(self.missing),
            "unusable": dict(self.unusable),
            "noise_tracks": len(self.usable(self.distractors)),
        }

    def message(self) -> str:
        """One line: how many are missing of each kind, and the first of them."""
        kinds = {"queries": self.queries, "references": self.references, "noise tracks": self.distractors}
        lacking = [_lack(name, ids, self.missing) for name, ids in kinds.items() if set(ids) & set(self.missing)]
        if self.unusable:
            reasons = [f"{track}: {reason}" for track, reason in list(self.unusable.items())[:2]]
            lacking.append(f"{len(self.unusable)} cannot be used ({'; '.join(reasons)})")
        if not self.distractors:
            lacking.append("no noise tracks (files whose names begin with N)")
        return f"{self.directory}: {', '.join(lacking) or 'complete'}"


def _lack(name: str, ids: Collection[str], missing: Collection[str]) -> str:
    absent = sorted(set(ids) & set(missing))
    more = ", …" if len(absent) > _NAMED else ""
    return f"{len(absent)} of {len(ids)} {name} missing ({', '.join(absent[:_NAMED])}{more})"


def take(annotations: Annotations, directory: Path) -> Inventory:
    """Look for the dataset's recordings in a folder; ValueError where there is none, or two files bear one name."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder, expected the dataset's audio (T001.*, N*.*)")
    named = _by_name(directory)
    queries = tuple(sorted({*annotations.queries, *annotations.sample_free}))
    noise = annotations.noise or tuple(name for name in named if name.startswith("N"))
    wanted = sorted({*queries, *annotations.references, *noise})
    durations, unusable = _opened({track: _one(named[track]) for track in wanted if track in named})
    unusable |= _other_editions(annotations, durations)
    return Inventory(
        directory=directory,
        files={track: _one(named[track]) for track in durations if track not in unusable},
        durations=durations,
        queries=queries,
        references=annotations.references,
        distractors=tuple(sorted(noise)),
        missing=tuple(track for track in wanted if track not in named),
        unusable=unusable,
    )


def _by_name(directory: Path) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = {}
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() in audio.SUFFIXES and path.is_file():
            named.setdefault(path.stem, []).append(path)
    return named


def _one(paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise ValueError(f"{paths[0]} and {paths[1]} are one track by name, expected one file; remove one")
    return paths[0]


def _opened(files: Mapping[str, Path]) -> tuple[dict[str, float], dict[str, str]]:
    durations, unusable = {}, {}
    for track, path in files.items():
        try:
            durations[track] = audio.info(path).duration
        except AudioError as error:
            unusable[track] = error.reason
    return durations, unusable


def _other_editions(annotations: Annotations, durations: Mapping[str, float]) -> dict[str, str]:
    """Tracks that are annotated beyond their end: another edition of the recording than the annotated one."""
    reached: dict[str, float] = {}
    for relation in annotations.relations:
        for track, spans in ((relation.query, relation.in_query), (relation.reference, relation.in_reference)):
            reached[track] = max([reached.get(track, 0.0), *(span.end for span in spans)])
    return {
        track: f"lasts {durations[track]:.1f} s, but is annotated up to {end:.1f} s: another edition"
        for track, end in sorted(reached.items())
        if track in durations and end > durations[track] + _TOLERANCE
    }

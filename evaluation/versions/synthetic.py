"""Synthetic version sets: works of our own, or MIDI files, each rendered several times with another band, key, tempo
and form -> a folder of recordings with versions.csv (encoder/training/version_set.py).

Works are split by work; MIDI files as their manifest says, whose splits keep each artist on one side.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from encoder.training import midi
from encoder.training.midi import MidiError
from encoder.training.version_set import FILE, SPLITS, Version
from evaluation.pieces.synthesis import compose, mix, render
from evaluation.versions.arrangement import arranged, cut

_RATE = 16_000  # Hz
_AT_ONCE = 10 * _RATE  # samples that are written at once
_FIRST_SEED = 80_000_000  # where neither a demo's pieces nor the multitracks reach
# Of the works of a split, however many are asked for: no work is ever of another one. The first are those of the set
# that the shipped weights learned from.
_NUMBERS = {
    "train": (range(60), range(1000, 4000)),
    "validation": (range(60, 72), range(4000, 7000)),
    "test": (range(72, 112), range(7000, 10_000)),
}
_SETTINGS = "settings.json"
_MOST = 3000  # works of a split
_COLUMNS = ("track", "work", "split", "file", "title", "artist")


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """How many works and versions, and how long."""

    train: int = 60  # works
    validation: int = 12
    test: int = 40
    versions: int = 4  # of each work
    seconds: float = 60.0  # of a work as composed; MIDI files are cut to it
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if not 0 <= getattr(self, name) <= _MOST:
                raise ValueError(f"synthetic versions: {name} is {getattr(self, name)}, expected 0 to {_MOST} works")
        if self.versions < 2:
            raise ValueError(f"synthetic versions: versions is {self.versions}, expected at least 2 of each work")
        if self.seconds < 20:
            raise ValueError(f"synthetic versions: seconds is {self.seconds}, expected at least 20, one shingle")


def write(
    directory: Path, settings: SyntheticSettings, *, scores: Path | None = None, manifest: Path | None = None,
    left_out: Callable[[str], None] = lambda line: None,
) -> Iterator[Version]:  # fmt: skip
    """Render all versions that are not there yet, one after the other, then write versions.csv.

    More works or versions may be asked for later; ValueError where what lies there was rendered with another length or
    seed, or where no work can be rendered. Works are composed, or the MIDI files below `scores` that `manifest`
    (columns id, title, artist, split) names; one that cannot be rendered is left out, and `left_out` is told why.
    """
    _require_same(directory / _SETTINGS, settings)
    works = _scored(scores, manifest, settings) if scores else _composed(settings)
    versions = []
    for work in works:
        of_work = [_version(directory, work, number) for number in range(settings.versions)]
        try:
            for number, version in enumerate(of_work):
                if not version.path.exists():
                    _save(version.path, work.rendered(number, settings))
                yield version
        except MidiError as error:
            left_out(f"{error}; left out")
            continue
        versions += of_work
    if not versions:
        raise ValueError(f"no work can be rendered, expected {scores or 'works'} to hold one; see the settings")
    _write_list(directory / FILE, directory / "audio", versions)


def _require_same(file: Path, settings: SyntheticSettings) -> None:
    """ValueError where the audio beside the file is another's; else it is noted whose it is."""
    mine = {"seconds": settings.seconds, "seed": settings.seed}
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(mine) + "\n", encoding="utf-8")
    if (kept := json.loads(file.read_text(encoding="utf-8"))) != mine:
        raise ValueError(f"{file.parent} was rendered with {kept}, asked for is {mine}; name another folder")


@dataclass(frozen=True, kw_only=True)
class _Composed:
    """A work of our own."""

    seed: int
    split: str
    artist: str = "asid"

    @property
    def name(self) -> str:
        return f"piece-{self.seed - _FIRST_SEED:06d}"

    @property
    def title(self) -> str:
        return compose(self.seed).title

    def rendered(self, number: int, settings: SyntheticSettings) -> NDArray[np.float32]:
        piece = compose(self.seed, duration=settings.seconds)
        return mix(render(arranged(piece, number), sample_rate=_RATE))


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A work that a MIDI file holds."""

    path: Path
    title: str
    artist: str
    split: str

    @property
    def name(self) -> str:
        return self.path.stem

    def rendered(self, number: int, settings: SyntheticSettings) -> NDArray[np.float32]:
        stems = midi.render(self.path, sample_rate=_RATE, arrangement=number)
        wave = np.zeros(max(map(len, stems.values())), np.float32)
        for stem in stems.values():
            wave[: len(stem)] += stem
        if number:
            rng = np.random.default_rng([settings.seed, number, *self.name.encode()])
            wave = cut(wave, rng, sample_rate=_RATE, section=settings.seconds / 5)
        return wave[: int(settings.seconds * _RATE)]


def _composed(settings: SyntheticSettings) -> list[_Composed]:
    first = _FIRST_SEED + settings.seed * 10_000
    return [
        _Composed(seed=first + number, split=split)
        for split in SPLITS
        for number in islice(chain(*_NUMBERS[split]), getattr(settings, split))
    ]


def _scored(scores: Path, manifest: Path | None, settings: SyntheticSettings) -> list[_Scored]:
    """MIDI files by split, up to the number of works asked for."""
    with (manifest or scores / "manifest.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    np.random.default_rng(settings.seed).shuffle(rows)  # a manifest is sorted by artist
    works = []
    for split in SPLITS:
        members = [row for row in rows if row["split"] == split and (scores / f"{row['id']}.mid").is_file()]
        works += [
            _Scored(path=scores / f"{row['id']}.mid", title=row["title"], artist=row["artist"], split=split)
            for row in members[: getattr(settings, split)]
        ]
    return works


def _version(directory: Path, work: _Composed | _Scored, number: int) -> Version:
    track = f"{work.name}-{number}"
    path = directory / "audio" / f"{track}.ogg"
    return Version(track=track, work=work.name, split=work.split, path=path, title=work.title, artist=work.artist)


def _save(path: Path, wave: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with soundfile.SoundFile(unfinished, "w", _RATE, channels=1, format="OGG", subtype="VORBIS") as file:
        for first in range(0, len(wave), _AT_ONCE):  # libsndfile overruns its stack where it is given minutes at once
            file.write(wave[first : first + _AT_ONCE])
    unfinished.rename(path)


def _write_list(path: Path, audio: Path, versions: list[Version]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for version in versions:
            row = (version.track, version.work, version.split, version.path.relative_to(audio).as_posix())
            writer.writerow((*row, version.title, version.artist))

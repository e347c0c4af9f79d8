"""Sources: what a folder of music offers for training, and what is known of it. Nothing is decoded here.

Four forms are recognised:

    stems       a folder of one track's stems: ``htdemucs/<id>/{vocals,drums,bass,other}.mp3``, any folder in which all
                files bear names of stems, or a folder named ``stems``; and the rows of a manifest whose group begins
                with ``stems:``. Their mix is left out, wherever it lies
    recording   any other audio file
    midi        a MIDI file

A ``manifest.csv`` describes the folder it lies in, with everything below, and is the whole list of it. Its columns
are id, title, artist, licence, kind, group, stem, file, split and source_repo; all but id may be missing. Without a
manifest, the tracks of one folder are one group, those at the top or in ``htdemucs`` each their own, and all are for
training.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from encoder import audio
from encoder.training import midi

MANIFEST = "manifest.csv"
MIXES = frozenset({"mix", "mixture", "master", "full"})
STEM_NAMES = frozenset({"accompaniment", "backing", "bass", "brass", "choir", "chords", "drums", "fx", "guitar"})
STEM_NAMES |= {"keys", "lead", "melody", "other", "pad", "pads", "percussion", "piano", "strings", "synth"}
STEM_NAMES |= {"vocals", "voice", "wind"}
_SHARED_GROUP = "stems:"

Form = Literal["stems", "recording", "midi"]


@dataclass(frozen=True, kw_only=True)
class StemFile:
    """One audio or MIDI file and the stem it holds ("mix" for a whole recording)."""

    stem: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Source:
    """One track as it lies on disk."""

    track: str
    form: Form
    files: tuple[StemFile, ...]
    group: str  # tracks of one group may share material
    split: str = "train"
    kind: str = ""  # song, loop, drum, oneshot ...
    title: str = ""
    artist: str = ""
    licence: str = ""

    @property
    def path(self) -> Path:
        """The recording or MIDI file, or the first stem."""
        return self.files[0].path


@dataclass(frozen=True)
class _Row:
    """One line of a manifest with the file it speaks of."""

    fields: dict[str, str]
    path: Path

    def __getitem__(self, column: str) -> str:
        return (self.fields.get(column) or "").strip()

    @property
    def group(self) -> str:
        owner = ":".join(part for part in (self["source_repo"], self["artist"]) if part)
        return self["group"] or owner or self["id"]


@dataclass(frozen=True)
class _Folder:
    """The stems of one track, found by their place."""

    track: str
    group: str
    files: tuple[StemFile, ...]


def discover(directory: Path, *, manifest: Path | None = None, splits: Collection[str] | None = None) -> list[Source]:
    """All sources below a folder, of the given splits only where any are given; none is an empty list.

    ``manifest`` stands in for the manifests found. Raises FileNotFoundError for a missing folder or manifest, and
    ValueError where a manifest lacks ids or names a track twice.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"no folder {directory}, expected one with recordings, stems or MIDI files")
    files = sorted(path for path in directory.rglob("*") if _is_music(path))
    manifests = [Path(manifest)] if manifest else sorted(directory.rglob(MANIFEST))
    roots = [directory] if manifest else [path.parent for path in manifests]
    folders = {folder.track: folder for folder in _stem_folders(directory, files)}

    rows = [row for path, root in zip(manifests, roots) for row in _rows(path, root, files)]
    unlisted = [path for path in files if not any(path.is_relative_to(root) for root in roots)]
    sources = [*_listed(rows, folders), *_unlisted(directory, unlisted)]
    _check_unique(sources)
    return [source for source in sources if splits is None or source.split in splits]


def _is_music(path: Path) -> bool:
    return path.suffix.lower() in audio.SUFFIXES | midi.SUFFIXES and not path.name.startswith(".") and path.is_file()


def _rows(manifest: Path, root: Path, files: list[Path]) -> Iterator[_Row]:
    if not manifest.is_file():
        raise FileNotFoundError(f"no manifest {manifest}; check the path")
    by_name = {path.stem: path for path in files if path.is_relative_to(root)}
    with open(manifest, newline="", encoding="utf-8-sig") as lines:
        for number, fields in enumerate(csv.DictReader(lines), start=2):
            if not fields.get("id"):
                raise ValueError(f"{manifest}, line {number}: no id, expected a column `id` that names the track")
            yield _Row(fields, _located(fields, manifest.parent, root, by_name))


def _located(fields: dict[str, str], beside: Path, root: Path, by_name: dict[str, Path]) -> Path:
    """The file a row names, from the manifest's folder or the one it describes; else the file named like its id."""
    if not fields.get("file"):
        return by_name.get(fields["id"], beside / fields["id"])
    if not (beside / fields["file"]).is_file() and (root / fields["file"]).is_file():
        return root / fields["file"]
    return beside / fields["file"]


def _listed(rows: Iterable[_Row], folders: dict[str, _Folder]) -> Iterator[Source]:
    shared: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if row.group.startswith(_SHARED_GROUP):
            shared[row.group].append(row)
        elif folder := folders.get(row["id"]):
            yield _described(row, row["id"], "stems", folder.files)
        elif row.path.suffix.lower() in midi.SUFFIXES:
            yield _described(row, row["id"], "midi", (StemFile(stem="mix", path=row.path),))
        else:
            yield _described(row, row["id"], "recording", (StemFile(stem="mix", path=row.path),))
    for group, members in shared.items():
        stems = [row for row in members if row["stem"]]
        if stems:
            files = tuple(StemFile(stem=row["stem"], path=row.path) for row in stems)
            total = next((row for row in members if not row["stem"]), stems[0])
            yield _described(total, group, "stems", files, split=stems[0]["split"])


def _described(row: _Row, track: str, form: Form, files: tuple[StemFile, ...], *, split: str = "") -> Source:
    return Source(
        track=track,
        form=form,
        files=files,
        group=row.group,
        split=split or row["split"] or "train",
        kind=_kind(form, row["kind"]),
        title=row["title"] or track,
        artist=row["artist"],
        licence=row["licence"],
    )


def _kind(form: Form, given: str = "") -> str:
    return {"stems": "multitrack", "midi": "midi"}.get(form) or given or "song"


def _unlisted(directory: Path, files: list[Path]) -> Iterator[Source]:
    folders = list(_stem_folders(directory, files))
    taken = {file.path.parent for folder in folders for file in folder.files}
    separated = {folder.track for folder in folders}  # the mixes of a separated library may lie beside it
    for folder in folders:
        about = {"track": folder.track, "title": folder.track, "group": folder.group, "kind": _kind("stems")}
        yield Source(form="stems", files=folder.files, **about)
    for path in files:
        if path.parent in taken or path.stem in separated:
            continue
        form: Form = "midi" if path.suffix.lower() in midi.SUFFIXES else "recording"
        track, group = _place(directory, path)
        file = StemFile(stem="mix", path=path)
        yield Source(track=track, form=form, files=(file,), group=group, kind=_kind(form), title=path.stem)


def _stem_folders(directory: Path, files: list[Path]) -> Iterator[_Folder]:
    contents: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in audio.SUFFIXES and path.stem.lower() not in MIXES:
            contents[path.parent].append(path)
    for folder, stems in contents.items():
        named_stems = folder.name.lower() == "stems" and folder != directory
        if named_stems or (len(stems) > 1 and all(path.stem.lower() in STEM_NAMES for path in stems)):
            track, group = _place(directory, folder.parent if named_stems else folder)
            yield _Folder(track, group, tuple(StemFile(stem=path.stem.lower(), path=path) for path in stems))


def _place(directory: Path, path: Path) -> tuple[str, str]:
    """(track, group) of a file or folder of stems by where it lies."""
    if path == directory:
        return directory.name, directory.name
    place = path.relative_to(directory)
    if path.parent.name == "htdemucs":
        return path.name, path.name
    if path.parent == directory:
        return place.as_posix(), place.as_posix()
    return place.as_posix(), place.parent.as_posix()


def _check_unique(sources: list[Source]) -> None:
    counts = Counter(source.track for source in sources)
    track, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        paths = ", ".join(str(source.path) for source in sources if source.track == track)
        raise ValueError(f"track {track!r} occurs {count} times ({paths}), expected ids that differ; rename one")

"""Annotations: Sample100-ext's own files <-> records. The format in which every benchmark of samples is kept.

    DIR/samples.csv             a row per relation: ids, tempo ratio, stems, sample type ...; see `_COLUMNS`
    DIR/annotations/S001.json   spans in query and reference: start_time, end_time, id, type (seconds)
    DIR/tracks.csv              a row per track: id, artist, title, year, genre (a space follows each comma)
    DIR/noise.json              {"dummy": [paths]}: the noise tracks; optional, also read under its released name
                                sample_100.json

`type` stands at the first entry of each id and holds for all of that id. A file without any type follows the labels the
dataset uses elsewhere: 0 is absence, anything else occurrence.

To write a benchmark:

    annotations.write(
        directory,                      # Path, made where it is missing
        relations,                      # Sequence[Relation], as in Relation(sample_id="S001",
                                        #     query="T001", reference="T002", tempo_ratio=1.03, sample_type="riff",
                                        #     transposition=-2.0, level=-1.5, sample_stems=("drums",),
                                        #     in_query=(Annotation(start=0.9, end=4.7, label=1),),
                                        #     in_reference=(Annotation(start=0.0, end=5.5, label=1),), ...)
        tracks=tracks,                  # Sequence[Track(id="T001", artist=, title=, year=, genre=, role=)]
        noise=("N001", "N002"),         # ids of the noise tracks; their audio files begin with N
    )

Three columns are ours and stand at the end of samples.csv: transposition (semitones), level (dB), sample_stems; so does
`role` in tracks.csv ("query" makes a track without relations a sample-free query). Reading gives back equal records.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from encoder.audio import SUFFIXES
from evaluation.dataset import relation_rows
from evaluation.dataset.relation_rows import AnnotationError
from evaluation.dataset.relations import Annotation, Relation

__all__ = ["Annotation", "AnnotationError", "Annotations", "Relation", "Track", "read", "write"]

_NOISE_LISTS = ("noise.json", "sample_100.json")
_TRACK_COLUMNS = ("track_id", "artist", "title", "year", "genre")
_ROLES = ("", "query", "reference", "distractor")


@dataclass(frozen=True, kw_only=True)
class Track:
    """One row of tracks.csv."""

    id: str
    artist: str = ""
    title: str = ""
    year: int | None = None
    genre: str = ""
    role: str = ""  # additional column: query, reference, distractor; the dataset does not say

    def __post_init__(self) -> None:
        if not self.id or self.role not in _ROLES:
            raise ValueError(f"track {self.id!r} with role {self.role!r}, expected an id and a role of {_ROLES}")


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """All that the files of one dataset say."""

    relations: tuple[Relation, ...]  # in the order of samples.csv
    tracks: tuple[Track, ...]
    noise: tuple[str, ...] = ()  # ids of the noise tracks; empty where no list names them

    @property
    def queries(self) -> tuple[str, ...]:
        """Track ids of the queries that sample something, sorted."""
        return tuple(sorted({r.query for r in self.relations}))

    @property
    def references(self) -> tuple[str, ...]:
        """Track ids of the references, sorted."""
        return tuple(sorted({r.reference for r in self.relations}))

    @property
    def sample_free(self) -> tuple[str, ...]:
        """Track ids of queries that sample nothing, sorted; only tracks whose role says so."""
        return tuple(sorted({t.id for t in self.tracks if t.role == "query"} - set(self.queries)))


def read(directory: Path) -> Annotations:
    """The annotations in a folder; AnnotationError names file, row and expectation."""
    directory = Path(directory)
    if not (directory / "samples.csv").is_file():
        raise AnnotationError(f"{directory}: no samples.csv; name the folder that holds Sample100-ext's files")
    rows = relation_rows.read(directory / "samples.csv")
    places = _places(directory / "annotations", rows)
    return Annotations(
        relations=tuple(relation_rows.relation(row, places.get(row.sample_id)) for row in rows.values()),
        tracks=_tracks(directory / "tracks.csv"),
        noise=_noise(directory),
    )


def write(
    directory: Path, relations: Sequence[Relation], *, tracks: Sequence[Track] = (), noise: Sequence[str] = ()
) -> None:
    """Write the files; a relation without spans gets no annotation file. Raises OSError where it may not write.

    Replaces what it writes. Refuses (AnnotationError) a folder with annotations of other samples, and doubled ids.
    """
    directory = Path(directory)
    _refuse_doubles([r.sample_id for r in relations], directory / "samples.csv")
    _refuse_doubles([t.id for t in tracks], directory / "tracks.csv")
    folder = directory / "annotations"
    strangers = {p.stem for p in folder.glob("*.json")} - {r.sample_id for r in relations if _marked(r)}
    if strangers:
        raise AnnotationError(f"{folder}: holds {min(strangers)}.json of another benchmark; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    relation_rows.write(directory / "samples.csv", relations)
    for relation in filter(_marked, relations):
        text = json.dumps(relation_rows.document(relation), ensure_ascii=False)
        (folder / f"{relation.sample_id}.json").write_text(text, encoding="utf-8")
    _write_tracks(directory / "tracks.csv", tracks)
    if noise:
        (directory / _NOISE_LISTS[0]).write_text(json.dumps({"dummy": list(noise)}), encoding="utf-8")


def _marked(relation: Relation) -> bool:
    return bool(relation.in_query or relation.in_reference)


def _refuse_doubles(ids: Sequence[str], path: Path) -> None:
    double = next((one for one in ids if ids.count(one) > 1), None)
    if double is not None:
        raise AnnotationError(f"{path}: {double} stands twice, expected each id once")


def _places(folder: Path, rows: Mapping[str, relation_rows.Row]) -> dict[str, Mapping[str, Any]]:
    """Sample id -> the checked document of its annotation file."""
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder, expected a JSON file per sample")
    found = {}
    for path in sorted(folder.glob("*.json")):
        row = rows.get(path.stem)
        if row is None:
            raise AnnotationError(f"{path}: samples.csv has no row {path.stem}; add the row or remove the file")
        found[path.stem] = relation_rows.checked(_json(path, Mapping, "an object"), row, path)
    return found


def _json(path: Path, kind: type, expected: str) -> Any:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON and of UTF-8 alike
        raise AnnotationError(f"{path}: not JSON ({error}); expected {expected}") from error
    if not isinstance(document, kind):
        raise AnnotationError(f"{path}: holds a {type(document).__name__}, expected {expected}")
    return document


def _tracks(path: Path) -> tuple[Track, ...]:
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file, expected the columns {', '.join(_TRACK_COLUMNS)}")
    with relation_rows.opened(path) as lines:
        reader = csv.reader(lines, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        if tuple(header[:5]) != _TRACK_COLUMNS:
            raise AnnotationError(f"{path}, row 1: columns {header}, expected {', '.join(_TRACK_COLUMNS)}")
        tracks = [_track(path, reader.line_num, header, values) for values in reader if values]
    _refuse_doubles([t.id for t in tracks], path)
    return tuple(tracks)


def _track(path: Path, line: int, header: list[str], values: list[str]) -> Track:
    if len(values) != len(header):
        raise AnnotationError(f"{path}, row {line}: {len(values)} fields, expected {len(header)} ({', '.join(header)})")
    fields = {name: value.strip() for name, value in zip(header, values, strict=True)}
    if fields["year"] and not fields["year"].isdigit():
        raise AnnotationError(f"{path}, row {line}: year is {fields['year']!r}, expected a number or nothing")
    try:
        return Track(
            id=fields["track_id"],
            artist=fields["artist"],
            title=fields["title"],
            year=int(fields["year"]) if fields["year"] else None,
            genre=fields["genre"],
            role=fields.get("role", ""),
        )
    except ValueError as error:
        raise AnnotationError(f"{path}, row {line}: {error}") from error


def _write_tracks(path: Path, tracks: Sequence[Track]) -> None:
    columns = (*_TRACK_COLUMNS, "role") if any(t.role for t in tracks) else _TRACK_COLUMNS
    lines = [", ".join(columns)]
    for track in tracks:
        year = "" if track.year is None else str(track.year)
        values = (track.id, track.artist, track.title, year, track.genre, track.role)
        lines.append(", ".join(_quoted(value) for value in values[: len(columns)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(value: str) -> str:
    """A field that the space after the comma does not spoil."""
    value = " ".join(value.split())
    return '"' + value.replace('"', '""') + '"' if "," in value or value.startswith('"') else value


def _noise(directory: Path) -> tuple[str, ...]:
    """Ids of the listed noise tracks: the names of the files without folder and suffix."""
    path = next((directory / name for name in _NOISE_LISTS if (directory / name).is_file()), None)
    if path is None:
        return ()
    expected = 'an object {"dummy": [paths]}'
    listed = _json(path, Mapping, expected).get("dummy")
    if not (isinstance(listed, list) and all(isinstance(entry, str) and entry for entry in listed)):
        raise AnnotationError(f"{path}: expected {expected}")
    ids = [_id(entry) for entry in listed]
    _refuse_doubles(ids, path)
    return tuple(ids)


def _id(entry: str) -> str:
    name = PurePosixPath(entry.replace("\\", "/"))
    return name.stem if name.suffix.lower() in SUFFIXES else name.name

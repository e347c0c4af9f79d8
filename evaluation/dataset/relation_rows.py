"""Relation rows: a row of samples.csv and its annotation file <-> a Relation, with an error line for what is malformed.

ValueError
 └─ AnnotationError   a file of the dataset is malformed; says which, where and what is expected
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from evaluation.dataset.relations import Annotation, Relation

COLUMNS = (
    "sample_id", "target_track_id", "query_track_id", "t_target", "t_query", "n_repetitions", "estimated_tempo_ratio",
    "target_instruments", "query_interfering_instruments", "sample_type", "interpolation", "comments",
)  # fmt: skip
OURS = ("transposition", "level", "sample_stems")  # at the end; files without them are read too
_SIDES = ("query_time_annotations", "target_time_annotations")


class AnnotationError(ValueError):
    """A file of the dataset is malformed; the message names file, row and expectation."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of samples.csv."""

    where: str  # file and row, as error messages name them
    fields: Mapping[str, str]

    @property
    def sample_id(self) -> str:
        return self.fields["sample_id"]

    def number(self, name: str) -> float:
        """A field as a number; raises AnnotationError."""
        try:
            return float(self.fields[name])
        except ValueError:
            raise AnnotationError(f"{self.where}: {name} is {self.fields[name]!r}, expected a number") from None

    def stems(self, name: str) -> tuple[str, ...]:
        """A field of names with slashes between them."""
        return tuple(part.strip() for part in self.fields.get(name, "").split("/") if part.strip())


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A table of the dataset, open for the csv module; what is not UTF-8 text is an AnnotationError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield lines
    except (UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path}: no table in UTF-8 ({error}); export it again") from error


def read(path: Path) -> dict[str, Row]:
    """Sample id -> row of samples.csv, in the order of the file."""
    rows: dict[str, Row] = {}
    with opened(path) as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise AnnotationError(f"{path}, row 1: no column {missing[0]!r}, expected {', '.join(COLUMNS)}")
        for values in filter(None, reader):
            row = _row(path, reader.line_num, header, values)
            if row.sample_id in rows:
                raise AnnotationError(f"{row.where}: {row.sample_id} stands twice, expected each sample once")
            rows[row.sample_id] = row
    if not rows:
        raise AnnotationError(f"{path}: holds no relations, expected a row per sample")
    return rows


def _row(path: Path, line: int, header: list[str], values: list[str]) -> Row:
    where = f"{path}, row {line}"
    if len(values) != len(header):
        cure = "; quote fields that hold commas" if len(values) > len(header) else ""
        raise AnnotationError(f"{where}: {len(values)} fields, expected {len(header)}{cure}")
    return Row(where=where, fields={name: value.strip() for name, value in zip(header, values, strict=True)})


def checked(document: Mapping[str, Any], row: Row, path: Path) -> Mapping[str, Any]:
    """The document of an annotation file, after it was found to belong to its row and to be complete."""
    for name in ("sample_id", "query_track_id", "target_track_id"):
        if document.get(name) != row.fields[name]:
            raise AnnotationError(
                f"{path}: {name} is {document.get(name)!r}, expected {row.fields[name]!r} ({row.where})"
            )
    for side in _SIDES:
        entries = document.get(side)
        if not (isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)):
            raise AnnotationError(f"{path}: {side} is no list of objects; expected start_time, end_time, id, type")
        for number, entry in enumerate(entries, start=1):
            _check_entry(entry, f"{path}, {side} {number}")
    return document


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    start, end, label = entry.get("start_time"), entry.get("end_time"), entry.get("id")
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in (start, end)):
        raise AnnotationError(f"{where}: from {start!r} to {end!r}, expected start_time and end_time in seconds")
    if not 0 <= start <= end < float("inf"):
        raise AnnotationError(f"{where}: from {start} to {end} s, expected 0 <= start_time <= end_time")
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise AnnotationError(f"{where}: id is {label!r}, expected a whole number from 0 on")
    if not isinstance(entry.get("type"), str | None):
        raise AnnotationError(f"{where}: type is {entry['type']!r}, expected words such as 'occurrence'")


def relation(row: Row, document: Mapping[str, Any] | None) -> Relation:
    """The relation of a row and, where there is one, of its annotation document."""
    document = document or {}
    optional = {name: row.number(name) for name in ("transposition", "level") if row.fields.get(name)}
    repetitions = row.number("n_repetitions")
    if repetitions != int(repetitions):
        raise AnnotationError(f"{row.where}: n_repetitions is {repetitions}, expected a whole number")
    try:
        return Relation(
            sample_id=row.sample_id,
            query=row.fields["query_track_id"],
            reference=row.fields["target_track_id"],
            query_start=row.number("t_query"),
            reference_start=row.number("t_target"),
            repetitions=int(repetitions),
            tempo_ratio=row.number("estimated_tempo_ratio"),
            reference_stems=row.stems("target_instruments"),
            interfering_stems=row.stems("query_interfering_instruments"),
            sample_type=row.fields["sample_type"],
            interpolation=row.fields["interpolation"],
            comment=row.fields["comments"],
            description=document.get("description") or "",
            in_query=_annotations(document.get(_SIDES[0], ())),
            in_reference=_annotations(document.get(_SIDES[1], ())),
            sample_stems=row.stems("sample_stems"),
            **optional,
        )
    except AnnotationError:
        raise
    except ValueError as error:
        raise AnnotationError(f"{row.where}: {error}") from error


def _annotations(entries: Sequence[Mapping[str, Any]]) -> tuple[Annotation, ...]:
    """Entries with the type of the first entry of their id; without any type, 0 is absence and the rest occurrence."""
    typed = any(entry.get("type") is not None for entry in entries)
    kinds: dict[int, str] = {}
    for entry in entries:
        usual = "" if typed else ("absence" if entry["id"] == 0 else "occurrence")
        kinds.setdefault(entry["id"], usual if entry.get("type") is None else entry["type"])
    return tuple(
        Annotation(
            start=float(entry["start_time"]),
            end=float(entry["end_time"]),
            label=entry["id"],
            kind=kinds[entry["id"]] if entry.get("type") is None else entry["type"],
        )
        for entry in entries
    )


def document(relation: Relation) -> dict[str, Any]:
    """What the annotation file of a relation holds."""
    sides = {_SIDES[0]: relation.in_query, _SIDES[1]: relation.in_reference}
    ids = {"target_track_id": relation.reference, "query_track_id": relation.query, "sample_id": relation.sample_id}
    described = {"description": relation.description} if relation.description else {}
    return {side: _entries(spans) for side, spans in sides.items()} | ids | described


def _entries(annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    kinds: dict[int, str] = {}
    for span in annotations:
        entry = {"start_time": span.start, "end_time": span.end, "id": span.label}
        if kinds.get(span.label) != span.kind:  # the first of its label, or another than the label's
            entry["type"] = span.kind
        kinds.setdefault(span.label, span.kind)
        entries.append(entry)
    return entries


def write(path: Path, relations: Sequence[Relation]) -> None:
    """samples.csv, with our columns at the end."""
    with path.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow((*COLUMNS, *OURS))
        table.writerows(_values(relation) for relation in relations)


def _values(relation: Relation) -> tuple[Any, ...]:
    return (
        relation.sample_id, relation.reference, relation.query, _number(relation.reference_start),
        _number(relation.query_start), relation.repetitions, relation.tempo_ratio, "/".join(relation.reference_stems),
        "/".join(relation.interfering_stems), relation.sample_type, relation.interpolation, relation.comment,
        _number(relation.transposition), _number(relation.level), "/".join(relation.sample_stems),
    )  # fmt: skip


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else repr(float(value))

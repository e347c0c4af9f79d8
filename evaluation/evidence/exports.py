"""Exports: replies -> files that other programs read. What is written follows from the file's suffix.

    .json      all queries; the object below
    .csv       all queries, a row a match; .parquet the same with `segments` as a list (catalogue_rows.py)
    .txt       Audacity labels on the query's timeline (layers.py)
    .jams      JAMS, an annotation a match (layers.py)
    (none)     a folder of Sonic Visualiser layers, two a match (layers.py)

    {"queries": [{"query": path, "found": bool, "duration": seconds, "error": null | reason, "barred": bool | null,
                  "false_alarms": float | null, "sample_free": float | null,
                  "matches": [{"reference": {"number", "path", "title", "artist", "isrc", "duration", "content_hash"},
                               "score": float, "confidence": float | null,
                               "relation": "sample" | "same recording" | null,
                               "occurrences": [{"query_span": [s, e], "reference_span": [s, e],
                                                "tempo_ratio": float | null, "transposition": float | null,
                                                "likeness": float | null}],
                               "stems": null | {"carried_by": stem | null, "shares": {stem: float}}}],
                  "same_recording": [as in "matches"]}]}

Spans are seconds (to the millisecond), `tempo_ratio` is query tempo over reference tempo, `transposition` semitones by
which the query is higher; both are null where references were not correlated. `confidence` is the probability that the
match is right, null without a calibration. `likeness` is the cosine of the features of both spans.
`same_recording` lists what the query is a copy or an excerpt of, with nothing else to be heard; `--include-self` has
them among the matches, where `relation` says so. `isrc` is empty where the file does not tell it. `stems` is null
unless `--stems` was given: `shares` are the parts of the match's likeness that the stems of the query carry, of sum 1
(all 0 where none is like the reference), `carried_by` is the stem that stands out, null where none does. An empty
`matches` without `error` means "no sample found", at the rate of false alarms `false_alarms`; `sample_free` is the
probability that nothing that was compared is sampled, null without a calibration. Where there is no bar (`barred`),
matches are the nearest, right or not, and nothing is `found`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from encoder.whole import whole
from evaluation.evidence import catalogue_rows, layers
from evaluation.evidence.replies import Reply
from reranker.rank import Carried, Match, Occurrence
from reranker.relation import relation

_OF_ALL: Mapping[str, Callable[[Sequence[Reply], Path], None]] = {
    ".json": lambda replies, path: _write_json(replies, path),
    ".csv": catalogue_rows.write_csv,
    ".parquet": catalogue_rows.write_parquet,
    "": layers.write_sonic_visualiser,
}
_OF_ONE: Mapping[str, Callable[[Reply, Path], None]] = {
    ".txt": layers.write_audacity,
    ".jams": layers.write_jams,
}


def require_format(path: Path) -> None:
    """ValueError where no format has the file's suffix."""
    if path.suffix.lower() not in {*_OF_ALL, *_OF_ONE}:
        named = ", ".join(suffix for suffix in [*_OF_ALL, *_OF_ONE] if suffix)
        raise ValueError(
            f"export {path}: suffix is {path.suffix!r}, expected {named}, or none (a folder for Sonic Visualiser)"
        )


def write(replies: Sequence[Reply], path: Path) -> tuple[Path, ...]:
    """Write the replies as the suffix says; the paths written, one but where a format holds a single recording.

    A format of a single recording gets a file per query, numbered where there are several: labels.txt becomes
    labels.1-song.txt, labels.2-other.txt. Files are there whole or not at all. Raises ValueError for an unknown suffix,
    OSError where it may not write.
    """
    require_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if not suffix:
        _OF_ALL[suffix](replies, path)
        return (path,)
    if suffix in _OF_ALL:
        with whole(path) as unfinished:
            _OF_ALL[suffix](replies, unfinished)
        return (path,)
    paths = _numbered(path, replies) if len(replies) > 1 else (path,)
    for reply, one in zip(replies, paths, strict=True):
        with whole(one) as unfinished:
            _OF_ONE[suffix](reply, unfinished)
    return paths


def document(replies: Iterable[Reply]) -> dict[str, Any]:
    """The documented JSON object."""
    return {"queries": [_reply(r) for r in replies]}


def _numbered(path: Path, replies: Sequence[Reply]) -> tuple[Path, ...]:
    return tuple(
        path.with_name(f"{path.stem}.{number}-{layers.short_stem(reply.query)}{path.suffix}")
        for number, reply in enumerate(replies, start=1)
    )


def _write_json(replies: Sequence[Reply], path: Path) -> None:
    content = json.dumps(document(replies), indent=2, ensure_ascii=False) + "\n"
    path.write_text(content, encoding="utf-8", errors="backslashreplace")  # bytes of a name that are no text


def _reply(reply: Reply) -> dict[str, Any]:
    return {
        "query": str(reply.query),
        "found": reply.found,
        "duration": reply.answer.duration if reply.answer else None,
        "error": reply.error or None,
        "barred": reply.answer.barred if reply.answer else None,
        "false_alarms": reply.answer.false_alarms if reply.answer else None,
        "sample_free": reply.answer.sample_free if reply.answer else None,
        "matches": [_match(m) for m in reply.matches],
        "same_recording": [_match(m) for m in reply.answer.same] if reply.answer else [],
    }


def _match(match: Match) -> dict[str, Any]:
    known = ("number", "title", "artist", "isrc", "duration", "content_hash")
    reference = {name: getattr(match.reference, name) for name in known} | {"path": str(match.reference.path)}
    return {
        "reference": reference,
        "score": match.score,
        "confidence": match.confidence,
        "relation": relation(match),
        "occurrences": [_occurrence(o) for o in match.occurrences],
        "stems": _stems(match.carried) if match.carried else None,
    }


def _stems(carried: Carried) -> dict[str, Any]:
    return {"carried_by": carried.stem, "shares": {stem: round(share, 4) for stem, share in carried.shares.items()}}


def _occurrence(occurrence: Occurrence) -> dict[str, Any]:
    return {
        "query_span": [round(t, 3) for t in occurrence.query_span],
        "reference_span": [round(t, 3) for t in occurrence.reference_span],
        "tempo_ratio": occurrence.tempo_ratio,
        "transposition": occurrence.transposition,
        "likeness": occurrence.likeness,
    }

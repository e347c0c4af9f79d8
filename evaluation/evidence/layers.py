"""Layers: replies -> labels on a timeline, as audio editors and annotation tools read them.

Audacity: start, end and text of every occurrence in the query, separated by tabs. Sonic Visualiser: a folder with two
files a match, named and written as in Sample100-ext: NAME-RANK_s.csv for the query, NAME-RANK_r.csv for the reference,
tab-separated and without header: start, number of the occurrence, duration. JAMS (Humphrey et al., ISMIR 2014): an
annotation of namespace `segment_open` a match; places in the reference stand in its sandbox, in the same order.
"""

import glob
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluation.evidence.replies import Reply, certainty, clock, name, warp
from reranker.rank import Match, Span

_JAMS = "0.3.5"  # version of the format
_STEM = 180  # bytes, of the 255 that a name may have


def write_audacity(reply: Reply, path: Path) -> None:
    """Label track of the query, by time; empty where nothing was found."""
    labels = sorted(
        (*o.query_span, f"{name(m.reference)}, {clock(o.reference_span[0])}-{clock(o.reference_span[1])}"
                        f"{', ' if warp(o) else ''}{warp(o)}, {certainty(m)}")
        for m in reply.matches
        for o in m.occurrences
    )  # fmt: skip
    lines = (f"{start:.6f}\t{end:.6f}\t{' '.join(text.split())}\n" for start, end, text in labels)
    path.write_text("".join(lines), encoding="utf-8")


def write_sonic_visualiser(replies: Sequence[Reply], folder: Path) -> None:
    """Two layers a match into the folder, which is made where it is missing; several queries are numbered.

    Layers of the same queries that an earlier export left there go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, reply in enumerate(replies, start=1):
        stem = f"{number}-{short_stem(reply.query)}" if len(replies) > 1 else short_stem(reply.query)
        for earlier in folder.glob(f"{glob.escape(stem)}-[0-9][0-9]_[sr].csv"):  # matches that are none any more
            earlier.unlink()
        for rank, match in enumerate(reply.matches, start=1):
            for side, spans in (("s", "query_span"), ("r", "reference_span")):
                layer = _layer([getattr(o, spans) for o in match.occurrences])
                (folder / f"{stem}-{rank:02d}_{side}.csv").write_text(layer)


def short_stem(path: Path) -> str:
    """The name without suffix, of so many bytes that a file's name has room for more."""
    return path.stem.encode(errors="backslashreplace")[:_STEM].decode(errors="ignore")


def write_jams(reply: Reply, path: Path) -> None:
    """One JAMS file for the query; without annotations where nothing was found."""
    duration = reply.answer.duration if reply.answer else 0.0  # the format demands a number
    identity = {"title": reply.query.stem, "artist": "", "release": "", "identifiers": {}}
    document = {
        "file_metadata": identity | {"duration": duration, "jams_version": _JAMS},
        "annotations": [_annotation(match, duration) for match in reply.matches],
        "sandbox": {"query": str(reply.query), "error": reply.error or None},
    }
    content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    path.write_text(content, encoding="utf-8", errors="backslashreplace")  # bytes of a name that are no text


def _layer(spans: list[Span]) -> str:
    return "".join(f"{start:.9f}\t{number}\t{end - start:.9f}\n" for number, (start, end) in enumerate(spans, start=1))


def _annotation(match: Match, duration: float) -> dict[str, Any]:
    r = match.reference
    reference = {"path": str(r.path), "title": r.title, "artist": r.artist, "isrc": r.isrc, "duration": r.duration}
    observations = [
        {"time": start, "duration": end - start, "value": name(r), "confidence": match.confidence}
        for start, end in (o.query_span for o in match.occurrences)
    ]
    places = [
        {"reference_span": list(o.reference_span), "tempo_ratio": o.tempo_ratio, "transposition": o.transposition}
        for o in match.occurrences
    ]
    return {
        "namespace": "segment_open",
        "annotation_metadata": _made_by(),
        "data": observations,
        "sandbox": {"reference": reference, "score": match.score, "occurrences": places},
        "time": 0.0,
        "duration": duration,
    }


def _made_by() -> dict[str, Any]:
    empty = dict.fromkeys(("version", "corpus", "annotation_rules", "validation"), "")
    program = {"annotation_tools": f"asid {metadata.version('asid')}", "data_source": "program"}
    return empty | program | {"curator": {"name": "", "email": ""}, "annotator": {}}

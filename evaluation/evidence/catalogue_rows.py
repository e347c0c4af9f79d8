"""Catalogue rows: replies -> a table with a row a match, for catalogues and spreadsheets (CSV, Parquet).

query                  path asked about
result                 match, no sample found, or the reason why there is no answer; a query is never left out
rank                   1 is the best match of its query
isrc, title, artist    of the reference; empty where its file does not tell
match_percent          share of the query that the match covers, 0 to 100
segments               places: in CSV "1.500-9.250 from 30.000-38.137; ..." in seconds (query from reference), in
                       Parquet a list of {query_start, query_end, reference_start, reference_end}
confidence             probability that the match is right; empty without a calibration
score                  ranks, is no probability
tempo_ratio            query tempo / reference tempo of the longest place
transposition          semitones by which that place is higher in the query
reference, content_hash    path of the reference and its BLAKE2b
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from encoder.limits import printable
from evaluation.evidence.replies import Reply
from reranker.rank import Match, Occurrence

_ENDS = ("query_start", "query_end", "reference_start", "reference_end")
SCHEMA = pa.schema([
    ("query", pa.string()), ("result", pa.string()), ("rank", pa.int32()), ("isrc", pa.string()),
    ("title", pa.string()), ("artist", pa.string()), ("match_percent", pa.float64()),
    ("segments", pa.list_(pa.struct([(name, pa.float64()) for name in _ENDS]))),
    ("confidence", pa.float64()), ("score", pa.float64()), ("tempo_ratio", pa.float64()),
    ("transposition", pa.float64()), ("reference", pa.string()), ("content_hash", pa.string()),
])  # fmt: skip


def rows(replies: Iterable[Reply]) -> Iterator[dict[str, Any]]:
    """A row a match in the columns of `SCHEMA`; one row of its own for a query without."""
    for reply in replies:
        query = printable(str(reply.query))  # bytes of a name that are no text, as escapes
        if not reply.matches:
            yield {"query": query, "result": reply.error or "no sample found"}
        for rank, match in enumerate(reply.matches, start=1):
            yield {"query": query, "result": "match", "rank": rank, **_match(match, reply.answer.duration)}


def write_csv(replies: Sequence[Reply], path: Path) -> None:
    """UTF-8 with a header line; a value that is not known is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCHEMA.names, restval="")
        writer.writeheader()
        for row in rows(replies):
            text = row | {"segments": _text(row.get("segments", ()))}
            writer.writerow({name: _harmless(value) for name, value in text.items()})


def write_parquet(replies: Sequence[Reply], path: Path) -> None:
    """The same columns in every file, whatever was found."""
    parquet.write_table(pa.Table.from_pylist(list(rows(replies)), schema=SCHEMA), path)


def _match(match: Match, duration: float) -> dict[str, Any]:
    best, reference = match.longest, match.reference
    return {
        **{name: getattr(reference, name) for name in ("isrc", "title", "artist", "content_hash")},
        "reference": str(reference.path),
        "match_percent": round(min(100.0, 100.0 * match.covered / duration), 2) if duration else 0.0,
        "segments": [_segment(o) for o in match.occurrences],
        "confidence": match.confidence,
        "score": match.score,
        "tempo_ratio": best and best.tempo_ratio,
        "transposition": best and best.transposition,
    }


def _segment(occurrence: Occurrence) -> dict[str, float]:
    ends = (*occurrence.query_span, *occurrence.reference_span)
    return {name: round(end, 3) for name, end in zip(_ENDS, ends, strict=True)}


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, behind an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _text(segments: Iterable[dict[str, float]]) -> str:
    ends = ([s[name] for name in _ENDS] for s in segments)
    return "; ".join(f"{a:.3f}-{b:.3f} from {c:.3f}-{d:.3f}" for a, b, c, d in ends)

"""Answers as people and programs read them: a table, or JSON.

    {"queries": [{"query": path, "found": bool, "duration": seconds, "error": null | reason,
                  "matches": [{"reference": {"number", "path", "title", "artist", "duration"},
                               "score": float, "confidence": null,
                               "occurrences": [{"query_span": [s, e], "reference_span": [s, e],
                                                "tempo_ratio": float | null, "transposition": float | null}]}]}]}

Spans are seconds, `tempo_ratio` is query tempo over reference tempo, `transposition` semitones by which the query is
higher; both are null where references were not correlated. `confidence` is null until a calibration exists.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.audio import AudioError
from reranker.rank import Match, Occurrence, Span
from reranker.search import Answer, Searcher

_SHOWN = 3  # occurrences of a match in the table


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a query, or why there is none."""

    query: Path
    answer: Answer | None
    error: str = ""


def answer(searcher: Searcher, query: Path, *, include_self: bool = False) -> Reply:
    """Ask for one query; an unusable file is a reply with its reason."""
    try:
        return Reply(query=query, answer=searcher(query, include_self=include_self))
    except AudioError as error:
        return Reply(query=query, answer=None, error=error.reason)


def to_json(replies: Iterable[Reply]) -> dict[str, Any]:
    """The documented JSON object."""
    return {"queries": [_reply(r) for r in replies]}


def to_text(reply: Reply) -> str:
    """A few lines for people; one where there is an error."""
    if reply.answer is None:
        return f"{reply.query}: {reply.error}"
    if not reply.answer.matches:
        return f"{reply.query}\n  no sample found"
    return "\n".join([str(reply.query), *(line for m in reply.answer.matches for line in _lines(m))])


def clock(seconds: float) -> str:
    """Seconds as m:ss.s."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def _lines(match: Match) -> list[str]:
    r = match.reference
    name = f"{r.artist} - {r.title}" if r.artist else r.title
    places = [f"      {_place(o)}" for o in match.occurrences[:_SHOWN]]
    more = len(match.occurrences) - _SHOWN
    return [f"  {match.score:6.2f}  {name}  ({r.path})", *places, *([f"      and {more} more"] if more > 0 else [])]


def _place(occurrence: Occurrence) -> str:
    spans = f"{_span(occurrence.query_span)}  from  {_span(occurrence.reference_span)}"
    if occurrence.tempo_ratio is None:
        return spans
    return f"{spans}  tempo x {occurrence.tempo_ratio:.2f}, {occurrence.transposition:+.1f} semitones"


def _span(span: Span) -> str:
    return f"{clock(span[0])}-{clock(span[1])}"


def _reply(reply: Reply) -> dict[str, Any]:
    matches = reply.answer.matches if reply.answer else ()
    return {
        "query": str(reply.query),
        "found": bool(matches),
        "duration": reply.answer.duration if reply.answer else None,
        "error": reply.error or None,
        "matches": [_match(m) for m in matches],
    }


def _match(match: Match) -> dict[str, Any]:
    r = match.reference
    reference = {"number": r.number, "path": str(r.path), "title": r.title, "artist": r.artist, "duration": r.duration}
    occurrences = [_occurrence(o) for o in match.occurrences]
    return {"reference": reference, "score": match.score, "confidence": match.confidence, "occurrences": occurrences}


def _occurrence(occurrence: Occurrence) -> dict[str, Any]:
    return {
        "query_span": [round(t, 3) for t in occurrence.query_span],
        "reference_span": [round(t, 3) for t in occurrence.reference_span],
        "tempo_ratio": occurrence.tempo_ratio,
        "transposition": occurrence.transposition,
    }

"""Answers as people read them: a few lines a query. As programs read them: evaluation/evidence/exports.py."""

from evaluation.evidence.exports import document as to_json
from evaluation.evidence.replies import Reply, answer, clock, name, warp
from reranker.rank import Match, Occurrence, Span
from reranker.search import Answer

__all__ = ["Reply", "answer", "clock", "to_json", "to_text"]

_SHOWN = 3  # occurrences of a match in the table


def to_text(reply: Reply) -> str:
    """A few lines for people; one where there is an error."""
    if reply.answer is None:
        return f"{reply.query}: {reply.error}"
    if not reply.answer.matches:
        return f"{reply.query}\n  no sample found{_how_sure(reply.answer)}"
    return "\n".join([str(reply.query), *(line for m in reply.answer.matches for line in _lines(m))])


def _how_sure(answer: Answer) -> str:
    """At which false-alarm rate, where one was asked for."""
    return "" if answer.false_alarms is None else f" (false-alarm rate {100 * answer.false_alarms:g} %)"


def _lines(match: Match) -> list[str]:
    places = [f"      {_place(o)}" for o in match.occurrences[:_SHOWN]]
    more = len(match.occurrences) - _SHOWN
    sure = "" if match.confidence is None else f"  confidence {100 * match.confidence:.0f} %"
    first = f"  {match.score:6.2f}{sure}  {name(match.reference)}  ({match.reference.path})"
    return [first, *places, *([f"      and {more} more"] if more > 0 else [])]


def _place(occurrence: Occurrence) -> str:
    spans = f"{_span(occurrence.query_span)}  from  {_span(occurrence.reference_span)}"
    return f"{spans}  {warp(occurrence)}".rstrip()


def _span(span: Span) -> str:
    return f"{clock(span[0])}-{clock(span[1])}"

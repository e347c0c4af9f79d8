"""Answers as people read them: a few lines a query. As programs read them: evaluation/evidence/exports.py."""

from dataclasses import replace

from encoder.limits import printable
from evaluation.evidence.exports import document as to_json
from evaluation.evidence.replies import UNANSWERED, Reply, answer, clock, name, percent, reason, tally, warp
from reranker.carried import StemFinder
from reranker.rank import Carried, Match, Occurrence, Span
from reranker.relation import relation
from reranker.search import Answer

__all__ = ["Reply", "answer", "clock", "to_json", "to_text", "with_stems"]

_SHOWN = 3  # occurrences of a match in the table


def with_stems(reply: Reply, find_stems: StemFinder | None) -> Reply:
    """The reply with the stem that carries each match; the reply itself where nobody asks for stems.

    A query that cannot be separated, or whose references are damaged, keeps its answer and has the reason beside it.
    """
    if find_stems is None or reply.answer is None:
        return reply
    try:
        return replace(reply, answer=replace(reply.answer, matches=find_stems(reply.query, reply.answer.matches)))
    except UNANSWERED as error:
        return replace(reply, error=f"no stems: {reason(error)}")


def to_text(reply: Reply) -> str:
    """A few lines for people; one where there is an error."""
    if reply.answer is None:
        return printable(f"{reply.query}: {reply.error}")
    same = [f"  the same recording as  {_of(m)}; --include-self shows it" for m in reply.answer.same]
    found = [line for m in reply.answer.matches for line in _lines(m)]
    if found and not reply.answer.barred:
        found.insert(0, "  the nearest, whether or not they are right (--min-score sets a bar)")
    return "\n".join([printable(str(reply.query)), *same, *(found or [f"  no sample found{_how_sure(reply.answer)}"])])


def _how_sure(answer: Answer) -> str:
    """At which false-alarm rate, where one was asked for."""
    return "" if answer.false_alarms is None else f" (false-alarm rate {100 * answer.false_alarms:.2g} %)"


def _lines(match: Match) -> list[str]:
    places = [f"      {_place(o)}" for o in match.occurrences[:_SHOWN]]
    more = len(match.occurrences) - _SHOWN
    sure = "" if match.confidence is None else f"  confidence {percent(match.confidence)}"
    same = "  the same recording" if relation(match) == "same recording" else ""
    first = f"  {tally(match.score):>6}{sure}  {_of(match)}{same}"
    stem = [f"      stem: {_stem(match.carried)}"] if match.carried else []
    return [first, *stem, *places, *([f"      and {more} more"] if more > 0 else [])]


def _of(match: Match) -> str:
    return printable(f"{name(match.reference)}  ({match.reference.path})")


def _stem(carried: Carried) -> str:
    """The stem and its share; where it cannot be told, all that have one, largest first."""
    if carried.stem is not None:
        return f"{carried.stem} {carried.shares[carried.stem]:.2f}"
    order = sorted(carried.shares, key=lambda stem: -carried.shares[stem])
    shares = ", ".join(f"{stem} {carried.shares[stem]:.2f}" for stem in order if carried.shares[stem])
    return f"cannot be told ({shares})" if shares else "cannot be told"


def _place(occurrence: Occurrence) -> str:
    spans = f"{_span(occurrence.query_span)}  from  {_span(occurrence.reference_span)}"
    return f"{spans}  {warp(occurrence)}".rstrip()


def _span(span: Span) -> str:
    return f"{clock(span[0])}-{clock(span[1])}"

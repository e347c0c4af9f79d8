"""Replies: queries that were asked -> an answer or a reason each, and the words in which people are told of them."""

from dataclasses import dataclass
from pathlib import Path

from encoder.audio import AudioError
from encoder.limits import printable
from reranker.rank import Match, Occurrence
from reranker.search import Answer, Searcher
from store.catalogue import Track
from store.reading import MissingNodeMatrix
from store.shards import DamagedStore

# What concerns one query: the next one may do without the recording that is damaged. Where the index or the ledger does
# not answer, none can be asked.
UNANSWERED = (AudioError, DamagedStore, MissingNodeMatrix)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a query, or why there is none, or what could not be told of it."""

    query: Path
    answer: Answer | None
    error: str = ""

    @property
    def found(self) -> bool:
        """Whether something is there: without a bar the nearest are told, right or not."""
        return bool(self.matches) and self.answer.barred

    @property
    def matches(self) -> tuple[Match, ...]:
        """What was found; nothing where there is no answer."""
        return self.answer.matches if self.answer else ()


def answer(searcher: Searcher, query: Path, *, include_self: bool = False) -> Reply:
    """Ask for one query; an unusable file, or damaged data of a reference, is a reply with its reason.

    IndexUnavailable and LedgerUnavailable rise.
    """
    try:
        return Reply(query=query, answer=searcher(query, include_self=include_self))
    except UNANSWERED as error:
        return Reply(query=query, answer=None, error=reason(error))


def reason(error: Exception) -> str:
    """One printable line for an error that is one of `UNANSWERED`."""
    return error.reason if isinstance(error, AudioError) else printable(str(error))


def clock(seconds: float) -> str:
    """Seconds as m:ss.s."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def name(track: Track) -> str:
    """Artist and title, as far as they are known."""
    return f"{track.artist} - {track.title}" if track.artist else track.title


def certainty(match: Match) -> str:
    """The confidence where there is one, else the score."""
    return f"score {tally(match.score)}" if match.confidence is None else f"confidence {percent(match.confidence)}"


def tally(score: float) -> str:
    """A score in four digits, or as many as it has before the point."""
    return f"{score:,.0f}" if score >= 1000 else f"{score:.4g}"


def percent(confidence: float) -> str:
    """In whole percent; nothing is certain, so that 99.5 % and more are over 99 %."""
    return "over 99 %" if confidence >= 0.995 else f"{100 * confidence:.0f} %"


def warp(occurrence: Occurrence) -> str:
    """Tempo ratio and transposition; empty where they are not known."""
    ratio, semitones = occurrence.tempo_ratio, occurrence.transposition
    known = [f"tempo x {ratio:.2f}"] if ratio is not None else []
    return ", ".join([*known, f"{round(semitones, 1) + 0.0:+.1f} semitones"] if semitones is not None else known)

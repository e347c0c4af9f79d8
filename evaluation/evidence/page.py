"""Page: replies -> one self-contained page of evidence, to be read, looked at and listened to; no request to anywhere.

For each query a timeline with every occurrence of every match, and for each match its longest occurrence: pictures of
both recordings in the query's time, their similarity matrix, and players. Excerpts are cut so short that the page stays
under 25 MB; where even three seconds are too much, the lower-ranked matches are told without pictures and sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from encoder.whole import whole
from evaluation.evidence import look, view
from evaluation.evidence.listen import MP3_BYTES, Excerpt
from evaluation.evidence.provenance import Provenance
from evaluation.evidence.replies import Reply, clock, tally
from evaluation.evidence.view import Lane, Section, Tick
from evaluation.pages import report
from reranker.rank import Match, Occurrence
from reranker.relation import relation
from store.plan import content_hash

LARGEST = 25_000_000  # bytes of a page
_LONGEST, _SHORTEST = 12.0, 3.0  # seconds of an excerpt
_PICTURES = 160_000  # bytes of a match's pictures and words
_SECOND = 5 * MP3_BYTES * 4 / 3  # bytes of a second in five players, as base64
_TEMPLATES = (Path(__file__).parent / "templates", Path(report.__file__).parent / "templates")
_TELL = 0.005, 0.1  # of tempo (ratio) and pitch (semitones): less is told as no change


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query as the page shows it."""

    number: int
    reply: Reply
    digest: str  # of the file's content; empty where it is not there
    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]
    sections: tuple[Section, ...]


def write(path: Path, replies: Sequence[Reply], provenance: Provenance) -> Path:
    """Write the page; raises OSError where it may not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = html(replies, provenance)
    with whole(path) as unfinished:
        unfinished.write_text(content, encoding="utf-8", errors="backslashreplace")  # bytes of a name that are no text
    return path


def html(replies: Sequence[Reply], provenance: Provenance) -> str:
    """The page. A recording that cannot be read any more is told in the place of its pictures."""
    seconds, ranks = budget([len(r.matches) for r in replies])
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"clock": clock, "tally": tally, "percent": lambda value: f"{value:.3f}%"}
    return environment.get_template("evidence.html").render(
        title=_title(replies),
        asked=[_asked(number, reply, seconds, ranks) for number, reply in enumerate(replies, start=1)],
        provenance=provenance,
        octaves=[(100 - 100 * look.octave_place(f), _hertz(f)) for f in look.OCTAVES],
        sentence=sentence,
        relation=relation,
        manner=manner,
    )


def budget(matches: Sequence[int]) -> tuple[float, int]:
    """Seconds of an excerpt, and how many matches of each query get one, for so many matches of each query."""
    room, count = 0.95 * LARGEST, max(sum(matches), 1)
    seconds = (room / count - _PICTURES) / _SECOND
    if seconds >= _SHORTEST:
        return min(seconds, _LONGEST), max(matches, default=0)
    shown = int(room / (_PICTURES + _SHORTEST * _SECOND))
    fitting = (ranks for ranks in range(max(matches), 0, -1) if sum(min(ranks, n) for n in matches) <= shown)
    return _SHORTEST, next(fitting, 0)


def sentence(match: Match, occurrence: Occurrence) -> str:
    """What an occurrence means, in words."""
    (first, last), (start, end) = occurrence.query_span, occurrence.reference_span
    claim = (
        f"The query from {clock(first)} to {clock(last)} matches "
        f"“{match.reference.title}” from {clock(max(0.0, start))} to {clock(end)}"
    )
    if occurrence.transposition is None:
        return f"{claim}; these are the four-second segments it was found by, pitch was not measured."
    return f"{claim}, {_change(occurrence.tempo_ratio, occurrence.transposition)}."


def manner(excerpt: Excerpt) -> str:
    """How the reference was brought onto the query."""
    if not excerpt.aligned:
        return "left as it is, since tempo and pitch were not measured"
    if excerpt.varispeed:
        return "resampled: tempo and pitch moved together, as on a turntable or tape that runs at another speed"
    changes = (excerpt.tempo_ratio - 1, excerpt.transposition)
    if all(abs(change) <= least for change, least in zip(changes, _TELL, strict=True)):
        return "hardly changed: tempo and pitch are those of the query"
    return "stretched and transposed independently of each other"


def _change(ratio: float, semitones: float) -> str:
    tempo = "at the same tempo"
    if abs(ratio - 1) > _TELL[0]:
        tempo = f"{100 * abs(ratio - 1):.1f} % {'faster' if ratio > 1 else 'slower'}"
    pitch = "at the same pitch"
    if abs(semitones) > _TELL[1]:
        pitch = f"{abs(semitones):.1f} semitones {'higher' if semitones > 0 else 'lower'}"
    return f"{tempo} and {pitch} in the query"


def _asked(number: int, reply: Reply, seconds: float, ranks: int) -> Asked:
    lanes = view.lanes(reply, number)
    return Asked(
        number=number,
        reply=reply,
        digest=content_hash(reply.query) if reply.query.is_file() else "",
        ticks=view.ticks((0.0, max(reply.answer.duration, 0.1))) if reply.answer else (),
        lanes=lanes,
        sections=tuple(
            view.section(reply, match, lane, seconds=seconds if lane.rank <= ranks else None)
            for match, lane in zip(reply.matches, lanes, strict=True)
        ),
    )


def _title(replies: Sequence[Reply]) -> str:
    return f"Samples in {replies[0].query.name}" if len(replies) == 1 else f"Samples in {len(replies)} recordings"


def _hertz(frequency: float) -> str:
    return f"{frequency:.0f} Hz" if frequency < 1000 else f"{frequency / 1000:.2g} kHz"

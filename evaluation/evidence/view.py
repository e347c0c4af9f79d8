"""View: replies -> what the page draws: lanes of a timeline, pictures and sounds of a place, places as percentages.

Positions are percentages of a strip's width (or height, from the top), so that a page keeps its letters' size on any
screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from encoder.audio import AudioError
from evaluation.evidence import listen, look
from evaluation.evidence.listen import Excerpt, Heard
from evaluation.evidence.replies import Reply, certainty, clock, name
from evaluation.pages import drawing
from evaluation.pages.drawing import DARK, LIGHT
from reranker.rank import Match, Occurrence, Span

_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)  # seconds between ticks
_MATRIX = 15.0  # seconds of the query on either side of the excerpt's middle
_BEYOND = 2.0  # seconds of the reference around what the matrix has to show
_TALLEST = 45.0  # seconds of the reference in a matrix


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on a time axis; `other` is the time in the reference at the same place."""

    place: float
    text: str
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A span on a strip."""

    left: float
    width: float
    about: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A match on the query's timeline."""

    rank: int
    anchor: str
    name: str
    sure: str
    colours: tuple[str, str]  # on light and on dark paper
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A player."""

    name: str
    about: str
    url: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recording in the aligned pictures."""

    name: str
    waveform: str  # path of an SVG
    spectrogram: str  # data URI


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The similarity matrix with the ends of its diagonals."""

    url: str
    across: tuple[Tick, ...]  # query
    upward: tuple[Tick, ...]  # reference, places from the top
    lines: tuple[tuple[float, float, float, float], ...]  # x and y of start and end
    height: float  # over its width


@dataclass(frozen=True, kw_only=True)
class Place:
    """The best place of a match, to be looked at and listened to."""

    excerpt: Excerpt
    heard: Heard
    ticks: tuple[Tick, ...]
    sampled: Bar  # the occurrence within the excerpt
    rows: tuple[Row, ...]
    sounds: tuple[Sound, ...]
    matrix: Matrix | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A match with all that the page shows of it."""

    match: Match
    lane: Lane
    best: Occurrence | None  # the longest
    percent: float  # of the query that is covered
    strip: tuple[Bar, ...]  # parts of the reference
    strip_ticks: tuple[Tick, ...]
    place: Place | None
    missing: str  # why there is no place


def lanes(reply: Reply, number: int) -> tuple[Lane, ...]:
    """A lane a match of query `number`, best first."""
    return tuple(
        Lane(
            rank=rank,
            anchor=f"query-{number}-match-{rank}",
            name=name(match.reference),
            sure=certainty(match),
            colours=(drawing.colour(rank - 1, LIGHT), drawing.colour(rank - 1, DARK)),
            bars=tuple(_bar(o.query_span, reply.answer.duration, _about(o)) for o in match.occurrences),
        )
        for rank, match in enumerate(reply.matches, start=1)
    )


def section(reply: Reply, match: Match, lane: Lane, *, seconds: float | None) -> Section:
    """A match as the page shows it; excerpts of at most `seconds`, None for no excerpts.

    A recording that cannot be read leaves pictures and players away and says why.
    """
    best, place, missing = match.longest, None, ""
    duration = max(match.reference.duration, *(o.reference_span[1] for o in match.occurrences), 0.1)
    if best is None:
        missing = "No place is told for this reference: only the best ones are aligned in detail."
    elif seconds is None:
        missing = "Pictures and players are left out, so that the page stays small; ask for fewer queries at once."
    else:
        try:
            place = _place(reply, match, best, seconds)
        except AudioError as error:
            missing = f"Pictures and players are missing: {error}."
    return Section(
        match=match,
        lane=lane,
        best=best,
        percent=min(100.0, 100 * match.covered / reply.answer.duration) if reply.answer.duration else 0.0,
        strip=tuple(_bar(o.reference_span, duration, _about(o)) for o in match.occurrences),
        strip_ticks=ticks((0.0, duration)),
        place=place,
        missing=missing,
    )


def ticks(span: Span, *, most: int = 6, other: Excerpt | None = None) -> tuple[Tick, ...]:
    """Round times within a span, at most about `most`; with an excerpt also the reference's times."""
    start, end = span
    step = next((s for s in _STEPS if (end - start) / s <= most), _STEPS[-1])
    first = -(-start // step) * step
    times = [first + i * step for i in range(int((end - first) / step + 1e-9) + 1)]
    shown = [t for t in times if t <= end]
    return tuple(
        Tick(
            place=_percent(t, span),
            text=clock(t).removesuffix(".0"),
            other=clock(max(0.0, other.reference_time(t))) if other else "",
        )
        for t in shown
    )


def _place(reply: Reply, match: Match, best: Occurrence, seconds: float) -> Place:
    duration, path = reply.answer.duration, match.reference.path
    excerpt = listen.choose(best, seconds=seconds, duration=duration)
    heard = listen.hear(reply.query, path, excerpt)
    span = (excerpt.start, excerpt.end)
    inside = (max(best.query_span[0], span[0]), min(best.query_span[1], span[1]))
    rows = (("query", heard.query), ("reference", heard.warped))
    return Place(
        excerpt=excerpt,
        heard=heard,
        ticks=ticks(span, most=5, other=excerpt),
        sampled=Bar(left=_percent(inside[0], span), width=100 * (inside[1] - inside[0]) / excerpt.seconds, about=""),
        rows=tuple(
            Row(name=who, waveform=look.waveform(wave), spectrogram=look.picture(look.spectrogram(wave)))
            for who, wave in rows
        ),
        sounds=_sounds(heard, excerpt),
        matrix=_matrix(reply, match, excerpt),
    )


def _sounds(heard: Heard, excerpt: Excerpt) -> tuple[Sound, ...]:
    onto = "stretched and transposed onto the query" if excerpt.aligned else "as it is"
    made = (
        ("Query", "as it is", heard.query),
        ("Reference", "as it is", heard.reference),
        ("Reference, fitted", onto, heard.warped),
        ("Both at once", "left: query, right: reference, fitted (headphones)", heard.left_and_right()),
        ("In turn", "a second of the query, a second of the reference, fitted", heard.alternating()),
    )
    return tuple(
        Sound(name=who, about=about, url=look.uri(listen.mp3(wave), "audio/mpeg"), seconds=len(wave) / listen.RATE)
        for who, about, wave in made
    )


def _matrix(reply: Reply, match: Match, excerpt: Excerpt) -> Matrix | None:
    """The query around the excerpt against all of the reference that is sampled there."""
    middle = (excerpt.start + excerpt.end) / 2
    across = (max(0.0, middle - _MATRIX), min(reply.answer.duration, middle + _MATRIX))
    near = [o for o in match.occurrences if o.query_span[1] > across[0] and o.query_span[0] < across[1]]
    upward = _around(excerpt, [o.reference_span for o in near], match.reference.duration)
    likeness = look.similarity(
        listen.cut(reply.query, *across),
        listen.cut(match.reference.path, *upward),
        tempo_ratio=excerpt.tempo_ratio,
        transposition=excerpt.transposition,
    )
    if not likeness.size:
        return None
    return Matrix(
        url=look.picture(look.shown(likeness)),
        across=ticks(across, most=5),
        upward=tuple(Tick(place=100 - t.place, text=t.text) for t in ticks(upward, most=6)),
        lines=tuple(
            (_percent(o.query_span[0], across), 100 - _percent(o.reference_span[0], upward),
             _percent(o.query_span[1], across), 100 - _percent(o.reference_span[1], upward))
            for o in near
        ),
        height=likeness.shape[0] / likeness.shape[1],
    )  # fmt: skip


def _around(excerpt: Excerpt, spans: Sequence[Span], duration: float) -> Span:
    """The part of the reference that holds the excerpt and the spans, as far as they are not too far from it."""
    middle = (excerpt.reference_start + excerpt.reference_end) / 2
    low = min([excerpt.reference_start, *(s for s, _ in spans)]) - _BEYOND
    high = max([excerpt.reference_end, *(e for _, e in spans)]) + _BEYOND
    return max(0.0, low, middle - _TALLEST / 2), min(max(duration, excerpt.reference_end), high, middle + _TALLEST / 2)


def _bar(span: Span, duration: float, about: str) -> Bar:
    left, right = (min(max(100 * t / duration, 0.0), 100.0) for t in span)
    return Bar(left=left, width=right - left, about=about)


def _about(occurrence: Occurrence) -> str:
    spans = ("-".join(map(clock, span)) for span in (occurrence.query_span, occurrence.reference_span))
    return "query {}, reference {}".format(*spans)


def _percent(time: float, span: Span) -> float:
    return 100 * (time - span[0]) / (span[1] - span[0])

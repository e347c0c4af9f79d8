"""Composition: a seed -> a piece, that is notes and drum strokes in seconds with the patches that play them.

A piece is a chain of four-bar phrases (intro, verses, choruses, a bridge). Each section has its own chords, melody
and groove; each return of a section varies it, and phrases end in fills. Timing and velocities are humanised.
"""

from dataclasses import dataclass

import numpy as np

from evaluation.pieces import parts
from evaluation.pieces.drums import Kit, draw_kit
from evaluation.pieces.instruments import Patch, draw_patch
from evaluation.pieces.styles import PROGRESSIONS, SCALES, STYLES, Style

BARS_PER_PHRASE = 4
_FORMS = ("IABACBAB", "AABBCABB", "IAABABCB", "IABABCBB", "ABACABCB")
_ADJECTIVES = (
    "Amber", "Broken", "Copper", "Distant", "Electric", "Paper", "Quiet", "Silver", "Velvet", "Winter", "Hollow", "Red",
)  # fmt: skip
_NOUNS = (
    "Harbour", "Lantern", "Mirror", "Orchard", "Parade", "River", "Satellite", "Staircase", "Tram", "Garden", "Engine",
)  # fmt: skip
_ARTISTS = ("The Night Clerks", "Marta Vale", "Low Tide Unit", "Ossian Grey", "Nine Volt Choir", "Dolores", "Kiln")


@dataclass(frozen=True, kw_only=True)
class Note:
    start: float  # seconds
    duration: float  # seconds
    pitch: int  # MIDI number
    velocity: float  # 0 to 1


@dataclass(frozen=True, kw_only=True)
class Stroke:
    start: float  # seconds
    drum: str
    velocity: float  # 0 to 1


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A composed piece: everything that rendering needs, and nothing that depends on a sample rate."""

    seed: int
    title: str
    artist: str
    style: str
    tempo: float  # beats per minute
    beats_per_bar: int
    tonic: int  # pitch class, 0 is C
    mode: str
    bars: int
    patches: dict[str, Patch]  # stem -> instrument
    notes: dict[str, tuple[Note, ...]]  # stem -> notes
    kit: Kit
    strokes: dict[str, tuple[Stroke, ...]]  # stem (drums, percussion) -> strokes

    @property
    def bar(self) -> float:
        """Length of a bar in seconds."""
        return self.beats_per_bar * 60.0 / self.tempo

    @property
    def duration(self) -> float:
        """Seconds, with the time that the last notes need to fade."""
        return self.bars * self.bar + 1.5


@dataclass(frozen=True, kw_only=True)
class _Section:
    """What a section keeps whenever it returns."""

    progression: tuple[int, ...]
    figure: str
    melody: list[parts.Melodic]
    bass: str
    groove: parts.Groove
    lift: int  # octaves the lead is raised


def compose(seed: int, *, tempo: float | None = None, tonic: int | None = None, duration: float = 52.0) -> Piece:
    """The piece of a seed, about `duration` seconds long; tempo and tonic replace the drawn ones, as when a producer
    writes around a sample."""
    rng = np.random.default_rng([seed, 20])
    style = _dealt_style(seed)
    drawn_tempo, drawn_tonic = float(rng.integers(*style.tempos, endpoint=True)), int(rng.integers(12))
    tempo, tonic = tempo or drawn_tempo, drawn_tonic if tonic is None else tonic % 12
    mode = str(rng.choice(style.modes))
    bar = style.beats_per_bar * 60.0 / tempo
    phrases = max(2, round(duration / (BARS_PER_PHRASE * bar)))
    score = _Score(style, rng, tonic, mode)
    form = _FORMS[rng.integers(len(_FORMS))]
    for number in range(phrases):
        score.add_phrase(form[number % len(form)], number, last=number == phrases - 1)
    return Piece(
        seed=seed,
        title=_title(seed),
        artist=str(rng.choice(_ARTISTS)),
        style=style.name,
        tempo=tempo,
        beats_per_bar=style.beats_per_bar,
        tonic=tonic,
        mode=mode,
        bars=phrases * BARS_PER_PHRASE,
        patches={stem: draw_patch(str(rng.choice(getattr(style, stem))), rng) for stem in score.notes},
        notes={stem: _played(events, tempo, score.swing, rng) for stem, events in score.notes.items()},
        kit=draw_kit(rng, softness=style.softness),
        strokes={stem: _struck(events, tempo, score.swing, rng) for stem, events in score.strokes.items()},
    )


def _dealt_style(seed: int) -> Style:
    """Styles are dealt like cards, so that neighbouring seeds have different ones."""
    deal, place = divmod(seed, len(STYLES))
    return STYLES[np.random.default_rng([deal, 23]).permutation(len(STYLES))[place]]


def _title(seed: int) -> str:
    """Two words; 132 neighbouring seeds have 132 titles, because 61 shares no factor with their number."""
    noun, adjective = divmod(seed * 61 % (len(_NOUNS) * len(_ADJECTIVES)), len(_ADJECTIVES))
    return f"{_ADJECTIVES[adjective]} {_NOUNS[noun]}"


class _Score:
    """The piece while it is written: events in beats, section by section."""

    def __init__(self, style: Style, rng: np.random.Generator, tonic: int, mode: str) -> None:
        self.style, self.rng = style, rng
        self.scale = parts.Scale(tonic=tonic, steps=SCALES[mode], seventh=bool(rng.random() < 0.45))
        self.swing = float(rng.uniform(*style.swing))
        self.notes: dict[str, list[parts.Melodic]] = {"bass": [], "chords": [], "lead": [], "pad": []}
        self.strokes: dict[str, list[parts.Beat]] = {"drums": [], "percussion": []}
        self.sections: dict[str, _Section] = {}

    def add_phrase(self, label: str, number: int, *, last: bool) -> None:
        """Four bars: the section's material, varied, with the layers this moment of the form asks for."""
        section = self.sections.get(label) or self.sections.setdefault(label, self._section(label))
        beats = self.style.beats_per_bar
        start = number * BARS_PER_PHRASE * beats
        chorus, intro = label == "B", label == "I"
        chords = [self.scale.chord(degree) for degree in self._varied(section.progression)]
        self._write("chords", parts.chords(chords, section.figure, beats, self.rng), start)
        self._write(
            "bass",
            [] if intro and self.rng.random() < 0.5 else parts.bass(chords, section.bass, beats, self.rng),
            start,
        )
        if chorus or label == "C" or self.rng.random() < 0.3:
            self._write("pad", parts.pad(chords, beats), start)
        if not intro or self.rng.random() < 0.4:
            lead = parts.ornamented(section.melody, self.rng)
            self._write("lead", [self.scale.sung(event, chords, beats, section.lift) for event in lead], start)
        if not (label == "C" and self.rng.random() < 0.4):
            groove = parts.drum_phrase(section.groove, beats, self.rng, crash=chorus, fill=not last)
            self.strokes["drums"] += [beat.moved(start) for beat in groove]
        if chorus or self.rng.random() < 0.5:
            shaken = parts.percussion_phrase(section.groove, beats, self.rng)
            self.strokes["percussion"] += [beat.moved(start) for beat in shaken]

    def _write(self, stem: str, events: list[parts.Melodic], start: float) -> None:
        self.notes[stem] += [event.moved(start) for event in events]

    def _section(self, label: str) -> _Section:
        rng, style = self.rng, self.style
        return _Section(
            progression=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
            figure=str(rng.choice(style.figures)),
            melody=parts.melody(style.beats_per_bar, rng, density=rng.uniform(0.3, 0.7)),
            bass=str(rng.choice(parts.BASS_FIGURES)),
            groove=parts.draw_groove(style, rng),
            lift=int(label == "B" and rng.random() < 0.4),
        )

    def _varied(self, progression: tuple[int, ...]) -> tuple[int, ...]:
        """Now and then the last chord is another one."""
        return (*progression[:3], int(self.rng.choice([4, 6, 1]))) if self.rng.random() < 0.25 else progression


def _seconds(beat: float, tempo: float, swing: float) -> float:
    """Time of a beat; of each pair of sixteenths the first takes the share `swing`."""
    pair, place = divmod(beat * 2.0, 1.0)
    bent = place * 2 * swing if place < 0.5 else swing + (place - 0.5) * 2 * (1 - swing)
    return (pair + bent) / 2.0 * 60.0 / tempo


def _played(events: list[parts.Melodic], tempo: float, swing: float, rng: np.random.Generator) -> tuple[Note, ...]:
    return tuple(
        Note(
            start=max(0.0, _seconds(event.start, tempo, swing) + float(rng.normal(0.0, 0.006))),
            duration=event.duration * 60.0 / tempo,
            pitch=event.pitch,
            velocity=float(np.clip(event.velocity * rng.normal(1.0, 0.1), 0.1, 1.0)),
        )
        for event in sorted(events, key=lambda event: (event.start, event.pitch))
    )


def _struck(events: list[parts.Beat], tempo: float, swing: float, rng: np.random.Generator) -> tuple[Stroke, ...]:
    return tuple(
        Stroke(
            start=max(0.0, _seconds(event.start, tempo, swing) + float(rng.normal(0.0, 0.004))),
            drum=event.drum,
            velocity=float(np.clip(event.velocity * rng.normal(1.0, 0.08), 0.05, 1.0)),
        )
        for event in sorted(events, key=lambda event: (event.start, event.drum))
    )

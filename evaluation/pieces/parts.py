"""Parts: chords of a phrase -> what bass, chords, lead, pad and drums play over them, in beats.

A phrase is as many bars as it has chords. Nothing here knows seconds or sounds.
"""

from dataclasses import dataclass, replace

import numpy as np

from evaluation.pieces.styles import HATS, KICKS, PERCUSSION, SNARES, Style

Chord = tuple[int, ...]  # MIDI numbers, root first, close to middle C
BASS_FIGURES = ("roots", "fifths", "octaves", "syncopated", "walking", "offbeat")
_VELOCITIES = {"X": 0.95, "x": 0.7, "o": 0.25}
_RHYTHMS = {  # onsets (beats) of one bar of four; "waltz" is for three
    "stabs": (0.0, 1.5, 2.5),
    "offbeat": (0.5, 1.5, 2.5, 3.5),
    "charleston": (0.0, 1.5),
    "waltz": (1.0, 2.0),
    "eighths": tuple(i / 2 for i in range(8)),
}


@dataclass(frozen=True, kw_only=True)
class Melodic:
    start: float  # beats
    duration: float  # beats
    pitch: int  # MIDI number; a step of the scale while a melody is not yet set to chords
    velocity: float

    def moved(self, beats: float) -> "Melodic":
        return replace(self, start=self.start + beats)


@dataclass(frozen=True, kw_only=True)
class Beat:
    start: float  # beats
    drum: str
    velocity: float

    def moved(self, beats: float) -> "Beat":
        return replace(self, start=self.start + beats)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Tonic and steps; chords are thirds stacked on a degree."""

    tonic: int
    steps: tuple[int, ...]
    seventh: bool

    def pitch(self, degree: int, octave: int) -> int:
        turns, step = divmod(degree, len(self.steps))
        return 12 * (octave + 1 + turns) + self.tonic + self.steps[step]

    def chord(self, degree: int) -> Chord:
        return tuple(
            _near(self.pitch(degree + third, 4), 60) for third in ((0, 2, 4, 6) if self.seventh else (0, 2, 4))
        )

    def sung(self, event: Melodic, chords: list[Chord], beats_per_bar: int, lift: int) -> Melodic:
        """A melodic event whose pitch is a step -> one that sounds; strong beats take the nearest note of the chord."""
        pitch = self.pitch(event.pitch, 5) if self.tonic < 7 else self.pitch(event.pitch, 4)
        if event.start % 2.0 == 0.0 or event.duration >= 1.0:
            chord = chords[min(int(event.start // beats_per_bar), len(chords) - 1)]
            pitch = min((_near(note, pitch) for note in chord), key=lambda note: abs(note - pitch))
        return replace(event, pitch=pitch + 12 * lift)


def _near(pitch: int, centre: int) -> int:
    """The pitch in the octave around a centre."""
    return (pitch - centre + 5) % 12 + centre - 5


def chords(chords: list[Chord], figure: str, beats_per_bar: int, rng: np.random.Generator) -> list[Melodic]:
    """Chords in a rhythm, broken into an arpeggio, or held."""
    if figure in ("arpeggio", "sixteenths"):
        return _arpeggio(chords, 0.5 if figure == "arpeggio" else 0.25, beats_per_bar, rng)
    onsets = [onset for onset in _RHYTHMS.get(figure, (0.0,)) if onset < beats_per_bar]
    length = {"held": beats_per_bar * 0.95, "charleston": 1.2, "eighths": 0.45}.get(figure, 0.35)
    strum = 0.03 if figure in ("held", "charleston") else 0.0  # beats between the notes of a chord
    events = []
    for bar, chord in enumerate(chords):
        turned = chord if rng.random() < 0.7 else (*chord[1:], chord[0] + 12)
        for onset in onsets:
            if len(onsets) > 2 and rng.random() < 0.08:
                continue
            start, velocity = bar * beats_per_bar + onset, 0.8 if onset == onsets[0] else 0.65
            events += [
                Melodic(start=start + strum * i, duration=length, pitch=pitch, velocity=velocity)
                for i, pitch in enumerate(turned)
            ]
    return events


def _arpeggio(chords: list[Chord], step: float, beats_per_bar: int, rng: np.random.Generator) -> list[Melodic]:
    order = rng.permutation(8) if rng.random() < 0.5 else np.array([0, 1, 2, 3, 4, 3, 2, 1])
    rests = set(rng.choice(8, rng.integers(0, 3), replace=False).tolist())
    events = []
    for bar, chord in enumerate(chords):
        ladder = [*chord, *(note + 12 for note in chord), chord[0] + 24]
        for i in range(int(beats_per_bar / step)):
            if i % 8 not in rests:
                pitch, accent = ladder[order[i % 8] % len(ladder)], 0.85 if i % 4 == 0 else 0.6
                start = bar * beats_per_bar + i * step
                events.append(Melodic(start=start, duration=step * 1.1, pitch=pitch, velocity=accent))
    return events


def pad(chords: list[Chord], beats_per_bar: int) -> list[Melodic]:
    """Long chords, the root doubled an octave up."""
    return [
        Melodic(start=float(bar * beats_per_bar), duration=float(beats_per_bar), pitch=pitch, velocity=0.7)
        for bar, chord in enumerate(chords)
        for pitch in (*chord, chord[0] + 12)
    ]


def bass(chords: list[Chord], figure: str, beats_per_bar: int, rng: np.random.Generator) -> list[Melodic]:
    """One bass figure over all chords; a third of the bars leads into the next chord."""
    events = []
    for bar, chord in enumerate(chords):
        root, fifth = _near(chord[0], 38), _near(chord[2], 43)
        following = _near(chords[(bar + 1) % len(chords)][0], 38)
        line = _bass_bar(figure, root, fifth, following, beats_per_bar)
        if rng.random() < 0.33:
            line = [(s, d, p) for s, d, p in line if s < beats_per_bar - 0.5]
            line.append((beats_per_bar - 0.5, 0.45, following + int(rng.choice([-2, -1, 1, 2]))))
        events += [
            Melodic(
                start=bar * beats_per_bar + start, duration=duration, pitch=pitch, velocity=0.9 if start == 0 else 0.75
            )
            for start, duration, pitch in line
        ]
    return events


def _bass_bar(figure: str, root: int, fifth: int, following: int, beats: int) -> list[tuple[float, float, int]]:
    """(start, duration, pitch) of one bar."""
    if figure == "roots":
        return [(0.0, beats * 0.9, root)]
    if figure == "fifths":
        return [(0.0, 1.4, root), (beats / 2, 0.9, fifth), (beats - 1.0, 0.8, root)]
    if figure == "octaves":
        return [(i / 2, 0.42, root + 12 * (i % 2)) for i in range(2 * beats)]
    if figure == "walking":
        return [
            (float(i), 0.9, pitch) for i, pitch in enumerate((root, root + 3, fifth, (fifth + following) // 2)[:beats])
        ]
    if figure == "offbeat":
        return [(i + 0.5, 0.4, root) for i in range(beats)]
    return [(0.0, 0.7, root), (0.75, 0.4, root), (1.5, 0.8, fifth), (2.5, 0.4, root + 12)]


def melody(beats_per_bar: int, rng: np.random.Generator, *, density: float) -> list[Melodic]:
    """Four bars of scale steps: a two-bar motif, then the motif moved and with another ending."""
    slots = np.arange(0.0, 2 * beats_per_bar, 0.5)
    likely = np.where(slots % 1.0 == 0.0, density + 0.15, density - 0.1)
    onsets = slots[rng.random(len(slots)) < likely]
    onsets = onsets if len(onsets) > 2 else slots[::3]
    steps = np.clip(np.cumsum(rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4], len(onsets))), -4, 8)
    moved = steps + int(rng.choice([-2, -1, 1, 2]))
    ending = min(2, len(onsets))
    moved[-ending:] = rng.integers(-2, 5, ending)
    gaps = np.diff(np.append(onsets, 2.0 * beats_per_bar))
    return [
        Melodic(
            start=float(onset + half * 2 * beats_per_bar), duration=float(min(gap, 2.5) * 0.92), pitch=int(step),
            velocity=0.85 if onset % 2 == 0 else 0.7,
        )
        for half, line in enumerate((steps, moved))
        for onset, gap, step in zip(onsets, gaps, line, strict=True)
    ]  # fmt: skip


def ornamented(events: list[Melodic], rng: np.random.Generator) -> list[Melodic]:
    """A return of a melody: some notes left out, some split by a neighbour."""
    varied = []
    for event in events:
        chance = rng.random()
        if chance < 0.08:
            continue
        if chance < 0.2 and event.duration > 0.6:
            half = event.duration / 2
            neighbour = replace(
                event, start=event.start + half, duration=half, pitch=event.pitch + int(rng.choice([-1, 1]))
            )
            varied += [replace(event, duration=half), neighbour]
        else:
            varied.append(event)
    return varied


@dataclass(frozen=True, kw_only=True)
class Groove:
    """One bar for each drum of the set, as text (see styles)."""

    bars: dict[str, str]
    percussion: dict[str, str]


def draw_groove(style: Style, rng: np.random.Generator) -> Groove:
    """A groove of the style with a change of its own in each drum."""
    kick, snare, hat = (str(rng.choice(table[style.groove])) for table in (KICKS, SNARES, HATS))
    shaken = rng.choice(style.percussion, min(2, len(style.percussion)), replace=False)
    length = 4 * style.beats_per_bar
    return Groove(
        bars={
            "kick": _mutated(kick, rng, 0.06),
            str(rng.choice(style.snare)): _mutated(snare, rng, 0.04, fresh="o"),
            str(rng.choice(style.hat)): _mutated(hat, rng, 0.06),
        },
        percussion={str(drum): _mutated(str(rng.choice(PERCUSSION)), rng, 0.08)[:length] for drum in shaken},
    )


def _mutated(bar: str, rng: np.random.Generator, chance: float, fresh: str = "x") -> str:
    """Some sixteenths change between rest and stroke; accents stay, they are the groove."""
    changes = rng.random(len(bar)) < chance
    return "".join(
        symbol if symbol == "X" or not change else (fresh if symbol == "." else ".")
        for symbol, change in zip(bar, changes, strict=True)
    )


def drum_phrase(groove: Groove, beats_per_bar: int, rng: np.random.Generator, *, crash: bool, fill: bool) -> list[Beat]:
    """Four bars of a groove; the second and fourth differ a little, the fourth may end in a fill."""
    events = [Beat(start=0.0, drum="crash", velocity=0.7)] if crash and rng.random() < 0.7 else []
    filled = fill and rng.random() < 0.7
    end = 4 * beats_per_bar - (float(rng.choice([1.0, 2.0])) if filled else 0.0)
    for bar in range(4):
        for drum, text in groove.bars.items():
            played = _mutated(text, rng, 0.05, fresh="o") if bar % 2 else text
            events += [beat for beat in _strokes(played, drum, bar * beats_per_bar) if beat.start < end]
        if rng.random() < 0.3:
            events.append(Beat(start=(bar + 1) * beats_per_bar - 0.5, drum="open hat", velocity=0.6))
    return events + (_fill(end, 4 * beats_per_bar, rng) if filled else [])


def percussion_phrase(groove: Groove, beats_per_bar: int, rng: np.random.Generator) -> list[Beat]:
    return [
        beat
        for bar in range(4)
        for drum, text in groove.percussion.items()
        for beat in _strokes(_mutated(text, rng, 0.04), drum, bar * beats_per_bar)
    ]


def _strokes(text: str, drum: str, start: float) -> list[Beat]:
    return [
        Beat(start=start + i / 4, drum=drum, velocity=_VELOCITIES[symbol])
        for i, symbol in enumerate(text)
        if symbol != "."
    ]


def _fill(start: float, end: float, rng: np.random.Generator) -> list[Beat]:
    """Sixteenths that walk from snare to toms and grow."""
    slots = np.arange(start, end, 0.25)
    drums = ("snare", "high tom", "mid tom", "low tom")
    places = np.sort(rng.integers(0, len(drums), len(slots)))
    return [
        Beat(start=float(slot), drum=drums[place], velocity=0.55 + 0.4 * float(slot - start) / float(end - start))
        for slot, place in zip(slots, places, strict=True)
        if rng.random() < 0.8
    ]

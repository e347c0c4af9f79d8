"""Arrangement: a composed piece -> another version of it: other band, key, tempo and form, and another studio.

What stays is what makes it the same work: melody, chords and bass line of its phrases.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.pieces.composition import BARS_PER_PHRASE, Note, Piece
from evaluation.pieces.drums import draw_kit
from evaluation.pieces.instruments import draw_patch
from evaluation.pieces.styles import STYLES

SEMITONES = 5  # either way
PACE = (0.8, 1.25)
_SILENT = {"pad": 0.3, "percussion": 0.4, "drums": 0.25}  # how often a stem is left out
_FADE = 0.02  # seconds of the fade where a rendering is cut


def arranged(piece: Piece, number: int) -> Piece:
    """Version `number` of a piece; 0 is the piece as composed."""
    if number == 0:
        return piece
    rng = np.random.default_rng([piece.seed, number, 24])
    style = STYLES[rng.integers(len(STYLES))]
    pace, semitones = float(rng.uniform(*PACE)), int(rng.integers(-SEMITONES, SEMITONES + 1))
    order = form(piece.bars // BARS_PER_PHRASE, rng)
    left_out = {stem for stem, share in _SILENT.items() if rng.random() < share}
    notes = {stem: _laid(events, piece, order) for stem, events in piece.notes.items() if stem not in left_out}
    strokes = {stem: _laid(events, piece, order) for stem, events in piece.strokes.items() if stem not in left_out}
    return replace(
        piece,
        seed=piece.seed * 64 + number,  # of room, channels and tape
        style=style.name,
        tempo=piece.tempo * pace,
        tonic=(piece.tonic + semitones) % 12,
        bars=len(order) * BARS_PER_PHRASE,
        patches={stem: draw_patch(str(rng.choice(getattr(style, stem))), rng) for stem in notes},
        notes={stem: tuple(_played(note, pace, semitones) for note in events) for stem, events in notes.items()},
        kit=draw_kit(rng, softness=style.softness),
        strokes={
            stem: tuple(replace(stroke, start=stroke.start / pace) for stroke in events)
            for stem, events in strokes.items()
        },
    )


def form(phrases: int, rng: np.random.Generator) -> list[int]:
    """Phrases in the order of another form: a beginning may be missing, one phrase dropped, one repeated."""
    order = list(range(phrases))
    if phrases > 3 and rng.random() < 0.5:
        order = order[1:]
    if len(order) > 3 and rng.random() < 0.5:
        order.pop(int(rng.integers(len(order))))
    if rng.random() < 0.5:
        place = int(rng.integers(len(order)))
        order.insert(place, order[place])
    return order


def cut(
    wave: NDArray[np.float32], rng: np.random.Generator, *, sample_rate: int, section: float
) -> NDArray[np.float32]:
    """A rendering (samples,) in another form: its sections of that many seconds, reordered as `form` says."""
    length, fade = int(section * sample_rate), int(_FADE * sample_rate)
    parts = [wave[start : start + length].copy() for start in range(0, max(len(wave) - length // 2, 1), length)]
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    for part in parts:
        if len(part) > 2 * fade:
            part[:fade] *= ramp
            part[-fade:] *= ramp[::-1]
    return np.concatenate([parts[number] for number in form(len(parts), rng)])


def _laid(events: tuple, piece: Piece, order: list[int]) -> tuple:
    """Events of the phrases in another order; what begins just before a phrase's first beat belongs to it."""
    phrase, early = BARS_PER_PHRASE * piece.bar, 0.03
    members: dict[int, list] = {}
    for event in events:
        members.setdefault(int((event.start + early) // phrase), []).append(event)
    return tuple(
        replace(event, start=max(0.0, event.start + (place - number) * phrase))
        for place, number in enumerate(order)
        for event in members.get(number, [])
    )


def _played(note: Note, pace: float, semitones: int) -> Note:
    return replace(note, start=note.start / pace, duration=note.duration / pace, pitch=note.pitch + semitones)

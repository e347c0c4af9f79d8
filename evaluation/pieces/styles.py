"""Styles: what a kind of music draws its tempo, metre, grooves and instruments from.

A groove is one bar as text, a character for each sixteenth: ``X`` accent, ``x`` stroke, ``o`` ghost note, ``.`` rest.
"""

from dataclasses import dataclass

Progression = tuple[int, ...]  # degrees of the scale (0 is the tonic), one to a bar

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}

PROGRESSIONS: tuple[Progression, ...] = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (0, 3, 1, 4), (1, 4, 0, 0), (1, 4, 0, 5), (0, 2, 3, 4),
    (0, 6, 3, 0), (0, 0, 3, 0), (0, 6, 5, 4), (0, 2, 5, 6), (3, 4, 2, 5), (5, 4, 3, 4), (0, 1, 0, 1), (0, 3, 6, 2),
    (3, 3, 0, 0), (0, 4, 1, 3), (5, 1, 4, 0), (0, 5, 1, 4), (0, 0, 5, 5), (3, 0, 4, 5), (2, 5, 1, 4), (0, 6, 0, 6),
)  # fmt: skip

KICKS = {
    "four": ("X...x...X...x...", "X...x...X...x.x.", "X...x...X..xx..."),
    "break": ("X.x.......x.....", "X..x......xx....", "X.....x..xx.....", "X.....x...x....."),
    "rock": ("X.......X.......", "X......xX.......", "X.x.....X.x.....", "X..x..x.X......."),
    "funk": ("X..x......x..x..", "X.x...x..x....x.", "X......x..xx....", "X..x..x...x....."),
    "half": ("X.........x.....", "X......x..x.....", "X....x.......x.."),
    "waltz": ("X...........", "X.........x.", "X.....x....."),
}
SNARES = {
    "four": ("....X.......X...", "....X..o....X..o", "............X..."),
    "break": ("....X..o.o..X..o", "....X..o.o..X...", "....X.......X..x"),
    "rock": ("....X.......X...", "....X.......X.x.", "..o.X.....o.X..."),
    "funk": ("....X..o.o.oX..o", "..o.X..o..o.X...", "....X..o.o..X.o."),
    "half": ("........X.......", "........X.....o.", "........X..o.o.."),
    "waltz": ("....x...x...", "....x.......", "........X..."),
}
HATS = {
    "four": ("..X...X...X...X.", "x.Xxx.Xxx.Xxx.Xx", "xoXoxoXoxoXoxoXo"),
    "break": ("X.x.X.x.X.x.X.x.", "X.xoX.x.X.xoX.xx", "XoxoXoxoXoxoXoxo"),
    "rock": ("X.x.X.x.X.x.X.x.", "X...X...X...X...", "X.x.X.xxX.x.X.x."),
    "funk": ("XoxoXoxoXoxoXoxo", "X.xxX.xxX.xxX.xx", "X.xoX.x.XoxoX.x."),
    "half": ("X.x.x.x.X.x.x.x.", "x.x.xxx.x.x.x.xx", "x..x..x.x..x..x."),
    "waltz": ("X.x.x.x.x.x.", "X...x...x...", "X...x.x.x.x."),
}
PERCUSSION = ("x.xox.xox.xox.xo", "..x...x...x..x..", "x..x..x...x.x...", "o.x.o.x.o.x.o.x.", "x.......x.x.....")


@dataclass(frozen=True, kw_only=True)
class Style:
    """Ranges and choices of one kind of music; a piece draws from them once."""

    name: str
    tempos: tuple[int, int]  # beats per minute
    groove: str  # key of KICKS, SNARES and HATS
    swing: tuple[float, float]  # share of a pair of sixteenths that the first one takes; 0.5 is straight
    chords: tuple[str, ...]  # instrument families for each stem
    bass: tuple[str, ...]
    lead: tuple[str, ...]
    pad: tuple[str, ...]
    modes: tuple[str, ...]
    figures: tuple[str, ...]  # how chords are played
    percussion: tuple[str, ...] = ("shaker", "tambourine", "high conga", "low conga", "cowbell")
    snare: tuple[str, ...] = ("snare",)
    hat: tuple[str, ...] = ("hat",)
    softness: float = 0.0  # of the drum set
    beats_per_bar: int = 4


STYLES: tuple[Style, ...] = (
    Style(
        name="boom bap", tempos=(82, 98), groove="break", swing=(0.54, 0.64), chords=("epiano", "piano", "pluck"),
        bass=("sine bass", "picked bass"), lead=("bell", "brass", "voice", "flute"), pad=("strings", "organ"),
        modes=("minor", "dorian"), figures=("held", "charleston", "stabs"), snare=("snare", "clap"),
    ),
    Style(
        name="house", tempos=(116, 128), groove="four", swing=(0.5, 0.56), chords=("saw", "piano", "organ"),
        bass=("pulse", "sine bass", "saw"), lead=("voice", "pulse", "bell"), pad=("saw", "strings"),
        modes=("minor", "dorian", "mixolydian"), figures=("stabs", "offbeat", "arpeggio"), snare=("clap", "snare"),
    ),
    Style(
        name="drum and bass", tempos=(150, 160), groove="break", swing=(0.5, 0.53), chords=("epiano", "saw", "strings"),
        bass=("distorted bass", "sine bass"), lead=("saw", "bell", "voice"), pad=("strings", "voice"),
        modes=("minor", "phrygian", "dorian"), figures=("held", "arpeggio"), hat=("hat", "ride"),
    ),
    Style(
        name="waltz", tempos=(96, 150), groove="waltz", swing=(0.5, 0.5), chords=("piano", "pluck", "organ"),
        bass=("picked bass", "brass"), lead=("flute", "brass", "strings", "clavinet"), pad=("strings", "voice"),
        modes=("major", "minor", "harmonic minor"), figures=("waltz", "arpeggio"), softness=0.6, beats_per_bar=3,
        percussion=("tambourine", "ride"), hat=("ride", "hat"),
    ),
    Style(
        name="funk", tempos=(96, 116), groove="funk", swing=(0.5, 0.58), chords=("clavinet", "epiano", "organ"),
        bass=("picked bass", "distorted bass"), lead=("brass", "saw", "flute"), pad=("organ", "strings"),
        modes=("dorian", "mixolydian"), figures=("stabs", "charleston", "sixteenths"),
    ),
    Style(
        name="console", tempos=(120, 160), groove="rock", swing=(0.5, 0.5), chords=("chip", "pulse"),
        bass=("chip", "pulse"), lead=("chip", "pulse"), pad=("chip", "saw"), modes=("major", "minor", "lydian"),
        figures=("arpeggio", "sixteenths"), percussion=("shaker", "cowbell"),
    ),
    Style(
        name="ballad", tempos=(70, 84), groove="half", swing=(0.5, 0.56), chords=("piano", "epiano", "pluck"),
        bass=("sine bass", "picked bass"), lead=("voice", "flute", "strings"), pad=("strings", "voice"),
        modes=("major", "minor", "lydian"), figures=("held", "arpeggio", "charleston"), snare=("rim", "snare"),
        softness=0.4,
    ),
    Style(
        name="march", tempos=(92, 126), groove="rock", swing=(0.5, 0.5), chords=("brass", "strings", "piano"),
        bass=("brass", "strings"), lead=("brass", "flute", "strings"), pad=("strings", "voice"),
        modes=("minor", "harmonic minor", "major"), figures=("held", "stabs", "sixteenths"),
        percussion=("low tom", "crash", "tambourine"), hat=("ride",), softness=0.3,
    ),
    Style(
        name="rock", tempos=(108, 152), groove="rock", swing=(0.5, 0.5), chords=("distorted guitar", "pluck"),
        bass=("picked bass", "distorted bass"), lead=("distorted guitar", "voice", "organ"), pad=("organ", "strings"),
        modes=("minor", "mixolydian", "phrygian"), figures=("eighths", "held", "stabs"), hat=("hat", "ride"),
    ),
    Style(
        name="dub", tempos=(70, 80), groove="half", swing=(0.5, 0.6), chords=("organ", "clavinet", "pluck"),
        bass=("sine bass", "picked bass"), lead=("mallet", "brass", "flute"), pad=("organ", "voice"),
        modes=("minor", "dorian"), figures=("offbeat", "stabs"), snare=("rim", "snare"),
    ),
    Style(
        name="mallets", tempos=(100, 140), groove="funk", swing=(0.5, 0.6), chords=("mallet", "bell", "pluck"),
        bass=("sine bass", "mallet"), lead=("mallet", "flute", "pluck"), pad=("voice", "strings"),
        modes=("major", "lydian", "mixolydian"), figures=("arpeggio", "sixteenths"), softness=0.3,
        percussion=("low conga", "high conga", "shaker"),
    ),
)  # fmt: skip

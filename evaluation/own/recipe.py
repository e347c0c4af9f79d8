"""Recipe: what a producer decides about one sample, drawn at random: how long, how fast, how high, how arranged.

The shares follow the 106 samples of Sample100 where its annotations tell: tempo ratios from 0.75 to 1.37, 37 %
exactly 1 and 42 % off by 5 % or more; a median of 3.6 s; a third of beats. Nobody has counted the rest.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Arrangement = Literal["once", "loop", "gaps", "chops"]

SHORTEST, LONGEST = 1.2, 12.0  # seconds of the reference that are taken
_MEDIAN, _SPREAD = 3.6, 0.9  # seconds; standard deviation of the logarithm
SLOWEST, FASTEST = 0.75, 1.37  # tempo ratios
_NEAR = math.log(1.05)  # a change of tempo up to which it counts as near
_BEYOND = 0.093  # mean of the logarithm beyond that
_TEMPO = {"same": 0.37, "near": 0.21, "beyond": 0.42}
_UP = 0.63  # share of the far ones that are faster
_BEATS = 0.28  # looked for; some are found unlooked for
_VARISPEED = 0.4  # of those whose tempo changes
_TRANSPOSED = 0.3  # of the others
_SEMITONES = {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}
_ARRANGEMENTS: dict[Arrangement, float] = {"once": 0.15, "loop": 0.4, "gaps": 0.2, "chops": 0.25}
_SOUNDING = (5.0, 24.0)  # seconds that a loop is wanted to last; log-uniform
LEVELS = (-6.0, 6.0)  # dB, uniform


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The decisions about one sample."""

    length: float  # seconds of the reference that are wanted; cutting at beats changes it
    beat: bool  # whether percussive material is looked for
    tempo_ratio: float  # query tempo / reference tempo
    transposition: float  # semitones; under varispeed what follows from the tempo ratio
    varispeed: bool  # tempo and pitch move together, as on tape and turntable
    arrangement: Arrangement
    sounding: float  # seconds that loops or chops last
    level: float  # dB RMS of the sample over what is laid over it, while it sounds

    def describe(self) -> str:
        """The recipe in a few words."""
        words = [f"varispeed x{self.tempo_ratio:.3f}" if self.varispeed else f"tempo x{self.tempo_ratio:.3f}"]
        if self.transposition:
            words.append(f"{self.transposition:+.2f} semitones")
        return ", ".join([*words, self.arrangement, f"{self.level:+.1f} dB"])


def draw(rng: np.random.Generator) -> Recipe:
    """One recipe."""
    ratio, length, beat = _tempo_ratio(rng), _length(rng), bool(rng.random() < _BEATS)
    varispeed = bool(rng.random() < _VARISPEED) and ratio != 1.0
    transposed, up = rng.random() < _TRANSPOSED, rng.random() < 0.5
    semitones = int(rng.choice(list(_SEMITONES), p=list(_SEMITONES.values()))) * (1 if up else -1)
    transposition = float(semitones) if transposed else 0.0
    return Recipe(
        length=length,
        beat=beat,
        tempo_ratio=ratio,
        transposition=12.0 * math.log2(ratio) if varispeed else transposition,
        varispeed=varispeed,
        arrangement=str(rng.choice(list(_ARRANGEMENTS), p=list(_ARRANGEMENTS.values()))),
        sounding=float(np.exp(rng.uniform(*np.log(_SOUNDING)))),
        level=float(rng.uniform(*LEVELS)),
    )


def _length(rng: np.random.Generator) -> float:
    """Log-normal, drawn again where it lies outside what is taken."""
    while not SHORTEST <= (length := _MEDIAN * math.exp(rng.normal(0.0, _SPREAD))) <= LONGEST:
        pass
    return length


def _tempo_ratio(rng: np.random.Generator) -> float:
    kind = str(rng.choice(list(_TEMPO), p=list(_TEMPO.values())))
    near = rng.uniform(-_NEAR, _NEAR)
    sign = 1.0 if rng.random() < _UP else -1.0
    limit = math.log(FASTEST) if sign > 0 else -math.log(SLOWEST)
    while (beyond := _NEAR + rng.exponential(_BEYOND)) > limit:
        pass
    return {"same": 1.0, "near": math.exp(near), "beyond": math.exp(sign * beyond)}[kind]

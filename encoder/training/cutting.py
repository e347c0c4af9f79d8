"""Cutting: what producers do to a sample in time: take a part of it, loop it, chop it and play the chops otherwise."""

import numpy as np
from numpy.typing import NDArray

_FADE = 80  # samples, 5 ms at 16 kHz
_CHOPS = (2, 4)


def shortened(
    rng: np.random.Generator, sample: NDArray, *, window: int, shortest: int, chopped: float
) -> NDArray[np.float32]:
    """Only a part of the middle `window` of a sample, in its place or, as often, looped over the whole length.

    The part is `shortest` samples or longer, log-uniform up to the window, and with probability `chopped` cut into
    chops that are played in another order. Around a part that is not looped there is silence.
    """
    length = int(np.exp(rng.uniform(*np.log([min(shortest, window), window]))))
    start = (len(sample) - window) // 2 + int(rng.integers(0, window - length + 1))
    part = sample[start : start + length]
    part = rearranged(rng, part) if rng.random() < chopped else part * fade(length)
    if rng.random() < 0.5:
        before = -start % length  # samples of a loop that began before the view does
        return np.resize(part, before + len(sample))[before:]
    return np.pad(part, (start, len(sample) - start - length))


def rearranged(rng: np.random.Generator, part: NDArray) -> NDArray[np.float32]:
    """2 to 4 equal chops of a part in any order but their own, each faded at its ends."""
    chops = np.array_split(part, rng.integers(_CHOPS[0], _CHOPS[1] + 1))
    order = rng.permutation(len(chops))
    if (np.diff(order) == 1).all():
        order = order[::-1]
    return np.concatenate([chops[i] * fade(len(chops[i])) for i in order])


def fade(length: int) -> NDArray[np.float32]:
    """Ones that rise and fall within 5 ms at 16 kHz, so that a cut does not click."""
    ramp = min(_FADE, length // 2)
    edge = np.linspace(0, 1, ramp, endpoint=False, dtype=np.float32)
    return np.concatenate([edge, np.ones(length - 2 * ramp, np.float32), edge[::-1]])

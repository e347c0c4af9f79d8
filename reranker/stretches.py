"""Stretches: a window of a query and whole references -> of the likest of these the seconds that are most like it.

A fingerprint of four seconds is a rough ear: among 20 hours of music half of the samples are not among the first 90 of
11,000 places. Contrast features are a finer one, but too slow for all of these references with all frames and tempi. So
references are correlated whole with frames of a quarter of a second and a third of the tempi first, in a tenth of the
time; finely, only the stretches where the likest of them are most like the query.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from reranker.correlate import Correlation, Features, coarsened, evidence
from reranker.slide import Asked, Lines, highest, one_core_each
from reranker.warp import Warp

_COARSER = 2  # times as long frames as those that many references are compared with
_FARTHER = 3  # times as long steps of tempo: along a second tempi 9 % apart part by less than half such a frame
_APART = 4.0  # seconds from one stretch that may be taken to the next
_CLEAR = 4  # power of a piece's cosine: few pieces that are clearly there tell more than many that are a little like


@torch.inference_mode()
def likest(
    window: Features, references: Mapping[int, Features], config: Correlation, *, seconds: float, asked: int
) -> dict[int, Features]:
    """So many seconds of each of the likest references, by number, the likest first; of ties the lower number.

    As many references as `Correlation.fine` allows a query of `asked` frames.
    """
    frames = round(seconds / config.contrast.seconds)
    roughly = replace(config, tempo_step=_FARTHER * config.tempo_step)
    found = evidence(window, references, roughly, coarse=_COARSER * config.coarse)
    order = sorted(references, key=lambda n: (-found[n][0] if n in found else 0.0, n))
    order = order[: config.fine(asked, [min(len(references[n]), frames) for n in order])]
    with one_core_each() as pool:
        taken = pool.map(lambda n: _stretch(window, references[n], found.get(n), config, frames), order)
        return dict(zip(order, taken, strict=True))


def _stretch(
    window: Features, reference: Features, found: tuple[float, Warp] | None, config: Correlation, frames: int
) -> Features:
    """The frames of the reference that are most like the window at the warp that was found."""
    if found is None or len(reference) <= frames:
        return reference[:frames]
    lines = Lines(np.array([found[1].tempo_ratio]), max(config.piece // config.coarse, 1))
    asked = Asked(coarsened(window, config.coarse), np.array([int(found[1].transposition)]), lines.piece)
    whole, length = coarsened(reference, config.coarse), frames // config.coarse
    step = round(_APART / config.contrast.seconds / config.coarse)
    # A stretch is so many steps; what begins in a step may end in the next.
    steps = [whole[start : start + step + lines.reach] for start in range(0, len(whole), step)]
    peaks = np.maximum(highest(asked, [steps], lines), 0)[:, :, 0, 0]  # (pieces, spans, steps)
    likeness = (sliding_window_view(peaks, max(length // step, 1), axis=2).max(3) ** _CLEAR).sum((0, 1))
    start = min(_middle(likeness >= likeness.max()) * step, len(whole) - length) * config.coarse
    return reference[start : start + frames]


def _middle(best: np.ndarray) -> int:
    """Of the stretches that hold all that is alike, the middle one: what lies around it may be sampled as well."""
    chosen = np.flatnonzero(best)
    return int(chosen[len(chosen) // 2])

"""Confidences: the reliability diagram of a run, for the systems that state confidences."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation import reliability
from evaluation.pages import drawing
from evaluation.pages.drawing import LIGHT, Theme, wilson

_TITLE = "Confidence and share that is right"


def diagram(frame: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Share right over stated confidence of the first-ranked answers of full queries, in bins of equal mass.

    Answers to sample-free queries take part, and are wrong. The label of a system has its expected calibration error
    and, behind it, what chance alone would make of perfect confidences.
    """
    known = frame[frame["excerpt"].isna() & frame["confidence"].notna()]
    if not len(known):
        return drawing.nothing(_TITLE, "no system states confidences", theme)
    figure, (axes,) = drawing.figure(_TITLE, theme, heights=(3.9,))
    axes.plot([0, 1], [0, 1], color=theme.ink, linewidth=0.8, linestyle=":")
    for look in drawing.looks(frame, theme):
        own = known[known["system"] == look.system]
        if not len(own):
            continue
        stated, correct = own["confidence"].to_numpy(), own["correct"].to_numpy(bool)
        filled = reliability.bins(stated, correct)
        shares = np.array([one.share for one in filled])
        low, high = np.array([wilson(one.right, one.count) for one in filled]).T
        arms = np.maximum(0.0, [shares - low, high - shares])
        error, chance = reliability.error(stated, correct), reliability.by_chance(stated)
        axes.errorbar(
            [one.confidence for one in filled], shares, arms, fmt=look.marker, color=look.colour, markersize=5,
            elinewidth=1.0, label=f"{look.system}: {error:.3f} (chance {chance:.3f})",
        )  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    axes.set_xlabel("stated confidence, mean of the bin (0-1)")
    axes.set_ylabel("share of the answers that is right (0-1)")
    drawing.legend(axes, theme)
    count = known.groupby("system").size().max()
    drawing.footnote(
        figure,
        f"Up to {count} answers a system in {reliability.BINS} bins of equal mass. Legend: expected calibration error "
        "in these (the table's is in bins of equal width). Bars: 95 % Wilson intervals.",
        theme,
    )
    return figure

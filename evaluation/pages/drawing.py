"""Drawing: paper, ink and marks shared by all figures, so that a system looks the same in each of them.

Figures are made without pyplot and without global settings. They are narrow, because they are read on phones too.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito (2008) without yellow, which vanishes on white; markers tell apart what colours repeat.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
_WIDTH = 5.2  # inches: on a screen of 390 px a letter of 9 points is still 9 px high


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of paper and ink."""

    paper: str
    ink: str
    faint: str  # grid and frame
    lighten: float = 0.0  # 0 to 1: how far the systems' colours move towards white


LIGHT = Theme(paper="#ffffff", ink="#1c1c1c", faint="#d4d4d4")
DARK = Theme(paper="#16181b", ink="#e6e6e6", faint="#41454b", lighten=0.3)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a system is drawn."""

    system: str
    colour: str
    marker: str


def looks(frame: pd.DataFrame, theme: Theme = LIGHT) -> list[Look]:
    """The look of each system of `frame`, in the order of their first rows; give the whole frame, not a part of it."""
    names = list(dict.fromkeys(frame["system"]))
    return [
        Look(system=name, colour=colour(place, theme), marker=MARKERS[place % len(MARKERS)])
        for place, name in enumerate(names)
    ]


def colour(place: int, theme: Theme = LIGHT) -> str:
    """Colour of the system at `place` among the systems of a run, as #rrggbb."""
    base = np.array(to_rgb(PALETTE[place % len(PALETTE)]))
    return to_hex(base + theme.lighten * (1 - base))


def wilson(hits: float, count: int) -> tuple[float, float]:
    """95 % interval of the share hits / count after Wilson (1927); (0, 1) where count is 0."""
    if not 0 <= hits <= count:
        raise ValueError(f"interval of {hits} hits among {count}, expected 0 to {count} hits; count each query once")
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, hits / count
    middle = share + z * z / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


def figure(title: str, theme: Theme, *, heights: Sequence[float], sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels, one below the other, `heights` inches high."""
    drawn = Figure(figsize=(_WIDTH, sum(heights) + 0.9), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=theme.ink)
    panels = drawn.subplots(len(heights), 1, height_ratios=list(heights), sharex=sharex, squeeze=False)[:, 0]
    for axes in panels:
        _dress(axes, theme)
    return drawn, list(panels)


def legend(axes: Axes, theme: Theme) -> None:
    """Name the systems above the panel, two in a row."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=theme.ink,
        handlelength=1.6, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def footnote(drawn: Figure, text: str, theme: Theme) -> None:
    """Say below the panels what marks and bars mean."""
    drawn.supxlabel(text, x=0.02, ha="left", fontsize=7.5, color=theme.ink, wrap=True)


def nothing(title: str, reason: str, theme: Theme) -> Figure:
    """The figure of an empty result: its title and why there is nothing to see."""
    drawn, (axes,) = figure(title, theme, heights=(1.2,))
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"Nothing to draw: {reason}.", ha="center", va="center", fontsize=9, color=theme.ink)
    return drawn


def png(drawn: Figure, *, dpi: int = 160) -> bytes:
    """`drawn` as PNG; the same figure gives the same bytes."""
    written = io.BytesIO()
    drawn.savefig(written, format="png", dpi=dpi, metadata={"Software": None})
    return written.getvalue()


def _dress(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, labelsize=8.5, length=3)
    axes.grid(color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.ink, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)

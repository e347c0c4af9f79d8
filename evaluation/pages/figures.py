"""Figures: the rows of results.parquet -> matplotlib figures, one function each.

Each axis has its unit, each bin its number of queries, each system one colour and marker throughout. Intervals are
95 % intervals over queries and say of which kind they are. Where there is nothing to draw, the figure says that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation import bootstrap, metrics
from evaluation.bootstrap import DRAWS
from evaluation.pages import confidences, drawing
from evaluation.pages.drawing import LIGHT, Look, Theme, wilson

_SPREAD = 0.6180339887  # golden ratio: dots spread evenly over the height of their strip, without chance


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Something of a query or its sample by which hit rates are shown."""

    column: str
    name: str
    axis: str  # label with unit
    edges: tuple[float, ...] = ()  # bins are [low, high), the outer ones open; empty: each value is a bin

    def bins(self, values: pd.Series) -> dict[str, tuple[float, float]]:
        """Bounds of each bin by its label; `values` matter where each value is a bin."""
        if not self.edges:
            return {f"{value:g}": (value, np.nextafter(value, np.inf)) for value in sorted(values.dropna().unique())}
        bounds = (-np.inf, *self.edges, np.inf)
        return {_label(low, high): (low, high) for low, high in zip(bounds, bounds[1:])}


QUERY_LENGTH = Feature(column="excerpt", name="query length", axis="query length (s)")
TEMPO_RATIO = Feature(
    column="tempo_ratio",
    name="tempo ratio",
    axis="query tempo / reference tempo (ratio)",
    edges=(0.85, 0.95, 1.05, 1.15),
)
SAMPLE_LENGTH = Feature(
    column="sample_length", name="sample length", axis="length of the sample in the query (s)", edges=(2.0, 4.0, 8.0)
)
LEVEL = Feature(
    column="level", name="level", axis="level of the sample over the music on it (dB)", edges=(-3.0, 0.0, 3.0)
)


def draw(frame: pd.DataFrame, theme: Theme = LIGHT, *, seed: int = 1, draws: int = DRAWS) -> dict[str, Figure]:
    """All figures of a run, by file name without suffix, in the order of a report; `seed` and `draws` of the
    bootstrap as in its summary.
    """
    figures = {
        "precision_recall": precision_recall(frame, theme),
        "score_distributions": score_distributions(frame, theme),
        "reliability": confidences.diagram(frame, theme),
    }
    for feature in (QUERY_LENGTH, SAMPLE_LENGTH, TEMPO_RATIO, LEVEL):
        figures[f"hit_rate_by_{feature.name.replace(' ', '_')}"] = hit_rate(
            frame, feature, theme, seed=seed, draws=draws
        )
    return figures


def precision_recall(frame: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Precision and recall of the first-ranked answers of full queries over the score threshold.

    Sampled and sample-free queries count together: precision = right answers / answers given, recall = right answers /
    sampled queries. The marker is the system's own operating point, with Wilson's intervals of both shares.
    """
    full = frame[frame["excerpt"].isna()]
    title = "Precision and recall over the score threshold"
    if not (full["relevant"] > 0).any():
        return drawing.nothing(title, "no full query with a sample", theme)
    figure, (axes,) = drawing.figure(title, theme, heights=(3.9,))
    for look in drawing.looks(frame, theme):
        _curve(axes, full[full["system"] == look.system], look)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    axes.set_xlabel("recall: right answers / sampled queries (0-1)")
    axes.set_ylabel("precision: right answers / answers (0-1)")
    drawing.legend(axes, theme)
    sampled = full[full["relevant"] > 0]["query"].nunique()
    counts = f"{sampled} sampled and {full['query'].nunique() - sampled} sample-free queries"
    drawing.footnote(figure, f"{counts}. Marker: operating point, 95 % Wilson intervals.", theme)
    return figure


def score_distributions(frame: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Scores of the first-ranked answers of full queries, per system: true, false, and on sample-free queries.

    Scores of different systems are not comparable, so each system has its own axis.
    """
    full = frame[frame["excerpt"].isna()]
    title = "Scores of the first-ranked answers"
    if full["top_score"].notna().sum() == 0:
        return drawing.nothing(title, "no full query was answered", theme)
    looks = drawing.looks(frame, theme)
    figure, panels = drawing.figure(title, theme, heights=(1.5,) * len(looks))
    for axes, look in zip(panels, looks):
        _strips(axes, full[full["system"] == look.system], look, theme)
        axes.set_title(look.system, loc="left", fontsize=9, color=theme.ink)
        axes.set_xlabel("score (no unit)")
    drawing.footnote(figure, "A dot is a query, n how many have an answer; box: median and quartiles.", theme)
    return figure


def hit_rate(
    frame: pd.DataFrame,
    feature: Feature,
    theme: Theme = LIGHT,
    *,
    tops: Sequence[int] = (1, 10),
    seed: int = 1,
    draws: int = DRAWS,
) -> Figure:
    """Hit rates within the first `tops` ranks by bins of `feature`; intervals as in `binned`.

    Queries whose value is unknown are left out and counted in the footnote.
    """
    title = f"Hit rate by {feature.name}"
    shares = {top: binned(frame, feature, f"hit_{top}", seed=seed, draws=draws) for top in tops}
    if not all(len(table) for table in shares.values()):
        return drawing.nothing(title, f"no query with a known {feature.name}", theme)
    figure, panels = drawing.figure(title, theme, heights=(2.2,) * len(tops), sharex=True)
    for axes, top in zip(panels, tops):
        _hit_rates(axes, shares[top], drawing.looks(frame, theme), joined=feature is QUERY_LENGTH)
        axes.set_ylabel(f"hit {'at first' if top == 1 else f'among first {top}'},\nshare of queries (0-1)")
    panels[-1].set_xlabel(feature.axis)
    drawing.legend(panels[0], theme)
    kind = "bootstrap intervals over full queries" if feature is QUERY_LENGTH else "Wilson intervals"
    drawing.footnote(figure, f"n: queries. Bars: 95 % {kind}." + _left_out(frame, feature), theme)
    return figure


def binned(frame: pd.DataFrame, feature: Feature, column: str, *, seed: int = 1, draws: int = DRAWS) -> pd.DataFrame:
    """Rows (system, bin, count, share, low, high) of the 0/1 column `column` by bins of `feature`.

    By query length the excerpts are counted, by anything else the full queries. Excerpts of one full query are no
    independent evidence, so their intervals are drawn over full queries with `seed` and `draws`, as in the table by
    query length; the others are Wilson's, which stay honest where a bin holds three queries. Bins without queries have
    count 0.
    """
    rows = _asked(frame, feature)
    rows = rows[rows[feature.column].notna()]
    table = []
    for label, (low, high) in feature.bins(rows[feature.column]).items() if len(rows) else ():
        inside = rows[(rows[feature.column] >= low) & (rows[feature.column] < high)]
        for system in dict.fromkeys(frame["system"]):
            own = inside[inside["system"] == system].sort_values("query", kind="stable")
            interval = (
                _drawn(own, column, seed, draws) if feature is QUERY_LENGTH else wilson(own[column].sum(), len(own))
            )
            table.append((system, label, len(own), own[column].mean(), *interval))
    return pd.DataFrame(table, columns=["system", "bin", "count", "share", "low", "high"])


def curve(rows: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision of one system's rows as the threshold falls; answers of one score come together."""
    answers = rows[rows["top_score"].notna()].sort_values("top_score", ascending=False, kind="stable")
    right = answers["correct"].astype(bool).cumsum().to_numpy(float)
    given = np.arange(1, len(answers) + 1)
    last = ~answers["top_score"].duplicated(keep="last").to_numpy()
    return right[last] / (rows["relevant"] > 0).sum(), (right / given)[last]


def _curve(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    recall, precision = curve(rows)
    axes.plot(recall, precision, color=look.colour, linewidth=1.5)
    answered, sampled = rows["answered"].astype(bool), int((rows["relevant"] > 0).sum())
    right, given = int((answered & rows["correct"].astype(bool)).sum()), int(answered.sum())
    mark = {"fmt": look.marker, "color": look.colour, "label": look.system, "markersize": 6, "elinewidth": 1.0}
    if not given or not sampled:
        axes.errorbar([], [], **mark)  # in the legend all the same
        return
    x, y = right / sampled, right / given
    axes.errorbar([x], [y], xerr=_arms(x, wilson(right, sampled)), yerr=_arms(y, wilson(right, given)), **mark)


def _strips(axes: Axes, rows: pd.DataFrame, look: Look, theme: Theme) -> None:
    answers = rows[rows["top_score"].notna()]
    free, right = answers["relevant"] == 0, answers["correct"].astype(bool)
    groups = {"sample-free": answers[free], "false": answers[~free & ~right], "true": answers[~free & right]}
    for height, (label, own) in enumerate(groups.items()):
        scores = np.sort(own["top_score"].to_numpy(float))
        scatter = ((np.arange(len(scores)) * _SPREAD) % 1 - 0.5) * 0.5
        face = look.colour if label == "true" else "none"
        axes.scatter(scores, height + scatter, s=14, alpha=0.8, linewidth=0.8, facecolor=face, edgecolor=look.colour)
        if len(scores):
            low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
            axes.broken_barh([(low, high - low)], (height - 0.36, 0.72), facecolor="none", edgecolor=theme.ink)
            axes.vlines(middle, height - 0.36, height + 0.36, color=theme.ink, linewidth=1.8)
    axes.set_yticks(range(3), [f"{label}, n={len(own)}" for label, own in groups.items()])
    axes.set_ylim(-0.6, 2.6)
    axes.grid(visible=False, axis="y")


def _hit_rates(axes: Axes, shares: pd.DataFrame, looks: Sequence[Look], *, joined: bool) -> None:
    step = min(0.17, 0.8 / len(looks))
    for place, look in enumerate(looks):
        own = shares[shares["system"] == look.system].reset_index(drop=True)
        own = own[own["count"] > 0]
        x = own.index + (place - (len(looks) - 1) / 2) * step
        arms = _arms(own["share"], (own["low"], own["high"]))
        style = {"fmt": look.marker, "color": look.colour, "markersize": 5, "elinewidth": 1.2}
        axes.errorbar(x, own["share"], arms, label=look.system, **style)
        if joined:
            axes.plot(x, own["share"], color=look.colour, linewidth=0.8, alpha=0.6)
    first = shares[shares["system"] == looks[0].system]  # all systems are asked the same queries
    axes.set_xticks(
        range(len(first)), [f"{row.bin}\nn={row.count}" for row in first.itertuples(index=False, name="Bin")]
    )
    axes.set(ylim=(-0.03, 1.03), xlim=(-0.6, len(first) - 0.4))
    axes.grid(visible=False, axis="x")


def _asked(frame: pd.DataFrame, feature: Feature) -> pd.DataFrame:
    """The sampled queries that `feature` sorts: excerpts by query length, full ones by anything else."""
    full = frame["excerpt"].isna()
    return frame[(frame["relevant"] > 0) & (~full if feature is QUERY_LENGTH else full)]


def _drawn(rows: pd.DataFrame, column: str, seed: int, draws: int) -> tuple[float, float]:
    counts = bootstrap.draw(rows["relevant"] > 0, seed=seed, draws=draws, groups=rows["full_query"])
    low, high = np.quantile(metrics.mean(rows[column], counts), (0.025, 0.975))
    return float(low), float(high)


def _left_out(frame: pd.DataFrame, feature: Feature) -> str:
    rows = _asked(frame, feature)
    unknown = int(rows[rows["system"] == rows["system"].iloc[0]][feature.column].isna().sum())
    return f" {unknown} of unknown value left out." if unknown else ""


def _arms(value, bounds) -> NDArray[np.float64]:
    """Lengths of the error bars (2, n) around `value`; rounding never makes them negative."""
    return np.maximum(0.0, np.reshape([value - bounds[0], bounds[1] - value], (2, -1)))


def _label(low: float, high: float) -> str:
    if np.isinf(low):
        label = f"under {high:g}"
    elif np.isinf(high):
        label = f"{low:g} and over"
    else:
        label = f"{low:g} to {high:g}"
    return label.replace("-", "−")

"""Figures of a run: what is drawn, counted and labelled."""

import numpy as np
import pandas as pd
import pytest

from evaluation.pages import figures
from evaluation.pages.drawing import DARK
from evaluation.pages.figures import LEVEL, QUERY_LENGTH, TEMPO_RATIO

UNITS = ("(s)", "(dB)", "(ratio)", "(0-1)", "(no unit)")
NAMES = ["precision_recall", "score_distributions", "reliability", "hit_rate_by_query_length",
         "hit_rate_by_sample_length", "hit_rate_by_tempo_ratio", "hit_rate_by_level"]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(made_frame):
    return figures.draw(made_frame, draws=60)


def texts(figure):
    """Everything that is written outside of the panels."""
    return [text.get_text() for text in figure.texts]


def rows(**columns):
    """Rows of one system's full queries; what is not given is unknown."""
    count = len(next(iter(columns.values())))
    unknown = {"excerpt": np.nan, "tempo_ratio": np.nan, "level": np.nan, "relevant": 1, "answered": True}
    named = {"system": "one", "query": [f"q{place}" for place in range(count)]}
    return pd.DataFrame({**unknown, **named, **columns}, index=range(count))


def test_a_run_has_all_figures(drawn):
    assert list(drawn) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_axis_is_without_a_unit(drawn, name):
    panels = drawn[name].axes
    assert all(any(unit in axes.get_xlabel() for unit in UNITS) for axes in panels[-1:])
    for axes in panels:
        words = [label.get_text() for label in axes.get_yticklabels()]
        assert any(unit in axes.get_ylabel() for unit in UNITS) or any("n=" in word for word in words)
        shared = axes.get_shared_x_axes().joined(axes, panels[-1])
        assert shared or any(unit in axes.get_xlabel() for unit in UNITS)


def test_a_system_keeps_its_colour_where_another_has_nothing_to_show(made_frame):
    silent = made_frame.copy()
    silent.loc[silent["system"] == "asid", ["top_score", "true_score"]] = np.nan
    figure = figures.score_distributions(silent)
    assert [axes.get_title(loc="left") for axes in figure.axes][:2] == ["asid", "asid-candidates"]
    edge = figure.axes[1].collections[0].get_edgecolor()[0]
    assert edge[:3] == pytest.approx((0xD5 / 255, 0x5E / 255, 0))  # the second colour, though the first shows nothing


def test_precision_and_recall_after_each_threshold_are_those_worked_by_hand():
    # Thresholds 4, 3 and 2: 1 right of 1; 1 of 2 (the second is sample-free); of the tie at 2 one is right: 2 of 4.
    answers = rows(
        top_score=[4.0, 3.0, 2.0, 2.0, np.nan], correct=[True, False, False, True, False], relevant=[1, 0, 1, 1, 1]
    )
    recall, precision = figures.curve(answers)
    assert recall.tolist() == [1 / 4, 1 / 4, 2 / 4]  # four sampled queries, one without any answer
    assert precision.tolist() == [1, 1 / 2, 2 / 4]


def test_bins_hold_their_lower_edge_and_leave_out_what_is_unknown():
    shares = figures.binned(
        rows(tempo_ratio=[0.8, 0.85, 0.95, 1.0, 1.15, np.nan], hit_1=[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]),
        TEMPO_RATIO,
        "hit_1",
    )
    assert shares["bin"].tolist() == ["under 0.85", "0.85 to 0.95", "0.95 to 1.05", "1.05 to 1.15", "1.15 and over"]
    assert shares["count"].tolist() == [1, 1, 2, 0, 1]
    np.testing.assert_array_equal(shares["share"], [1, 0, 0.5, np.nan, 1])
    # 1 of 2 after Wilson: middle 0.5, half 1.95996 √(0.125 + 0.24009) / 2.92073 = 0.4055.
    assert shares[["low", "high"]].iloc[2].tolist() == pytest.approx([0.0945, 0.9055], abs=1e-4)


def test_sample_free_queries_are_in_no_bin():
    shares = figures.binned(rows(level=[1.0, 1.0], hit_1=[1.0, np.nan], relevant=[1, 0]), LEVEL, "hit_1")
    assert shares["count"].sum() == 1


def test_the_figure_by_query_length_has_the_intervals_of_the_table(made_frame, made_summary):
    draws = made_summary["counts"]["bootstrap_draws"]
    shares = figures.binned(made_frame, QUERY_LENGTH, "hit_1", seed=made_summary["seed"], draws=draws)
    for share in shares.itertuples():
        table = made_summary["by_length"][share.system][share.bin]["hit_rate_1"]
        assert (share.share, share.low, share.high) == pytest.approx((table["value"], table["low"], table["high"]))


def test_each_bin_tells_how_many_queries_it_holds(drawn, made_frame):
    labels = [label.get_text() for label in drawn["hit_rate_by_query_length"].axes[-1].get_xticklabels()]
    assert labels == ["5\nn=45", *(f"{length}\nn=30" for length in (7, 10, 15, 20))]


def test_queries_of_unknown_value_are_counted_below_the_figure(made_frame):
    unknown = made_frame.copy()
    unknown.loc[unknown["query"].isin(["query_000", "query_001"]), "level"] = np.nan
    assert any("2 of unknown value left out" in text for text in texts(figures.hit_rate(unknown, LEVEL)))


def test_the_legend_names_every_system_even_one_that_never_answers(made_frame):
    silent = made_frame.assign(answered=made_frame["system"] != "audfprint")
    named = [text.get_text() for text in figures.precision_recall(silent).axes[0].get_legend().get_texts()]
    assert named == ["asid", "asid-candidates", "neuralsampleid-published", "audfprint"]


def test_where_there_is_nothing_to_draw_the_figure_says_so(made_frame):
    full = made_frame[made_frame["excerpt"].isna()]
    inside = [text.get_text() for text in figures.hit_rate(full, QUERY_LENGTH).axes[0].texts]
    assert inside == ["Nothing to draw: no query with a known query length."]


@pytest.mark.parametrize("part", [slice(0, 0), "sample-free"])
def test_a_run_without_sampled_queries_still_has_all_figures(made_frame, part):
    some = made_frame[made_frame["relevant"] == 0] if part == "sample-free" else made_frame[part]
    assert list(figures.draw(some, DARK, draws=60)) == NAMES

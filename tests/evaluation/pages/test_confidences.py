"""The reliability diagram: what is plotted, and that it says when there is nothing to plot."""

import numpy as np
import pandas as pd
import pytest

from evaluation.pages import confidences


def rows(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"system": "one", "excerpt": np.nan, "correct": False, **columns}, index=range(count))


def test_a_point_is_a_bin_and_excerpts_stay_out():
    stated = np.repeat([0.25, 0.75], 10)  # ten bins of two answers of one confidence each
    correct = np.tile([True, False], 10)
    full = rows(confidence=stated, correct=correct)
    frame = pd.concat([full, rows(confidence=[0.9] * 5, excerpt=[5.0] * 5)])
    (axes,) = confidences.diagram(frame).axes
    points = axes.containers[0].lines[0].get_xydata()
    assert points[:, 0] == pytest.approx(np.repeat([0.25, 0.75], 5))
    assert points[:, 1] == pytest.approx(np.full(10, 0.5))
    label = axes.get_legend().get_texts()[0].get_text()
    assert label.startswith("one: 0.250 (chance 0.")  # every bin is 0.25 off


def test_a_system_without_confidences_is_not_named_and_none_at_all_is_said(made_frame):
    (axes,) = confidences.diagram(made_frame).axes
    assert [text.get_text().split(":")[0] for text in axes.get_legend().get_texts()] == ["asid"]
    nothing = confidences.diagram(made_frame.assign(confidence=np.nan))
    assert "no system states confidences" in nothing.axes[0].texts[0].get_text()

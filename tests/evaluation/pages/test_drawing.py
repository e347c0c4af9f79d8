"""What all figures share: a system's look, intervals of shares, PNGs that are the same twice."""

import pandas as pd
import pytest

from evaluation.pages import drawing
from evaluation.pages.drawing import DARK, LIGHT, wilson


def test_wilson_intervals_agree_with_the_formula_worked_by_hand():
    # z² = 3.8415. 5 of 10: middle (0.5 + 0.19207) / 1.38415 = 0.5,
    # half 1.95996 √(0.025 + 0.0096036) / 1.38415 = 0.2634.
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    # 0 of 10: from 0 to (z²/n) / (1 + z²/n) = 0.38415 / 1.38415.
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)


def test_without_queries_a_share_may_be_anything():
    assert wilson(0, 0) == (0, 1)


def test_more_hits_than_queries_are_refused():
    with pytest.raises(ValueError, match="3 hits among 2, expected 0 to 2"):
        wilson(3, 2)


def test_every_system_has_a_colour_and_a_marker_of_its_own(made_frame):
    for theme in (LIGHT, DARK):
        looks = drawing.looks(made_frame, theme)
        assert [look.system for look in looks] == ["asid", "asid-candidates", "neuralsampleid-published", "audfprint"]
        assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 4


def test_systems_beyond_the_palette_differ_by_their_marker():
    looks = drawing.looks(pd.DataFrame({"system": [f"system {number}" for number in range(9)]}))
    assert looks[7].colour == looks[0].colour
    assert len({(look.colour, look.marker) for look in looks}) == 9


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_out_from_their_paper(theme):
    for place in range(len(drawing.PALETTE)):
        lighter, darker = sorted((_luminance(drawing.colour(place, theme)), _luminance(theme.paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 2.1  # of large marks; letters are in ink


def test_the_same_figure_gives_the_same_bytes():
    one, two = (drawing.png(drawing.nothing("Title", "no query", LIGHT), dpi=40) for _ in range(2))
    assert one == two
    assert one.startswith(b"\x89PNG")


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

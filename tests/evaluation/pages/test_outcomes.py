"""What became of each query, in words."""

import numpy as np
import pandas as pd
import pytest

from evaluation.pages import outcomes


def row(**changes):
    """The row of one query."""
    known = {
        "system": "one", "query": "q", "excerpt": np.nan, "relevant": 1, "answered": True, "correct": True,
        "best_rank": 1.0, "top_reference": "T1", "top_score": 2.5, "seconds": 0.5, "sample_type": "riff",
        "sample_length": 3.6, "tempo_ratio": 0.95, "transposition": -2.0, "level": np.nan,
    }  # fmt: skip
    return known | changes


def became(**changes):
    (outcome,) = outcomes.of_rows(pd.DataFrame([row(**changes)]))
    return outcome


@pytest.mark.parametrize(
    ("relevant", "answered", "correct", "verdict", "good"),
    [
        (1, True, True, "right", True),
        (1, True, False, "wrong", False),
        (1, False, True, "first, but not reported", False),
        (1, False, False, "missed", False),
        (0, True, False, "false alarm", False),
        (0, False, False, "rightly silent", True),
    ],
)
def test_each_outcome_has_a_word(relevant, answered, correct, verdict, good):
    outcome = became(relevant=relevant, answered=answered, correct=correct)
    assert (outcome.verdict, outcome.good) == (verdict, good)


def test_a_query_tells_what_is_known_of_its_sample():
    assert became().sampled == "riff, 3.6 s, tempo × 0.95, −2 semitones"
    assert became(relevant=2, sample_type="1-note").sampled.startswith("2 references, 1-note, 3.6 s")
    assert became(relevant=0, correct=False).sampled == "nothing"
    unknown = {"sample_type": "", "sample_length": np.nan, "tempo_ratio": np.nan, "transposition": np.nan}
    assert became(**unknown).sampled == "a reference"


def test_what_was_not_found_has_no_rank_and_no_score():
    outcome = became(best_rank=np.nan, top_reference=None, top_score=np.nan, answered=False, correct=False)
    assert (outcome.rank, outcome.score, outcome.first) == (None, None, "–")


def test_excerpts_are_left_out_and_systems_keep_their_order():
    rows = pd.DataFrame([row(system="b", query="2"), row(system="b", query="1"), row(system="a"), row(excerpt=5.0)])
    assert [(one.system, one.query) for one in outcomes.of_rows(rows)] == [("b", "1"), ("b", "2"), ("a", "q")]

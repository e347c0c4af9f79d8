"""Folds: which sounds are trained on and which are asked about.

by item        as published: any sound may be in any fold, so that every technique that is asked about has been
               trained on, and its label with it
by technique   all sounds of a technique are in one fold, spread so that labels are in as many folds as they can be:
               what is asked about is a technique that training never heard
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold

By = Literal["item", "technique"]
_SEED = 12_345  # of the released code


class Fold(NamedTuple):
    """Rows of either part."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def folds(by: By, labels: NDArray, techniques: NDArray, *, count: int = 5, seed: int = _SEED) -> Iterator[Fold]:
    """The folds; every sound is in one test part. ValueError where there are too few sounds or techniques."""
    if by not in get_args(By):
        raise ValueError(f"folds by {by!r}, expected item or technique")
    parts = len(labels) if by == "item" else len(np.unique(techniques))
    if not 2 <= count <= parts:
        raise ValueError(f"{count} folds of {parts} {by}s, expected 2 or more and at most as many as there are {by}s")
    if by == "item":
        yield from (Fold(*fold) for fold in KFold(count, shuffle=True, random_state=seed).split(labels))
        return
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    yield from (Fold(*fold) for fold in splitter.split(labels, labels, techniques))

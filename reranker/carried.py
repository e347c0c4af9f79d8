"""Carried: the stems of a query and what it matches -> how much of each match each stem carries.

The occurrences of a match are lines (reference time = intercept + tempo ratio * query time) at a known transposition.
Along these lines, features of each stem, weighted by what of them is heard in the mix (encoder/stem_features.py), are
multiplied with the reference's. What the stem reaches by chance, with the reference moved to any other place, is taken
off. What is left, as a part of what is left of all stems together, is the stem's share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoder import stem_features
from encoder.encode import Encoder
from reranker.rank import Carried, Match, Occurrence
from reranker.warp import centred, transposed
from store.references import References

_MOVES = 48  # places of the reference at which likeness by chance is measured
_NEAR = 8  # frames around the lines that are not chance
_NOISE = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
_CLEAR = 3.0  # standard deviations over chance from which a stem can carry a match
_MOST = 0.6  # share from which a stem stands out of the others

Features = NDArray[np.uint8]  # (frames, semitones)


class Separate(Protocol):
    """What makes stems of a recording, as encoder.separation.Separator does."""

    def __call__(self, path: Path, *, sample_rate: int) -> Mapping[str, NDArray[np.float32]]: ...


class StemFinder:
    """Finds which stem of a query carries each of its matches; the query is separated once, and only if it has some."""

    def __init__(self, separate: Separate, encoder: Encoder, references: References) -> None:
        """ValueError where the encoder has no contrast features."""
        self.contrast = stem_features.require_contrast(encoder)
        self.separate, self.encoder, self.references = separate, encoder, references

    def __call__(self, query: Path, matches: Sequence[Match]) -> tuple[Match, ...]:
        """The matches, with what carries them; raises AudioError where the query cannot be separated.

        ValueError where a match has occurrences that are not aligned.
        """
        if not matches:
            return ()
        waves = self.separate(query, sample_rate=self.encoder.grid.sample_rate)
        stems = stem_features.of_stems(self.encoder, waves)
        references = self.references.features(match.reference.number for match in matches)
        seconds = self.contrast.seconds
        return tuple(
            replace(
                match, carried=by_stem(stems, references[match.reference.number], match.occurrences, seconds=seconds)
            )
            for match in matches
        )


def by_stem(
    stems: Mapping[str, Features], reference: Features, occurrences: Sequence[Occurrence], *, seconds: float
) -> Carried:
    """Features of the query's stems and of the reference, `seconds` from frame to frame -> what carries the match.

    With m_k the likeness of a stem on the lines moved by k frames, its surplus is m_0 - median(m_k), 0 at least, and
    its share the surplus over the sum of all stems' surpluses. A stem is told where its share is at least 0.6 and its
    surplus at least 3 robust standard deviations of m_k. Without occurrences nothing can be told. ValueError where an
    occurrence is not aligned.
    """
    _require_aligned(occurrences)
    asked = centred(reference).numpy()
    likeness = {name: _likeness(features, asked, occurrences, seconds) for name, features in stems.items()}
    surplus = {name: max(float(m[0] - np.median(m[1:])), 0.0) for name, m in likeness.items()}
    total = sum(surplus.values())
    shares = {name: value / total if total else 0.0 for name, value in surplus.items()}
    most = max(shares, key=shares.get, default=None)
    told = most is not None and shares[most] >= _MOST and surplus[most] >= _CLEAR * _spread(likeness[most][1:])
    return Carried(shares=shares, stem=most if told else None)


def _require_aligned(occurrences: Sequence[Occurrence]) -> None:
    if any(o.tempo_ratio is None or o.transposition is None for o in occurrences):
        raise ValueError("an occurrence has no tempo ratio or transposition; stems need --rank-by correlation")


def _likeness(
    stem: Features, asked: NDArray[np.float32], occurrences: Sequence[Occurrence], seconds: float
) -> NDArray[np.float64]:
    """(1 + moves,) sum of products along all lines, then the same with the reference moved."""
    moves = np.concatenate([[0], np.linspace(_NEAR, max(len(asked) - _NEAR, _NEAR), _MOVES).round()])
    total = np.zeros(len(moves))
    if not len(asked):
        return total
    centred_stem = centred(stem)
    for occurrence in occurrences:
        first, last = (round(time / seconds) for time in occurrence.query_span)
        mine = transposed(centred_stem[first:last], -occurrence.transposition).numpy()
        where = occurrence.reference_span[0] / seconds + np.arange(len(mine)) * occurrence.tempo_ratio
        total += [np.vdot(mine, _at(asked, where + move)) for move in moves]
    return total


def _spread(values: NDArray[np.float64]) -> float:
    """Robust standard deviation."""
    return float(np.median(np.abs(values - np.median(values)))) * _NOISE


def _at(frames: NDArray[np.float32], where: NDArray[np.float64]) -> NDArray[np.float32]:
    """Frames between frames, by linear interpolation; behind the last comes the first."""
    low = np.floor(where).astype(np.int64)
    part = (where - low)[:, None].astype(np.float32)
    return frames[low % len(frames)] * (1 - part) + frames[(low + 1) % len(frames)] * part

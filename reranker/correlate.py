"""Correlate: features of a query and of candidate references -> which of them it samples, where, how fast, how high.

Pieces of the query, a second long, are slid over the references at every tempo ratio and transposition of a grid
(reranker/slide.py). What a piece reaches anywhere in a reference is compared with what it reaches in all references and
at all tempi and transpositions: only the surplus over that background counts. A true reference has its surplus at one
tempo and one transposition, piece after piece; noise has it anywhere. The score is therefore the sum over pieces at the
best common tempo and transposition, great changes counting for less, and needs no threshold on single similarities.

Where there are many references, all are compared with coarse frames first, and only the best ones with fine frames. For
the best of these, tempo and transposition are then measured finely and the query is shared out among lines
(reference time = intercept + tempo ratio * query time). A sum of cosines cannot tell a sample from two pieces that are
alike: so a verifier (reranker/verify.py) looks at how the best of them lie upon the query, and has a say in the score.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.contrast import Contrast
from reranker.rank import Occurrence, within
from reranker.slide import Asked, Lines, highest, one_core_each
from reranker.trace import retrace, trace
from reranker.verify import Features, Verifier
from reranker.warp import Warp, centred

NOISE = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
QUIETEST = 1e-3  # deviation of cosines that counts at least
_FEWEST = 4  # references of a window that are judged by the verifier, however long the query is


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """What is searched, and what counts."""

    contrast: Contrast = Contrast()  # how the features were made
    tempo: tuple[float, float] = (0.7, 1.5)  # tempo ratios, query / reference
    tempo_step: float = 0.06  # of the logarithm; a ratio of 1 is always among them
    transposition: int = 5  # semitones, up and down
    piece: int = 16  # frames of the query that are compared at once
    surplus: float = 3.0  # robust standard deviations over the background from which a piece counts
    # Few samples are changed much: of the 106 of Sample100 four in five are played within 9 % of their tempo (published
    # annotations). Evidence counts exp(-doubt * distance), distance in logarithms of tempo and in semitones.
    doubt: tuple[float, float] = (2.0, 0.05)
    coarse: int = 2  # frames that are one while references are many
    # Seconds of query times seconds of references up to which frames are compared one by one, and the least references.
    effort: float = 170_000.0
    finest: int = 8
    # Where there is a verifier it judges as many of the best references (of a window of a long query fewer), of those
    # over a score that is worth it, and their scores are multiplied by exp(trust * how much the log odds are over those
    # of the usual wrong reference).
    verified: int = 12
    hopeless: float = 15.0
    trust: float = 0.5
    usual: float = -2.5
    verifier: str = ""  # its digest; told by the correlator

    def __post_init__(self) -> None:
        low, high = self.tempo
        if not 0 < low <= 1 <= high:
            raise ValueError(f"correlation: tempo is {self.tempo}, expected (low, high) with 0 < low <= 1 <= high")
        if min(self.doubt) < 0:
            raise ValueError(f"correlation: doubt is {self.doubt}, expected 0 or more of tempo and of transposition")
        for name, least in (
            ("tempo_step", 0.005),
            ("transposition", 0),
            ("piece", 4),
            ("surplus", 0),
            ("coarse", 1),
            ("finest", 1),
            ("verified", 0),
            ("trust", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"correlation: {name} is {getattr(self, name)}, expected at least {least}")

    @property
    def tempi(self) -> NDArray[np.float64]:
        """The tempo ratios of the grid."""
        low, high = (np.log(ratio) / self.tempo_step for ratio in self.tempo)
        return np.exp(np.arange(np.ceil(low), np.floor(high) + 1) * self.tempo_step)

    @property
    def transpositions(self) -> NDArray[np.int64]:
        """The transpositions of the grid, in semitones."""
        return np.arange(-self.transposition, self.transposition + 1)

    @property
    def bar(self) -> float:
        """Score from which a reference is told where there is no calibration; 3 wrong in 100 queries of validation."""
        return 1000.0 if self.verifier else 250.0

    @property
    def belief(self) -> NDArray[np.float32]:
        """(tempi, transpositions) share of the evidence that counts at each; 1 where nothing was changed."""
        tempo, transposition = self.doubt
        far = tempo * np.abs(np.log(self.tempi))[:, None] + transposition * np.abs(self.transpositions)
        return np.exp(-far, dtype=np.float32)

    def fine(self, query: int, references: Sequence[int]) -> int:
        """How many references, given by their frames, the best first, a query of so many is compared with finely."""
        reach = self.effort / max(query * self.contrast.seconds, 1.0) / self.contrast.seconds
        return within(references, reach, least=self.finest)

    def judged(self, share: float) -> int:
        """How many references of a window that is such a share of the query are verified: its others wait."""
        return max(round(self.verified * share), min(_FEWEST, self.verified))


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How a reference explains the query."""

    score: float  # surplus over the query's pieces, 0 or more; comparable between references of one query
    tempo_ratio: float  # query tempo / reference tempo at which it is reached
    transposition: float  # semitones by which the query is higher
    occurrences: tuple[Occurrence, ...]  # by place in the query; none before `Correlator.explain`


_NOTHING = (0.0, Warp(tempo_ratio=1.0, transposition=0.0))


class Correlator:
    """Compares a query with references, and tells what of it each explains."""

    def __init__(self, correlation: Correlation = Correlation(), verifier: Verifier | None = None) -> None:
        """Without a verifier, scores are what correlation finds."""
        self.correlation = replace(correlation, verifier=verifier.digest if verifier else "")
        self.verifier = verifier

    @torch.inference_mode()
    def compare(
        self, query: Features, references: Mapping[int, Features], *, asked: int | None = None
    ) -> dict[int, Explanation]:
        """Features (frames, bins) of the query and of references by number -> how well each explains it, best first.

        Tempo and transposition are those of the grid, and occurrences are left for `explain`. `asked`: frames of the
        whole query, where this is a window of it: the more, the fewer references are compared finely.

        A query or a reference too short for one piece has the score 0, and so has a reference that coarse frames leave
        behind; these come in the order of their coarse scores. Ties go by number.
        """
        _require_features({"query": query, **references})
        config = self.correlation
        rough = dict.fromkeys(references, _NOTHING)
        lengths = {number: len(features) for number, features in references.items()}
        if config.fine(asked or len(query), list(lengths.values())) < len(references):
            rough |= evidence(query, references, config, coarse=config.coarse)
        kept = sorted(references, key=lambda number: (-rough[number][0], number))
        kept = kept[: config.fine(asked or len(query), [lengths[number] for number in kept])]
        found = dict.fromkeys(references, _NOTHING) | evidence(query, {n: references[n] for n in kept}, config)
        order = sorted(references, key=lambda number: (-found[number][0], -rough[number][0], number))
        explained = {number: _explanation(*found[number]) for number in order}
        return self._verified(query, references, explained, share=len(query) / max(asked or 0, len(query), 1))

    @torch.inference_mode()
    def explain(self, query: Features, reference: Features, found: Explanation) -> Explanation:
        """What `compare` found of that reference, with tempo and transposition measured finely and all occurrences."""
        if found.score <= 0:
            return found
        warp, places = self._traced(query, reference, found)
        if places:
            warp, places = retrace(query, reference, warp, places, **self._how)
        return _explanation(found.score, warp, places)

    def _traced(self, query: Features, reference: Features, found: Explanation) -> tuple[Warp, tuple[Occurrence, ...]]:
        rough = Warp(tempo_ratio=found.tempo_ratio, transposition=found.transposition)
        return trace(query, reference, rough, **self._how)

    @property
    def _how(self) -> dict[str, float]:
        config = self.correlation
        return {"piece": config.piece, "tempo_step": config.tempo_step, "seconds": config.contrast.seconds}

    def _verified(
        self, query: Features, references: Mapping[int, Features], found: Mapping[int, Explanation], *, share: float
    ) -> dict[int, Explanation]:
        """The best of what was found as the verifier believes them, and all in the new order."""
        config = self.correlation
        if self.verifier is None:
            return dict(found)

        def judged(number: int) -> Explanation:
            one = found[number]
            # As it is first traced: to judge what is traced finely says no more (docs/experiments.md).
            _, places = self._traced(query, references[number], one)
            if not places:
                return one  # nothing lies upon the query that could be believed
            odds = self.verifier.verdict(query, references[number], places, seconds=config.contrast.seconds)
            return replace(one, score=one.score * math.exp(config.trust * (odds - config.usual)))

        best = [n for n in list(found)[: config.judged(share)] if found[n].score > config.hopeless]
        with one_core_each() as pool:
            believed = {**found, **dict(zip(best, pool.map(judged, best), strict=True))}
        return dict(sorted(believed.items(), key=lambda item: -item[1].score))  # ties stay in order


def evidence(
    query: Features, references: Mapping[int, Features], config: Correlation, *, coarse: int = 1
) -> dict[int, tuple[float, Warp]]:
    """Score of each reference that is long enough, and the warp at which it is reached; `coarse` frames are as one."""
    numbers, peaks = search(query, references, config, coarse=coarse)
    return dict(zip(numbers, _best(surplus(peaks, config.surplus), config), strict=True)) if numbers else {}


def search(
    query: Features, references: Mapping[int, Features], config: Correlation, *, coarse: int = 1
) -> tuple[list[int], NDArray[np.float32]]:
    """Numbers of the references that hold a piece, and the highest cosine of each piece in each of them.

    (pieces, spans, tempi, transpositions, references); -1 where a span does not fit.
    """
    lines = Lines(config.tempi, max(config.piece // coarse, 1))
    frames = {number: coarsened(features, coarse) for number, features in sorted(references.items())}
    numbers = [number for number, held in frames.items() if len(held) >= lines.lengths.max()]
    mine = coarsened(query, coarse)
    if not numbers or len(mine) < lines.piece:
        return [], np.zeros((0, 0, 0, 0, 0), np.float32)
    asked = Asked(mine, config.transpositions, lines.piece)
    return numbers, highest(asked, [[frames[number]] for number in numbers], lines)


def coarsened(features: Features, count: int) -> Tensor:
    """(frames // count, bins): the means of so many consecutive frames, centred."""
    kept = features[: len(features) // count * count]
    return centred(kept.reshape(-1, count, features.shape[1]).mean(1, dtype=np.float32) if count > 1 else kept)


def surplus(peaks: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    """(pieces, spans, tempi, transpositions, references): robust standard deviations over the background less `least`.

    The background of a piece at one tempo is its median over transpositions and references; some references are near
    to everything, so each one's median is taken off as well, and one whose values lie wider than usual is measured by
    its own deviation: of those under its median, as a sample that fills a short query lifts the others. What is under
    `least` is 0.
    """
    there = np.where(peaks > -1, peaks, np.nan)
    missing = np.isnan(there).all(axis=(2, 3, 4))
    there[missing] = 0  # the last piece begins no span of two
    there = there - np.nanmedian(there, axis=(3, 4), keepdims=True)
    there -= np.nanmedian(there, axis=(0, 2, 3), keepdims=True)
    spread = np.nanmedian(np.abs(there), axis=(2, 3, 4), keepdims=True) * NOISE
    there /= np.maximum(spread, QUIETEST)
    there /= np.maximum(_widths(there), 1)
    over = np.nan_to_num(there, nan=0.0) - least
    return np.maximum(over, 0, dtype=np.float32) * ~missing[:, :, None, None, None]


def _widths(there: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, spans, 1, 1, references): how far a reference's values lie under its median, over the usual; 0: nowhere."""
    below = np.where(there < 0, -there, np.nan)
    nowhere = np.isnan(below).all(axis=(0, 2, 3), keepdims=True)
    wide = np.nanmedian(np.where(nowhere, 0, below), axis=(0, 2, 3), keepdims=True)
    return wide / np.median(wide[wide > 0]) if wide.any() else wide


def _best(over: NDArray[np.float32], config: Correlation) -> list[tuple[float, Warp]]:
    """Score of each reference, and tempo and transposition at which it is reached."""
    cells = np.square(over).sum(axis=(0, 1)) * config.belief[..., None]  # (tempi, transpositions, references)
    flat = cells.reshape(-1, cells.shape[2])
    tempi, transpositions = np.unravel_index(flat.argmax(0), cells.shape[:2])
    warps = (
        Warp(tempo_ratio=float(config.tempi[i]), transposition=float(config.transpositions[j]))
        for i, j in zip(tempi, transpositions, strict=True)
    )
    return [(float(score), warp) for score, warp in zip(flat.max(0), warps, strict=True)]


def _explanation(score: float, warp: Warp, found: tuple[Occurrence, ...] = ()) -> Explanation:
    return Explanation(score=score, tempo_ratio=warp.tempo_ratio, transposition=warp.transposition, occurrences=found)


def _require_features(tracks: Mapping[object, NDArray[np.uint8]]) -> None:
    bins = {t.shape[1] if t.ndim == 2 else None for t in tracks.values()}
    if len(bins) != 1 or None in bins or any(t.dtype != np.uint8 for t in tracks.values()):
        raise ValueError(
            f"features of {', '.join(sorted({f'{t.dtype}{list(t.shape)}' for t in tracks.values()}))}, expected uint8 "
            "(frames, bins) with as many bins each; make them all by encoder.contrast.features"
        )

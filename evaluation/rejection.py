"""Rejection: is the score of a query with the reference it samples told from that of music which samples nothing?

NeuralSampleID's study, as the paper means it: pairs of a 10 s query excerpt and a reference track; positives are
annotated excerpts with their reference, negatives excerpts of noise tracks with a reference; the measure is the AUROC
of the two sets of scores. The released script compared unlike things (noise instead of a reference track, one segment
against many, batch normalisation in training mode); here both sides have the same shape:

    score(query, reference) = mean over query segments of (max over all segments of the reference track)

Negatives are cut like positives (same format and length) and take their references from the positives', so that
neither the file nor a reference's length tells the sides apart. Excerpts of one track are alike: the interval is drawn
over tracks, not over excerpts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from encoder import audio
from encoder.encode import Encoder
from encoder.encoding import Encoding
from evaluation import bootstrap, cuts
from evaluation.benchmark import Benchmark, Query
from evaluation.cuts import Cut
from evaluation.metrics import auroc
from evaluation.results import full_query
from reranker.cross_attention import CrossAttention

COUNT = 300  # pairs of each kind (NeuralSampleID, section on rejection)
SECONDS = 10.0

Score = Callable[[Path, str], float]  # query file, reference id


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A query excerpt and a reference."""

    query: Path
    track: str  # the track the excerpt was cut from
    reference: str  # track id
    positive: bool  # whether the excerpt samples the reference


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """The AUROC with its 95 % interval over tracks, and of how many pairs."""

    auroc: float
    low: float
    high: float
    positives: int
    negatives: int
    positive_tracks: int
    negative_tracks: int
    shortfall: str  # which pairs there were too few of; "" where all were found

    def facts(self) -> dict[str, Any]:
        """For a summary; JSON-safe."""
        return asdict(self)


def pairs(
    benchmark: Benchmark,
    excerpts: Sequence[Query],
    directory: Path,
    *,
    count: int = COUNT,
    seconds: float = SECONDS,
    seed: int = 1,
) -> tuple[Pair, ...]:
    """Up to `count` pairs of either kind, by reference; the negatives' excerpts are cut into `directory`.

    `excerpts` are of `cuts.excerpts` or `sample100.excerpts`: those of `seconds` length are drawn from, each at most
    once. Noise tracks give one excerpt each; a second and further one, which does not overlap, only where there are
    fewer tracks than `count`. Where nothing can be drawn: ValueError.
    """
    rng = np.random.default_rng([seed, 30])
    positives = _positives([e for e in excerpts if e.excerpt == seconds and e.sampled], benchmark, count, rng)
    noise = _noise(benchmark, count, seconds, rng)
    if not positives or not noise:
        raise ValueError(
            f"rejection needs {seconds:g} s excerpts and noise tracks at least as long, got {len(positives)} and "
            f"{len(noise)}; cut excerpts of that length, add noise tracks"
        )
    queries = cuts.write(noise, directory)
    references = rng.permutation([pair.reference for pair in positives])
    negatives = [
        Pair(query=query.path, track=one.query.id, reference=str(references[number % len(references)]), positive=False)
        for number, (query, one) in enumerate(zip(queries, noise, strict=True))
    ]
    return tuple(sorted([*positives, *negatives], key=lambda p: (p.reference, p.query)))


def _positives(excerpts: Sequence[Query], benchmark: Benchmark, count: int, rng: np.random.Generator) -> list[Pair]:
    drawn = [excerpts[i] for i in sorted(rng.permutation(len(excerpts))[:count])]
    return [
        # The first sample of an excerpt is the one it was cut for.
        Pair(query=e.path, track=full_query(e, benchmark), reference=e.sampled[0].reference, positive=True)
        for e in drawn
    ]


def _noise(benchmark: Benchmark, count: int, seconds: float, rng: np.random.Generator) -> list[Cut]:
    """Excerpts of noise tracks, one of each track, then a second one of each ..."""
    slots: list[tuple[int, str, float]] = []  # round, track, start
    for track, path in sorted(benchmark.distractors.items()):
        duration = audio.info(path).duration
        room = int(duration // seconds)
        offset = rng.uniform(0.0, duration - room * seconds)
        slots += [(turn, track, offset + slot * seconds) for turn, slot in enumerate(rng.permutation(room))]
    order = sorted(rng.permutation(len(slots)), key=lambda i: slots[i][0])[:count]
    queries = {track: Query(id=track, path=path) for track, path in benchmark.distractors.items()}
    return [
        Cut(id=f"{slots[i][1]}-{slots[i][0] + 1:03d}-{seconds:g}s", query=queries[slots[i][1]], start=slots[i][2],
            seconds=seconds, sampled=())
        for i in order
    ]  # fmt: skip


def study(
    pairs: Sequence[Pair],
    score: Score,
    *,
    count: int = COUNT,
    seed: int = 1,
    progress: cuts.Progress | None = None,
) -> Rejection:
    """Score every pair and compare the two kinds; a silent excerpt scores -inf (`mean_of_maxima`)."""
    scores = np.empty(len(pairs))
    for number, pair in enumerate(pairs):
        scores[number] = score(pair.query, pair.reference)
        if progress is not None:
            progress(pair.query.stem, number + 1, len(pairs))
    return measure(pairs, scores, count=count, seed=seed)


def measure(pairs: Sequence[Pair], scores: ArrayLike, *, count: int = COUNT, seed: int = 1) -> Rejection:
    """The result for scores that belong to the pairs by position."""
    scores = np.asarray(scores, float)
    if len(scores) != len(pairs) or np.isnan(scores).any():
        raise ValueError(f"{len(scores)} scores for {len(pairs)} pairs, expected one each and none NaN")
    positive = np.array([pair.positive for pair in pairs], bool)
    tracks = np.array([pair.track for pair in pairs])
    counts = bootstrap.draw(positive, seed=seed, groups=tracks)
    drawn = auroc(scores[positive], scores[~positive], counts[:, positive], counts[:, ~positive])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Rejection(
        auroc=float(auroc(scores[positive], scores[~positive])),
        low=float(low),
        high=float(high),
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        positive_tracks=len(set(tracks[positive])),
        negative_tracks=len(set(tracks[~positive])),
        shortfall=_shortfall(positive, tracks, count),
    )


def _shortfall(positive: NDArray[np.bool_], tracks: NDArray[np.str_], count: int) -> str:
    lacking = [
        f"{found} {kind} pairs in place of {count}"
        for kind, found in (("positive", int(positive.sum())), ("negative", int((~positive).sum())))
        if found < count
    ]
    noise, excerpts = len(set(tracks[~positive])), int((~positive).sum())
    if noise < excerpts:
        lacking.append(f"{excerpts} excerpts of only {noise} noise tracks")
    return "; ".join(lacking)


def mean_of_maxima(scores: NDArray[np.floating]) -> float:
    """(query segments, reference segments) -> mean over query segments of the best reference segment.

    -inf where either has no segments (silence): nothing speaks for a sample.
    """
    return float(scores.max(axis=1).mean()) if scores.size else float("-inf")


class Comparison:
    """A trained system as a `Score`: encoder and cross-attention, or similarities alone without a classifier.

    Refuses networks in training mode, whose batch normalisation and dropout would make scores depend on each other.
    """

    def __init__(self, encoder: Encoder, classifier: CrossAttention | None, references: Mapping[str, Path]) -> None:
        for name, network in (("encoder", encoder.network), ("classifier", classifier)):
            if network is not None and network.training:
                raise ValueError(f"rejection: the {name} is in training mode, expected eval(); call {name}.eval()")
        self.encoder, self.classifier = encoder, classifier
        # Pairs come by reference, so that one encoded track is enough; a long one holds tens of megabytes.
        self._reference = lru_cache(maxsize=1)(lambda track: encoder.encode(references[track]))

    @torch.inference_mode()
    def __call__(self, query: Path, reference: str) -> float:
        """Mean over the query's segments of the best score with any segment of the reference; raises AudioError."""
        return mean_of_maxima(self._scores(self.encoder.encode(query), self._reference(reference)))

    def _scores(self, query: Encoding, reference: Encoding) -> NDArray[np.floating]:
        if not (len(query) and len(reference)):
            return np.zeros((len(query), 0))
        device, network = self.encoder.device, self.encoder.network
        mine, theirs = (torch.from_numpy(e.node_matrices).to(device).float() for e in (query, reference))
        similarities = network.fingerprints(mine) @ network.fingerprints(theirs).T
        if self.classifier is None:
            return similarities.cpu().numpy()
        return self.classifier.scores(mine, theirs, similarities=similarities).cpu().numpy()

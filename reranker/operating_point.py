"""Operating point: how high must the bar be so that queries that sample nothing are seldom answered?

A query meets thousands of wrong pairs and keeps the best, so a classifier trained on one right pair in four answers
"found" to nearly everything. Half of the artists of the validation split become a catalogue, excerpts of the other
half the queries, then the other way round: whatever is found is a false alarm. The bias is moved so that a stated
share of these queries is answered with a match under the rule of reranker/rank.py: candidates of a score of 0.5 or
more count, and a reference needs a certain sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.encode import Encoder
from encoder.training.resampled import at_rate
from encoder.training.stem_cache import StemCache, StemTrack
from reranker.cross_attention import CrossAttention

_QUERY = 40  # segments of a query: 20 s, compared with the whole other half
_MOST_QUERIES = 120  # in both halves together; each costs about half a CPU-second


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One encoded validation track."""

    group: str
    fingerprints: Tensor  # (segments, dimensions)
    node_matrices: Tensor  # (segments, nodes, channels), float16


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The logit that must become 0 for a stated share of sample-free queries to be answered with a match."""

    logit: float
    false_alarms: float  # share of the queries
    queries: int
    segments: int  # of the catalogue each query met, on average


def recordings(cache: StemCache, encoder: Encoder, *, split: str) -> list[Recording]:
    """The mixes of all tracks of the split that last a query or longer, encoded."""
    long_enough = (_QUERY * encoder.grid.step + encoder.grid.frames) * encoder.grid.frame_hop
    cache = at_rate(cache, encoder.grid.sample_rate)
    return [_encoded(cache, encoder, t) for t in cache.tracks if t.split == split and t.length >= long_enough]


def find(
    catalogue: list[Recording], classifier: CrossAttention, *, candidates: int, false_alarms: float, minimum: float
) -> OperatingPoint:
    """The operating point on these recordings; ValueError where they are of fewer than two artists."""
    groups = sorted({r.group for r in catalogue})
    if len(groups) < 2:
        raise ValueError(f"the validation split has {len(groups)} artists of long tracks, expected at least 2")
    even = set(groups[::2])
    halves = [r for r in catalogue if r.group in even], [r for r in catalogue if r.group not in even]
    searches = [
        _searched(query, _joined(references), classifier, candidates)
        for references, queries in (halves, halves[::-1])
        for query in _spread(list(_queries(queries)), _MOST_QUERIES // 2)
    ]
    return OperatingPoint(
        logit=_bar(searches, false_alarms, minimum),
        false_alarms=false_alarms,
        queries=len(searches),
        segments=round(float(np.mean([s.segments for s in searches]))),
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The candidates of one query: the best logit of each, and whose they are."""

    logits: NDArray[np.float64]  # (candidates,)
    owners: NDArray[np.int64]  # (candidates,) number of the recording
    segments: int  # of the catalogue searched


def _bar(searches: list[_Search], false_alarms: float, minimum: float) -> float:
    """The lowest logit at which no more than that share of the searches is answered with a match, to 0.001."""
    low, high = -25.0, 25.0  # logits are held within 20.03
    while high - low > 1e-3:
        middle = (low + high) / 2
        share = np.mean([_answered(search, middle, minimum) for search in searches])
        low, high = (middle, high) if share > false_alarms else (low, middle)
    return high


def _answered(search: _Search, bar: float, minimum: float) -> bool:
    """Whether a reference reaches the sum when the classifier's logit `bar` counts as 0."""
    scores = 1 / (1 + np.exp(bar - search.logits))
    totals = np.bincount(search.owners, np.where(scores >= 0.5, scores, 0.0))
    return bool(totals.max() >= minimum)


def _encoded(cache: StemCache, encoder: Encoder, track: StemTrack) -> Recording:
    encoding = encoder.encode_waveform(cache.read(track, 0, track.length).sum(axis=0))
    return Recording(
        group=track.group,
        fingerprints=torch.from_numpy(encoding.fingerprints),
        node_matrices=torch.from_numpy(encoding.node_matrices),
    )


def _queries(tracks: list[Recording]) -> Iterator[tuple[Tensor, Tensor]]:
    """Consecutive excerpts of every track: (fingerprints, node matrices)."""
    for track in tracks:
        for start in range(0, len(track.fingerprints) - _QUERY + 1, _QUERY):
            yield track.fingerprints[start : start + _QUERY], track.node_matrices[start : start + _QUERY]


def _spread(items: list, count: int) -> list:
    """At most `count` of the items, evenly spaced."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def _joined(recordings: list[Recording]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Fingerprints and node matrices of all recordings, and the number of the recording of each segment."""
    owners = np.repeat(np.arange(len(recordings)), [len(r.fingerprints) for r in recordings])
    return torch.cat([r.fingerprints for r in recordings]), torch.cat([r.node_matrices for r in recordings]), owners


def _searched(query: tuple[Tensor, Tensor], references, classifier: CrossAttention, candidates: int) -> _Search:
    """Every candidate with its best logit over the query segments, as a search would see it."""
    (mine, matrices), (fingerprints, nodes, owners) = query, references
    found = (mine @ fingerprints.T).topk(min(candidates, len(fingerprints)), dim=1).indices.unique()
    similarities = mine @ fingerprints[found].T
    best = logits(classifier, matrices.float(), nodes[found].float(), similarities).amax(dim=0)
    return _Search(logits=best.cpu().numpy(), owners=owners[found.numpy()], segments=len(fingerprints))


def logits(classifier: CrossAttention, queries: Tensor, references: Tensor, similarities: Tensor) -> Tensor:
    """(queries, references); scores too close to 0 or 1 are held at +-20."""
    device = classifier.positions.device
    queries, references, similarities = (x.to(device) for x in (queries, references, similarities))
    with torch.no_grad():
        return classifier.scores(queries, references, similarities=similarities).double().logit(eps=2e-9)

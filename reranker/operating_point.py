"""Operating point: which logit do queries that sample nothing reach? Moves the classifier's 0.5 there.

A query meets thousands of wrong pairs and keeps the best, so a classifier trained on one right pair in four answers
"found" to nearly everything. Half of the artists of the validation split become a catalogue, excerpts of the other
half the queries, then the other way round: whatever is found is a false alarm. The bias is moved so that a stated
share of these queries has a candidate that scores 0.5 or more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.encode import Encoder
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
    """The logit at which a stated share of sample-free queries raises a false alarm."""

    logit: float
    false_alarms: float  # share of the queries
    queries: int
    segments: int  # of the catalogue each query met, on average


def recordings(cache: StemCache, encoder: Encoder, *, split: str) -> list[Recording]:
    """The mixes of all tracks of the split that last a query or longer, encoded."""
    long_enough = (_QUERY * encoder.grid.step + encoder.grid.frames) * encoder.grid.frame_hop
    return [_encoded(cache, encoder, t) for t in cache.tracks if t.split == split and t.length >= long_enough]


def find(
    catalogue: list[Recording], classifier: CrossAttention, *, candidates: int, false_alarms: float
) -> OperatingPoint:
    """The operating point on these recordings; ValueError where they are of fewer than two artists."""
    groups = sorted({r.group for r in catalogue})
    if len(groups) < 2:
        raise ValueError(f"the validation split has {len(groups)} artists of long tracks, expected at least 2")
    even = set(groups[::2])
    halves = [r for r in catalogue if r.group in even], [r for r in catalogue if r.group not in even]
    best, sizes = [], []
    for references, queries in (halves, halves[::-1]):
        fingerprints = torch.cat([r.fingerprints for r in references])
        nodes = torch.cat([r.node_matrices for r in references])
        for query in _spread(list(_queries(queries)), _MOST_QUERIES // 2):
            best.append(_best(query, fingerprints, nodes, classifier, candidates))
            sizes.append(len(nodes))
    logit = float(np.quantile(best, 1 - false_alarms))
    return OperatingPoint(
        logit=logit, false_alarms=false_alarms, queries=len(best), segments=round(float(np.mean(sizes)))
    )


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


def _best(
    query: tuple[Tensor, Tensor], fingerprints: Tensor, nodes: Tensor, classifier: CrossAttention, candidates: int
) -> float:
    """The highest logit of any query segment against any candidate, as a search would see it."""
    mine, matrices = query
    found = (mine @ fingerprints.T).topk(min(candidates, len(fingerprints)), dim=1).indices.unique()
    similarities = mine @ fingerprints[found].T
    return float(logits(classifier, matrices.float(), nodes[found].float(), similarities).max())


def logits(classifier: CrossAttention, queries: Tensor, references: Tensor, similarities: Tensor) -> Tensor:
    """(queries, references); scores too close to 0 or 1 are held at +-20."""
    device = classifier.positions.device
    queries, references, similarities = (x.to(device) for x in (queries, references, similarities))
    with torch.no_grad():
        return classifier.scores(queries, references, similarities=similarities).double().logit(eps=2e-9)

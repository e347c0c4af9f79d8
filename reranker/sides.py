"""Sides: both views of a batch of pairs, encoded, and how well scores tell the true pairs from the wrong ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from encoder.encode import Encoder
from encoder.training import augment
from encoder.training.augment import Views
from encoder.training.pairs import PairBatch
from reranker import operating_point
from reranker.cross_attention import CrossAttention


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both views of a batch of pairs, encoded."""

    queries: Tensor  # node matrices (pairs, nodes, channels)
    references: Tensor  # likewise
    query_fingerprints: Tensor  # (pairs, dimensions)
    reference_fingerprints: Tensor
    tracks: Tensor  # (pairs,)

    @property
    def similarities(self) -> Tensor:
        """Inner products of all fingerprints (queries, references)."""
        return self.query_fingerprints @ self.reference_fingerprints.T


def encoded(batch: PairBatch, encoder: Encoder) -> Sides:
    """Both views of the pairs through the frozen encoder."""
    return of_views(augment.views(batch, encoder.front_end, encoder.grid), encoder)


def of_views(views: Views, encoder: Encoder) -> Sides:
    """Both views through the encoder, as it is."""
    with torch.inference_mode():
        parts = [encoder.network(part) for side in views[:2] for part in side.split(64)]
    nodes, fingerprints = (torch.cat(kind).float().clone() for kind in zip(*parts, strict=True))
    half = len(views.tracks)
    return Sides(
        references=nodes[:half],
        queries=nodes[half:],
        reference_fingerprints=fingerprints[:half],
        query_fingerprints=fingerprints[half:],
        tracks=views.tracks,
    )


def logits(classifier: CrossAttention, sides: Sides) -> Tensor:
    """Logits (queries, references) of all pairs."""
    classifier.eval()
    return operating_point.logits(classifier, sides.queries, sides.references, sides.similarities)


def auroc(scores: Tensor, tracks: Tensor) -> float:
    """Share of (true, wrong) pairs in which the true one scores higher; scores are (queries, references)."""
    wrong = scores[tracks.unsqueeze(1) != tracks.unsqueeze(0)].sort().values
    below = torch.searchsorted(wrong, scores.diagonal().contiguous())
    ties = torch.searchsorted(wrong, scores.diagonal().contiguous(), right=True) - below
    return ((below + ties / 2) / len(wrong)).mean().item()


def first(scores: Tensor) -> float:
    """Share of queries whose true reference scores strictly highest."""
    return ((scores >= scores.diagonal().unsqueeze(1)).sum(1) == 1).float().mean().item()

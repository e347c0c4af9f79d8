"""Classes: the joint objective of ResNet-IBN, classification of tracks and a triplet margin on similarities.

    beta * cross-entropy(class of a view) + gamma * max(0, negative similarity - positive similarity + margin)

Both views of a pair belong to the class of their track; class vectors are unit vectors, and logits are cosines, as in
the reference, or cosines times `scale`. The triplet term is the mean over all triplets that still violate the margin
(Hermans et al., 2017). The released code has the similarities exchanged, so that a step drives positives apart; a test
shows both. The class vectors serve training only and are no part of a checkpoint.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # imported late, so that a configuration stays light
    from encoder.training.augment import Views


@dataclass(frozen=True, kw_only=True)
class ClassObjective:
    """Weights of the two terms; the defaults are the released ones (scale 1: cosines as logits)."""

    beta: float = 0.3  # of the cross-entropy
    gamma: float = 0.7  # of the triplets
    margin: float = 0.3
    scale: float = 1.0  # of the cosines; with 1 the cross-entropy of many classes can hardly fall

    def __post_init__(self) -> None:
        for name in ("beta", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"objective: {name} is {getattr(self, name)}, expected 0 or more")
        if not self.beta + self.gamma:
            raise ValueError("objective: beta and gamma are 0, expected one of them above 0")
        if not 0 <= self.margin <= 2 or self.scale <= 0:
            raise ValueError(
                f"objective: margin {self.margin} and scale {self.scale}, expected a margin from 0 to 2 (similarities "
                "lie in -1 to 1) and a scale above 0"
            )

    def head(self, *, dimensions: int, classes: int) -> nn.Linear:
        """The class vectors, random at first."""
        return nn.Linear(dimensions, classes, bias=False)

    def __call__(self, references: Tensor, queries: Tensor, views: "Views", head: nn.Linear) -> Tensor:
        """Loss of both views of a batch, (pairs, dimensions) each, L2-normalised."""
        both, classes = torch.cat([references, queries]), views.tracks.repeat(2)
        logits = both @ F.normalize(head.weight, dim=1).T * self.scale
        similarities = queries @ references.T
        positive = similarities.diagonal().unsqueeze(1).expand_as(similarities)[_others(views)]
        triplets = triplet(positive, similarities[_others(views)], margin=self.margin)
        return self.beta * F.cross_entropy(logits, classes) + self.gamma * triplets


def triplet(positive: Tensor, negative: Tensor, *, margin: float) -> Tensor:
    """Mean of ``max(0, negative - positive + margin)`` over the triplets where it is not 0; 0 where there is none.

    Both are similarities, row by row of one triplet. (As released: the same with the two exchanged.)
    """
    violations = F.relu(negative - positive + margin)
    return violations.sum() / (violations > 0).sum().clamp(min=1)


def _others(views: "Views") -> Tensor:
    """(queries, references) whether the reference shows another track than the query and than what lies over it."""
    other = views.tracks.unsqueeze(1) != views.tracks
    if views.covers is None:
        return other
    return other & (views.covers.unsqueeze(2) != views.tracks).all(dim=1)

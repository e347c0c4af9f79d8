"""Version loss: shingle embeddings of a batch of tracks -> how far versions are apart, how close everything else is.

With D+ the reduced distances of pairs of tracks of one work (A+), D- those of pairs of different works (A-), both in
both orders (Serrà et al., ICML 2025, section 3.3 and appendix A.2):

    align = mean over A+ of D+        uniform = log(e + mean over A- of exp(-gamma D-)) - log(e)

Distances are mean squared differences and not squared again, as in the released code. A track drawn twice is neither in
A+ nor in A- with itself. A batch of one work has no A-; its uniformity is 0 (released: two labels are overwritten, in
place, so that two tracks count as foreign).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder import reductions


class VersionLoss(NamedTuple):
    """Both terms, of which the loss is the sum."""

    align: Tensor
    uniform: Tensor  # 0 to -log(epsilon)

    @property
    def total(self) -> Tensor:
        return self.align + self.uniform


def version_loss(
    embeddings: Tensor,
    works: Tensor,
    tracks: Tensor,
    *,
    positive: str = "bpwr-5",
    negative: str = "min",
    gamma: float = 5.0,
    epsilon: float = 1e-6,
) -> VersionLoss:
    """Loss of embeddings (batch, shingles, dimensions), with the work and the track number of each item (batch,)."""
    count, shingles, _ = embeddings.shape
    flat = embeddings.flatten(0, 1)
    distances = reductions.mean_squared_differences(flat, flat)  # (batch * shingles, batch * shingles)
    distances = distances.unflatten(1, (count, shingles)).unflatten(0, (count, shingles)).transpose(1, 2)
    return loss_of_reduced(
        reductions.reduce(distances, positive), reductions.reduce(distances, negative), works, tracks,
        gamma=gamma, epsilon=epsilon,
    )  # fmt: skip


def loss_of_reduced(
    near: Tensor, far: Tensor, works: Tensor, tracks: Tensor, *, gamma: float = 5.0, epsilon: float = 1e-6
) -> VersionLoss:
    """Loss of distances between tracks (batch, batch), reduced as for versions (near) and for other works (far)."""
    same = works.unsqueeze(0) == works.unsqueeze(1)
    versions, foreign = same & (tracks.unsqueeze(0) != tracks.unsqueeze(1)), ~same
    align = near[versions].mean() if versions.any() else near.sum() * 0
    if not foreign.any():
        return VersionLoss(align, far.sum() * 0)
    # log(e + m) - log(e) = softplus(log m - log e): exact where the mean m is far below e, and where it underflows.
    closeness = torch.logsumexp(-gamma * far[foreign], dim=0) - math.log(int(foreign.sum()))
    return VersionLoss(align, F.softplus(closeness - math.log(epsilon)))

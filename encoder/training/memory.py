"""Memory: views of the steps before, which serve as further negatives of a batch (XBM; Wang et al., CVPR 2020).

A step compares a batch with itself, so its memory bounds the number of negatives. Fingerprints change little from step
to step: those of the last few steps tell a network as much about what it confuses, and cost one product of matrices.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.training.mixing import NOBODY


class Remembered(NamedTuple):
    """Views without a gradient; rows whose first track is NOBODY hold nothing yet."""

    fingerprints: Tensor  # (views, dimensions)
    shown: Tensor  # (views, tracks) the track a view is of, then those that lie over it; NOBODY for none


def shown(tracks: Tensor, covers: Tensor | None) -> Tensor:
    """What the views of a batch of pairs show, references first, (2 pairs, 1 or 1 + interferers)."""
    own = tracks.unsqueeze(1)
    if covers is None:
        return own.repeat(2, 1)
    return torch.cat([F.pad(own, (0, covers.shape[1]), value=NOBODY), torch.cat([own, covers], dim=1)])


def nothing_new(views: Tensor, remembered: Remembered) -> Tensor:
    """(views, remembered) whether one of what a view shows is shown by what is remembered, or nothing is."""
    empty = remembered.shown[:, 0] == NOBODY
    alike = empty.expand(len(views), -1).clone()
    for track in views.T.unsqueeze(2):  # one of (views, 1)
        for other in remembered.shown.T:
            alike |= (track == other) & (track != NOBODY)
    return alike


class Memory(nn.Module):
    """The last so many views; a module, so that a training's state keeps it."""

    def __init__(self, views: int, dimensions: int, *, tracks: int) -> None:
        super().__init__()
        self.register_buffer("fingerprints", torch.zeros(views, dimensions))
        self.register_buffer("shown", torch.full((views, tracks), NOBODY))

    def recalled(self) -> Remembered | None:
        """What is remembered; None where there is no room for anything."""
        return Remembered(self.fingerprints, self.shown) if len(self.shown) else None

    @torch.no_grad()
    def take(self, fingerprints: Tensor, shown: Tensor) -> None:
        """Remember the views of a step in place of the oldest."""
        size = len(self.shown)  # new tensors: a gradient may yet need those that were recalled
        self.fingerprints = torch.cat([fingerprints.to(self.fingerprints), self.fingerprints])[:size]
        self.shown = torch.cat([shown, self.shown])[:size]

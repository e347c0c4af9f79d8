"""IBN and GeM: what convolutional networks (CLEWS, ResNet-IBN, the early stages of encoder/gnn.py) share.

IBN (Pan et al., ECCV 2018) normalises one half of the channels per instance, which forgets level and colour of the
recording, and the other half over the batch. Generalised mean pooling (Radenovic et al., TPAMI 2018) lies between the
mean (p = 1) and the maximum (p to infinity).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HalfInstanceNorm(nn.Module):
    """(batch, channels, frequency, time): one half with instance norm, the other with batch norm, both affine.

    `first` says which half comes first: "batch" in CLEWS, "instance" in IBN-Net and the released ResNet-IBN.
    """

    def __init__(self, channels: int, *, first: Literal["batch", "instance"]) -> None:
        super().__init__()
        if first not in ("batch", "instance"):
            raise ValueError(f"IBN: first is {first!r}, expected 'batch' or 'instance'")
        if channels < 2:
            raise ValueError(f"IBN: channels is {channels}, expected at least 2, one a half")
        self.first, half = first, channels // 2
        in_batch = half if first == "batch" else channels - half
        self.batch = nn.BatchNorm2d(in_batch)
        self.instance = nn.InstanceNorm2d(channels - in_batch, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        norms = (self.batch, self.instance) if self.first == "batch" else (self.instance, self.batch)
        halves = x.split([norm.num_features for norm in norms], dim=1)
        return torch.cat([norm(half) for norm, half in zip(norms, halves, strict=True)], dim=1)


class GeneralisedMean(nn.Module):
    """(batch, channels, ...) -> (batch, channels): p-th root of the mean of p-th powers, one p for all channels.

    The exponent starts at `exponent` and is learnt: as itself, or, with `above_one`, as 1 + softplus(theta), which no
    step can bring to 1 or below (CLEWS).
    """

    def __init__(self, *, exponent: float = 3.0, above_one: bool = False, floor: float = 1e-6) -> None:
        super().__init__()
        if exponent <= above_one:
            raise ValueError(f"GeM: exponent is {exponent}, expected more than {int(above_one)}")
        self.above_one, self.floor = above_one, floor
        start = math.log(math.expm1(exponent - 1)) if above_one else exponent
        self.theta = nn.Parameter(torch.tensor([start]))

    @property
    def exponent(self) -> Tensor:
        """p, (1,)."""
        return 1 + F.softplus(self.theta) if self.above_one else self.theta

    def forward(self, x: Tensor) -> Tensor:
        p = self.exponent
        return x.flatten(2).clamp(min=self.floor).pow(p).mean(dim=2).pow(1 / p)

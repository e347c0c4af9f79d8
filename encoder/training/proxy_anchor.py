"""Proxy-Anchor loss (Kim et al., CVPR 2020): each class has a learned proxy that its sounds are drawn to.

    L = 1/|P+| sum_{p in P+} log(1 + sum_{x in p} exp(-alpha (s(x, p) - delta)))
      + 1/|P|  sum_{p in P}  log(1 + sum_{x not in p} exp(alpha (s(x, p) + delta)))

s is the cosine, P all proxies, P+ those with a sound in the batch. The loss is the one of pytorch-metric-learning. It
normalises embeddings for itself; who compares them afterwards may leave them as they are.
"""

import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from torch import nn

from encoder.training.sound_schedule import SoundSchedule


def loss(schedule: SoundSchedule, *, classes: int, channels: int) -> nn.Module:
    """The loss with its proxies (classes, channels): called with embeddings and labels from 0 to classes - 1."""
    return ProxyAnchorLoss(classes, channels, margin=schedule.margin, alpha=schedule.alpha)


def optimiser(network: nn.Module, proxies: nn.Module, schedule: SoundSchedule) -> torch.optim.Optimizer:
    """AdamW over network and proxies; what never gets a gradient is never touched."""
    parameters = [*network.parameters(), *proxies.parameters()]
    return torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)


def falling(optimiser: torch.optim.Optimizer, schedule: SoundSchedule) -> torch.optim.lr_scheduler.LRScheduler:
    """The rate falls to `decay` every `step` epochs."""
    return torch.optim.lr_scheduler.StepLR(optimiser, schedule.step, schedule.decay)

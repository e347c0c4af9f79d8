"""Initial: a system with the random weights that its training begins with, to measure what training adds."""

from pathlib import Path

import torch
from torch import nn

from encoder import checkpoint
from encoder.systems import System


def network(system: System) -> nn.Module:
    """The network under the seed of the system's schedule, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(system.schedule.seed)
        return system.build().eval()


def save(system: System, path: Path) -> Path:
    """Write it as a checkpoint, in full precision; returns its path."""
    checkpoint.save(path, system, network(system), provenance={"untrained": system.schedule.seed}, half=False)
    return path

"""Held out: pairs of artists that training never saw, other ones than those that it chooses its weights by."""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder import checkpoint
from encoder.systems import KINDS, System
from encoder.training import augment, train
from encoder.training.makers import pairs_of
from encoder.training.stem_cache import StemCache

PAIRS, BATCH, SEED = 1024, 128, 8_000_000
RESAMPLES = 2000

Sides = tuple[Tensor, Tensor]  # reference and query views, (PAIRS, bins, frames) each


def views(cache: StemCache, made_by: System) -> Sides:
    """Pairs of the split `validation`, made as the system's own are, each mixed once."""
    maker = pairs_of(cache, made_by, split="validation", seed=SEED, pairing=made_by.pairing.unseen)
    front_end = made_by.spectra()
    batches = [augment.views(maker.batch(n, BATCH), front_end, made_by.grid) for n in range(PAIRS // BATCH)]
    return torch.cat([b.references for b in batches]), torch.cat([b.queries for b in batches])


def trained(cache: StemCache, system: System, out: Path) -> nn.Module:
    """The network of the run in `out`, trained as far as it is not."""
    for record in train.train(cache, system, out):
        print(out.name, record, file=sys.stderr, flush=True)
    return checkpoint.load(out / train.FILE, *KINDS).restore(system.build())


@torch.inference_mode()
def ranks(network: nn.Module, sides: Sides) -> NDArray[np.int64]:
    """Place of the right reference view among all, for each query view; ties count against us."""
    references, queries = (torch.cat([network(p).fingerprints for p in side.split(64)]) for side in sides)
    similarities = queries @ references.T
    return (similarities >= similarities.diagonal().unsqueeze(1)).sum(1).numpy()


def interval(differences: NDArray[np.float64], seed: int = 1) -> tuple[float, float]:
    """95 % interval of the mean of (seeds, pairs): both are drawn anew, for another training gives other weights."""
    random = np.random.default_rng(seed)
    seeds, pairs = differences.shape
    drawn = [
        differences[random.integers(0, seeds, seeds)][:, random.integers(0, pairs, pairs)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)

"""Train a sound network: features and labels of many sounds -> Proxy-Anchor loss -> weights, one record per epoch.

Every batch is one graph (encoder/adaptive_graph.py). Each epoch draws its batches and drops its paths from a random
state of its own, so a run that was killed and resumed ends where an uninterrupted one does. A run has a network of its
own from the start: a fold that went on from the weights of another one would have been trained on its own test sounds.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder import checkpoint
from encoder.adaptive_graph import AdaptiveGraph, SoundNetwork
from encoder.systems import System
from encoder.training import proxy_anchor, state
from encoder.training.schedule import diverged
from encoder.training.sound_schedule import SoundSchedule

FILE = "encoder.safetensors"


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is learned from: rows belong together."""

    features: NDArray[np.float32]  # (sounds, bins)
    labels: NDArray[np.int64]  # (sounds,), any numbers

    def __post_init__(self) -> None:
        if len(self.features) != len(self.labels):
            raise ValueError(f"{len(self.features)} features for {len(self.labels)} labels, expected as many")
        if len(np.unique(self.labels)) < 2:
            raise ValueError(f"all {len(self.labels)} sounds have one label, expected two labels or more")
        if not np.isfinite(self.features).all():
            raise ValueError("features hold NaN or infinity, expected finite ones; compute them anew")

    def pick(self, rows: NDArray[np.int64]) -> "Material":
        """Only these sounds."""
        return Material(features=self.features[rows], labels=self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did."""

    epoch: int  # from 1
    loss: float  # mean of the epoch's batches
    learning_rate: float
    seconds: float


class Training:
    """One network in the making, from its first weights on; `network` is it."""

    def __init__(
        self,
        material: Material,
        network: AdaptiveGraph,
        schedule: SoundSchedule,
        *,
        standard: NDArray[np.float32] | None = None,
        out: Path | None = None,
        device: str = "cpu",
    ) -> None:
        """Features are standardised by those of `standard`, or by the material itself; ValueError for too few sounds.

        `out` is where the state is kept after each epoch; None: nowhere.
        """
        if len(material.labels) < 2:
            raise ValueError(f"{len(material.labels)} sounds to train on, expected 2 or more")
        self.config, self.schedule, self.out, self.device = network, schedule, out, torch.device(device)
        self.epoch, self.history = 0, []
        classes, labels = np.unique(material.labels, return_inverse=True)
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            self.network: SoundNetwork = network.build(bins=material.features.shape[1], frames=1).to(self.device)
            width = dict(classes=len(classes), channels=material.features.shape[1])
            self.loss = proxy_anchor.loss(schedule, **width).to(self.device)
        self.network.fit(torch.from_numpy(material.features if standard is None else standard).to(self.device))
        self.features = self.network.standardised(torch.from_numpy(material.features).to(self.device))
        self.labels = torch.from_numpy(labels).to(self.device)
        self.optimiser = proxy_anchor.optimiser(self.network, self.loss, schedule)
        self.falling = proxy_anchor.falling(self.optimiser, schedule)

    def __iter__(self) -> Iterator[Epoch]:
        """Train until the schedule's last epoch, one record per epoch; the network is in eval mode afterwards."""
        while self.epoch < self.schedule.epochs:
            yield self.advance()
        self.network.eval()

    def advance(self) -> Epoch:
        """One epoch."""
        began, rate = time.perf_counter(), self.falling.get_last_lr()[0]
        self.network.train()
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.schedule.seed, self.epoch)) % 2**31)
            losses = [self._step(rows) for rows in self._batches()]
        self.falling.step()
        self.epoch += 1
        mean = float(torch.stack(losses).mean())
        record = Epoch(epoch=self.epoch, loss=mean, learning_rate=rate, seconds=time.perf_counter() - began)
        self.history.append(asdict(record))
        if not np.isfinite(mean):
            raise diverged(mean, f"in epoch {self.epoch}")
        if self.out is not None:
            state.save(self.out, self._settings(), self._state())
        return record

    def restore(self) -> None:
        """Continue from the kept state, if there is one; ValueError where it belongs to other settings."""
        kept = None if self.out is None else state.load(self.out, self._settings())
        if kept is None:
            return
        for name in ("network", "loss", "optimiser", "falling"):
            getattr(self, name).load_state_dict(kept[name])
        self.epoch, self.history = kept["epoch"], kept["history"]

    def _batches(self) -> list[Tensor]:
        """The sounds in a random order, cut into batches; a last one of a single sound joins the one before it."""
        order = torch.randperm(len(self.labels), device=self.device)
        batches = list(order.split(self.schedule.batch))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _step(self, rows: Tensor) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.network.embed(self.features[rows]), self.labels[rows])
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _settings(self) -> dict[str, Any]:
        """What must be the same on resumption; more epochs may be asked for."""
        schedule = {**checkpoint.to_plain(self.schedule), "epochs": 0}
        sounds = [len(self.labels), float(self.features.double().sum()), int(self.labels.sum())]
        return {"network": checkpoint.to_plain(self.config), "schedule": schedule, "sounds": sounds}

    def _state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("network", "loss", "optimiser", "falling")}
        return {**parts, "epoch": self.epoch, "history": self.history}


def train(
    material: Material, system: System, out: Path, *, data: dict[str, Any], device: str = "cpu", resume: bool = True
) -> Iterator[Epoch]:
    """Train the network of `system`, one record per epoch, and write out/encoder.safetensors at the end.

    `data` says in the checkpoint what was learned from. Resumes from the state kept in `out` where `resume` is on.
    """
    run = Training(material, system.network, system.schedule, out=out, device=device)
    if resume:
        run.restore()
    yield from run
    facts = dict(history=run.history[-1:], data=data, seed=system.schedule.seed, device=device, torch=torch.__version__)
    checkpoint.save(out / FILE, system, run.network, provenance=facts)

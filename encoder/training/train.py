"""Train an encoder: pairs from the stem cache -> contrastive or class loss -> checkpoint, one record per epoch.

The loop is a generator; who iterates shows progress, stops it, or runs it as a flow. Step n always sees the same mix
of the same batch of the seed (batch n, where a batch is mixed once) under the random state of step n, so a run that was
killed and resumed ends where an uninterrupted one does: with one lane. Several draw from that state, and add gradients,
in the order in which their threads come; no two such runs are the same to the last bit, and with drop_path they drop
other paths. Validation is mixed as waveforms, at the last level of the curriculum.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder import checkpoint
from encoder.systems import KINDS, SYSTEMS, System
from encoder.training import augment, losses
from encoder.training.makers import pairs_of
from encoder.training.run import Run, mixed
from encoder.training.schedule import Schedule, diverged, rate, refuse_unread
from encoder.training.stem_cache import StemCache

FILE = "encoder.safetensors"
_VALIDATION_SEED = 7_000_000  # far from any training seed; fixed, so that runs compare


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did; figures of the validation split, whose artists training never sees."""

    epoch: int  # from 1
    pairs: int  # seen so far
    loss: float  # mean of the epoch
    learning_rate: float
    hit_rate_1: float  # query view finds its reference view first among all validation pairs
    hit_rate_10: float
    best: bool
    pairs_per_second: float  # of this epoch, validation left out
    seconds: float


def train(
    cache: StemCache,
    system: System,
    out: Path,
    *,
    start: Path | None = None,
    device: str = "cpu",
    resume: bool = True,
) -> Iterator[Epoch]:
    """Train `system` on the split `train`, yield one record per epoch, keep the best as out/encoder.safetensors.

    Begins with the weights of the checkpoint `start` where one is given (CheckpointError where they do not fit).
    Resumes from the state kept in `out` where there is one and `resume` is on; one of other settings is refused.
    ValueError where the system is none for pairs, or a value was changed in its recipe that is not read.
    """
    if not isinstance(system.schedule, Schedule):
        raise ValueError(
            f"system {system.name} does not learn from pairs of stems; use `asid train versions` or `asid train sounds`"
        )
    refuse_unread(system.schedule, SYSTEMS.get(system.name, system).schedule, _unread(system))
    run = _Run(cache, system, out, device)
    if start is not None:
        run.begin_with(start)
    yield from run.records(resume=resume)


def _unread(system: System) -> list[str]:
    """Values of the schedule that training this system does not read."""
    unread = {"temperature": system.objective is not None, "chunk": system.schedule.lanes > 1}  # a lane is a chunk
    return [name for name, holds in unread.items() if holds]


class _Run(Run):
    """Network, optimiser and data of one training."""

    def __init__(self, cache: StemCache, system: System, out: Path, device: str | torch.device) -> None:
        super().__init__(out, system.schedule, device)
        self.system = system
        self.maker = pairs_of(cache, system, split="train", seed=self.schedule.seed)
        held_out = dict(split="validation", seed=_VALIDATION_SEED)
        unseen = pairs_of(cache, system, **held_out, pairing=system.pairing.unseen)
        self.front_end = system.spectra().to(self.device)
        self.validation = augment.views(
            unseen.batch(0, self.schedule.validation_pairs), self.front_end, self.system.grid
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            self.network = system.build().to(self.device)
            self.head = self._head().to(self.device)  # of a loss that has weights of its own
        self.trained = [*self.network.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(self.trained, lr=self.schedule.learning_rate)
        self.origin = None
        self._half = self.schedule.batch // 2

    def begin_with(self, path: Path) -> None:
        """Take over the weights of a checkpoint, whose provenance goes into this run's; what is told of its contrast
        network, which stays as it is, is told of this one.

        One without short windows will do for a network with them: they add nothing before they are trained.
        """
        origin = checkpoint.load(path, *KINDS)
        added = {name: value for name, value in self.network.state_dict().items() if name.startswith("short.")}
        replace(origin, weights=added | origin.weights).restore(self.network)
        self.origin = {"digest": origin.digest, **origin.provenance}

    def advance(self) -> Epoch:
        """One epoch: train, validate, keep."""
        began = time.perf_counter()
        first, end = (n * self.schedule.steps for n in (self.epoch, self.epoch + 1))
        total = torch.zeros((), device=self.device)
        for step, _, views in mixed(self.maker, self.schedule.batch, self.front_end, first, end):
            total += self._step(step, views)
        seconds = time.perf_counter() - began
        hits = retrieval(self.network, self.validation)
        record = Epoch(
            epoch=self.epoch + 1,
            pairs=end * self.schedule.batch,
            loss=total.item() / self.schedule.steps,
            learning_rate=rate(self.schedule, end - 1),
            hit_rate_1=hits[0],
            hit_rate_10=hits[1],
            best=sum(hits) > self.best,
            pairs_per_second=self.schedule.steps * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self.keep(record, sum(hits))
        return record

    def parts(self) -> dict[str, Any]:
        return dict(network=self.network, head=self.head, optimiser=self.optimiser)

    def settings(self) -> dict[str, Any]:
        system = checkpoint.to_plain(replace(self.system, schedule=replace(self.schedule, epochs=1, patience=1)))
        return system | {"started_from": self.origin and self.origin["digest"], "data": self.maker.told()}

    def save(self) -> None:
        contrast = {"contrast": self.origin["contrast"]} if self.origin and "contrast" in self.origin else {}
        told = self.provenance(**self.maker.told()) | contrast | dict(started_from=self.origin)
        checkpoint.save(self.out / FILE, self.system, self.network, provenance=told)

    def _step(self, step: int, views: augment.Views) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.schedule, step)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        lanes = self.schedule.lanes
        chunk = min(self.schedule.chunk, self.schedule.batch) if lanes == 1 else -(-self.schedule.batch // lanes)
        backward = losses.cached_backward if lanes == 1 else losses.backward_side_by_side
        # Both sides of a pair lie half a batch apart: norms must not tell which query views went through with which
        # reference views, or the network learns that in place of music.
        apart = views.queries.roll(self._half, 0)
        portions = list(zip(views.references.split(chunk), apart.split(chunk), strict=True))
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.schedule.seed, step)) % 2**31)
            loss = backward(self._fingerprints, portions, lambda z: self._loss(z, portions, views))
        if not torch.isfinite(loss):
            raise diverged(loss.item(), f"at step {step}")
        nn.utils.clip_grad_norm_(self.trained, self.schedule.clip)
        self.optimiser.step()
        return loss

    def _fingerprints(self, portion: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.precision == "bfloat16"):
            sides = zip(*(side.split(self.schedule.portion or len(side)) for side in portion), strict=True)
            found = [self.network(torch.cat(part)).fingerprints.float().chunk(2) for part in sides]
        return torch.cat([part for side in zip(*found, strict=True) for part in side])

    def _loss(self, fingerprints: Tensor, portions: list[tuple[Tensor, Tensor]], views: augment.Views) -> Tensor:
        halves = [part.chunk(2) for part in fingerprints.split([2 * len(reference) for reference, _ in portions])]
        references, apart = (torch.cat(side) for side in zip(*halves, strict=True))
        queries = apart.roll(-self._half, 0)
        if self.system.objective is not None:
            return self.system.objective(references, queries, views, self.head)
        shown = dict(moments=views.moments, covers=views.covers)
        return losses.nt_xent(references, queries, views.tracks, temperature=self.schedule.temperature, **shown)

    def _head(self) -> nn.Module:
        if self.system.objective is None:
            return nn.Identity()
        dimensions = self.system.network.dimensions
        return self.system.objective.head(dimensions=dimensions, classes=len(self.maker.tracks))


@torch.inference_mode()
def retrieval(network: nn.Module, views: augment.Views) -> tuple[float, float]:
    """Hit rates at 1 and 10 of query views among all reference views; ties count against us."""
    network.eval()
    references, queries = (
        torch.cat([network(part).fingerprints for part in side.split(64)]) for side in (views.references, views.queries)
    )
    similarities = queries @ references.T
    rank = (similarities >= similarities.diagonal().unsqueeze(1)).sum(1)  # 1 is first
    return (rank <= 1).float().mean().item(), (rank <= 10).float().mean().item()

"""Train a version encoder: batches of versions -> version loss -> checkpoint, one record per epoch.

As encoder/training/train.py: a generator; step n always sees batch n under the random state of step n, so that a run
that was killed and resumed ends where an uninterrupted one does. The rate falls when validation no longer gets better,
and training ends when it has fallen far enough.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder import checkpoint, reductions
from encoder.systems import System
from encoder.training import losses, state, version_augment, version_set
from encoder.training.run import Run
from encoder.training.schedule import diverged
from encoder.training.version_batches import BatchMaker, SpectraCache, VersionBatch
from encoder.training.version_loss import version_loss
from encoder.training.version_schedule import VersionSchedule
from encoder.training.version_set import Version

FILE = "encoder.safetensors"
_PART = 64  # shingles in memory at a time while validating


@dataclass(frozen=True, kw_only=True)
class VersionEpoch:
    """What one epoch did; figures of the validation split, whose works training never sees."""

    epoch: int  # from 1
    tracks: int  # seen so far
    align: float  # means of the epoch
    uniform: float
    learning_rate: float
    average_precision: float  # mean over all validation tracks, each looking for its versions among all others
    best: bool
    shingles_per_second: float  # of this epoch, validation left out
    seconds: float


def train(
    versions: Sequence[Version], system: System, out: Path, *, device: str = "cpu", resume: bool = True
) -> Iterator[VersionEpoch]:
    """Train `system` on the split `train`, yield one record per epoch, keep the best as out/encoder.safetensors.

    Resumes from the state kept in `out` where there is one and `resume` is on; one of other settings is refused.
    """
    if not isinstance(system.schedule, VersionSchedule):
        raise ValueError(f"system {system.name} is not trained on versions; use `asid train encoder`")
    yield from _Run(versions, system, out, device).records(resume=resume)


class _Run(Run):
    """Network, optimiser and data of one training."""

    def __init__(self, versions: Sequence[Version], system: System, out: Path, device: str | torch.device) -> None:
        super().__init__(out, system.schedule, device)
        self.system = system
        learning, unseen = (version_set.of_split(versions, split) for split in ("train", "validation"))
        version_set.require_apart(learning, [v for v in versions if v.split != "train"])
        version_set.require_files([*learning, *unseen])
        spectra = SpectraCache(self.out / "spectra", system.spectra().to(self.device))
        self.maker = BatchMaker(learning, spectra, system.grid, self.schedule)
        self.data = dict(tracks=len(learning), works=len(self.maker.works), digest=version_set.digest(learning))
        self.validation = BatchMaker(unseen, spectra, system.grid, self.schedule).first_blocks()
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            self.network = system.build().to(self.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.schedule.learning_rate)
        plateau = dict(mode="max", factor=self.schedule.factor, patience=self.schedule.patience)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, **plateau)

    @property
    def goes_on(self) -> bool:
        return self.epoch < self.schedule.epochs and self.learning_rate >= self.schedule.final_rate

    @property
    def learning_rate(self) -> float:
        return self.optimiser.param_groups[0]["lr"]

    def advance(self) -> VersionEpoch:
        """One epoch: train, validate, keep."""
        began, rate, steps = time.perf_counter(), self.learning_rate, self.maker.steps
        totals = torch.zeros(2)
        for step, batch in state.ahead(self.maker.batch, self.epoch * steps, steps):
            totals += self._step(step, batch)
        seconds = time.perf_counter() - began
        found = mean_average_precision(self.network, self.validation, self.schedule, self.device)
        self.plateau.step(found)
        align, uniform = (totals / steps).tolist()
        record = VersionEpoch(
            epoch=self.epoch + 1,
            tracks=(self.epoch + 1) * steps * len(batch.tracks),
            align=align,
            uniform=uniform,
            learning_rate=rate,
            average_precision=found,
            best=found > self.best,
            shingles_per_second=steps * batch.spectra.shape[:2].numel() / seconds,
            seconds=time.perf_counter() - began,
        )
        self.keep(record, found)
        return record

    def parts(self) -> dict[str, Any]:
        return dict(network=self.network, optimiser=self.optimiser, plateau=self.plateau)

    def settings(self) -> dict[str, Any]:
        return checkpoint.to_plain(replace(self.system, schedule=replace(self.schedule, epochs=1))) | {
            "data": self.data
        }

    def save(self) -> None:
        told = self.provenance(**self.data)
        checkpoint.save(self.out / FILE, self.system, self.network, provenance=told)

    def _step(self, step: int, batch: VersionBatch) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.schedule.seed, step, 33)) % 2**31)
        shingles = version_augment.augmented(batch.spectra.flatten(0, 1), self.schedule, generator)
        terms = torch.zeros(2)

        def loss(embeddings: Tensor) -> Tensor:
            made = version_loss(
                embeddings.unflatten(0, batch.spectra.shape[:2]), batch.works.to(self.device),
                batch.tracks.to(self.device), positive=self.schedule.positive_reduction,
                negative=self.schedule.negative_reduction, gamma=self.schedule.gamma, epsilon=self.schedule.epsilon,
            )  # fmt: skip
            terms.copy_(torch.stack(made).detach())
            return made.total

        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        portions = shingles.to(self.device).split(self.schedule.chunk or len(shingles))
        losses.cached_backward(lambda part: _embeddings(self.network, part), portions, loss)
        if not torch.isfinite(terms).all():
            raise diverged(terms.tolist(), f"at step {step}")
        self.optimiser.step()
        return terms


@torch.inference_mode()
def mean_average_precision(
    network: nn.Module, batch: VersionBatch, schedule: VersionSchedule, device: torch.device
) -> float:
    """MAP of every track of the batch looking for its versions among all others; ties count against us."""
    network.eval()
    shingles = batch.spectra.flatten(0, 1).split(_PART)
    embeddings = torch.cat([_embeddings(network, part.to(device)).cpu() for part in shingles])
    distances = reductions.mean_squared_differences(embeddings, embeddings)
    distances = distances.unflatten(1, batch.spectra.shape[:2]).unflatten(0, batch.spectra.shape[:2]).transpose(1, 2)
    reduced = reductions.reduce(distances, schedule.positive_reduction)
    reduced.fill_diagonal_(torch.inf)
    precisions = []
    for row, work, own in zip(reduced, batch.works, range(len(batch.works)), strict=True):
        relevant = batch.works == work
        relevant[own] = False
        order = torch.argsort(relevant.int(), stable=True)  # irrelevant ones first where distances are equal
        hits = relevant[order[row[order].argsort(stable=True)]]
        ranks = hits.nonzero().flatten() + 1
        precisions.append((torch.arange(1, len(ranks) + 1) / ranks).mean().item())
    return sum(precisions) / len(precisions)


def _embeddings(network: nn.Module, shingles: Tensor) -> Tensor:
    return network(shingles).node_matrices.squeeze(1)

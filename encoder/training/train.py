"""Train an encoder: pairs from the stem cache -> contrastive or class loss -> checkpoint, one record per epoch.

The loop is a generator; who iterates shows progress, stops it, or runs it as a flow. Step n always sees the same mix
of the same batch of the seed (batch n, where a batch is mixed once) under the random state of step n, so a run that was
killed and resumed ends where an uninterrupted one does. Validation is mixed as waveforms, at the last level of the
curriculum.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder import checkpoint
from encoder.systems import KINDS, System
from encoder.training import augment, losses, state
from encoder.training.makers import pairs_of
from encoder.training.schedule import Schedule, diverged, rate
from encoder.training.stem_cache import StemCache

log = logging.getLogger(__name__)
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
    """
    if not isinstance(system.schedule, Schedule):
        raise ValueError(
            f"system {system.name} does not learn from pairs of stems; use `asid train versions` or `asid train sounds`"
        )
    run = _Run(cache, system, Path(out), torch.device(device))
    if start is not None:
        run.begin_with(start)
    if resume:
        run.restore()
    while run.epoch < system.schedule.epochs and run.stale < system.schedule.patience:
        yield run.advance()


class _Run:
    """Network, optimiser and data of one training run, and where it stands."""

    def __init__(self, cache: StemCache, system: System, out: Path, device: torch.device) -> None:
        self.system, self.schedule, self.out, self.device = system, system.schedule, out, device
        self.maker = pairs_of(cache, system, split="train", seed=self.schedule.seed)
        held_out = dict(split="validation", seed=_VALIDATION_SEED)
        unseen = pairs_of(cache, system, **held_out, pairing=system.pairing.unseen)
        self.front_end = system.spectra().to(device)
        self.validation = augment.views(
            unseen.batch(0, self.schedule.validation_pairs), self.front_end, self.system.grid
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            self.network = system.build().to(device)
            self.head = self._head().to(device)  # of a loss that has weights of its own
        self.trained = [*self.network.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(self.trained, lr=self.schedule.learning_rate)
        self.epoch, self.stale, self.best, self.history, self.origin = 0, 0, -1.0, [], None
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
        first = self.epoch * self.schedule.steps
        total = torch.zeros((), device=self.device)
        for step, views in self._views(first, first + self.schedule.steps):
            total += self._step(step, views)
        seconds = time.perf_counter() - began
        hits = retrieval(self.network, self.validation)
        record = Epoch(
            epoch=self.epoch + 1,
            pairs=(first + self.schedule.steps) * self.schedule.batch,
            loss=total.item() / self.schedule.steps,
            learning_rate=rate(self.schedule, first + self.schedule.steps - 1),
            hit_rate_1=hits[0],
            hit_rate_10=hits[1],
            best=sum(hits) > self.best,
            pairs_per_second=self.schedule.steps * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self._keep(record)
        return record

    def restore(self) -> None:
        """Continue from the kept state, if there is one."""
        kept = state.load(self.out, self._config(), self.device)
        if kept is None:
            return
        self.network.load_state_dict(kept["network"])
        self.head.load_state_dict(kept.get("head", {}))
        self.optimiser.load_state_dict(kept["optimiser"])
        self.epoch, self.stale, self.best, self.history = (kept[k] for k in ("epoch", "stale", "best", "history"))
        log.info("resumed after epoch %d", self.epoch)

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

    def _views(self, first: int, end: int) -> Iterator[tuple[int, augment.Views]]:
        """Every step from `first` to before `end` with its views; step n is mix n % mixes of batch n // mixes.

        A batch whose steps lie in two epochs is made in both, so that an epoch is the same after a resumption.
        """
        mixes = self.system.pairing.mixes

        def make(number: int) -> list[tuple[int, augment.Views]]:
            batch = self.maker.batch(number, self.schedule.batch, step=number * mixes)
            steps = range(max(number * mixes, first), min((number + 1) * mixes, end))
            part = slice(steps.start - number * mixes, steps.stop - number * mixes)
            return list(zip(steps, augment.every(batch, self.front_end, self.system.grid, part=part), strict=True))

        for _, made in state.ahead(make, first // mixes, -(-end // mixes) - first // mixes):
            yield from made

    def _head(self) -> nn.Module:
        if self.system.objective is None:
            return nn.Identity()
        dimensions = self.system.network.dimensions
        return self.system.objective.head(dimensions=dimensions, classes=len(self.maker.tracks))

    def _config(self) -> dict[str, Any]:
        """What must be the same on resumption: all but when to stop (a run may be prolonged or cut short)."""
        system = checkpoint.to_plain(replace(self.system, schedule=replace(self.schedule, epochs=1, patience=1)))
        return system | {"started_from": self.origin and self.origin["digest"]}

    def _keep(self, record: Epoch) -> None:
        self.epoch, self.history = record.epoch, [*self.history, asdict(record)]
        self.stale = 0 if record.best else self.stale + 1
        if record.best:
            self.best = record.hit_rate_1 + record.hit_rate_10
            checkpoint.save(self.out / FILE, self.system, self.network, provenance=self._provenance())
        kept = dict(epoch=self.epoch, stale=self.stale, best=self.best, history=self.history)
        kept |= dict(network=self.network.state_dict(), optimiser=self.optimiser.state_dict())
        kept |= dict(head=self.head.state_dict())
        state.save(self.out, self._config(), kept)

    def _provenance(self) -> dict[str, Any]:
        hours = sum(t.length for t in self.maker.tracks) / self.system.grid.sample_rate / 3600
        data = dict(tracks=len(self.maker.tracks), hours=round(hours, 2))
        run = dict(history=self.history, data=data, seed=self.schedule.seed, device=str(self.device))
        contrast = {"contrast": self.origin["contrast"]} if self.origin and "contrast" in self.origin else {}
        return run | contrast | dict(torch=torch.__version__, started_from=self.origin)


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

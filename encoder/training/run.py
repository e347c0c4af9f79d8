"""A training run: epoch after epoch, the best kept, the state on disk after each, so that a killed run goes on.

What is learned, from what and how well is a subclass's: `advance` makes an epoch and keeps it, `parts` are what learns,
`settings` what a resumed run must have in common with the one before, its data too, and `save` writes the checkpoint of
a best epoch.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from encoder.spectrogram import FrontEnd
from encoder.training import augment, state
from encoder.training.augment import Views
from encoder.training.pairs import PairBatch, PairMaker

log = logging.getLogger(__name__)


class Run(ABC):
    """Where a training stands; iterating it trains on, one record per epoch."""

    def __init__(self, out: Path, schedule: Any, device: str | torch.device) -> None:
        self.out, self.schedule, self.device = Path(out), schedule, torch.device(device)
        self.epoch, self.stale, self.best, self.history = 0, 0, -1.0, []

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What learns or counts along, by the name it is kept under; each has a state_dict."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What must be the same on resumption, data too: all but when to stop (a run may be prolonged or cut short)."""

    @abstractmethod
    def save(self) -> None:
        """Write the checkpoint of the epoch that was last."""

    @abstractmethod
    def advance(self) -> Any:
        """One epoch: train, validate, keep; its record."""

    @property
    def goes_on(self) -> bool:
        """Whether there is another epoch to come."""
        return self.epoch < self.schedule.epochs and self.stale < self.schedule.patience

    def records(self, *, resume: bool) -> Iterator[Any]:
        """The epochs to come; those after the kept state, if there is one and `resume` is on.

        ValueError where the state belongs to other settings or data.
        """
        if resume:
            self.restore()
        while self.goes_on:
            yield self.advance()

    def restore(self) -> None:
        """Continue from the kept state, if there is one."""
        kept = state.load(self.out, self.settings())
        if kept is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(kept[name])
        self.epoch, self.stale, self.best, self.history = (kept[k] for k in ("epoch", "stale", "best", "history"))
        log.info("resumed after epoch %d", self.epoch)

    def keep(self, record: Any, quality: float) -> None:
        """The state after an epoch, and where it is the best one its checkpoint."""
        self.epoch, self.history = record.epoch, [*self.history, asdict(record)]
        self.stale = 0 if record.best else self.stale + 1
        if record.best:
            self.best = quality
            self.save()
        kept = dict(epoch=self.epoch, stale=self.stale, best=self.best, history=self.history)
        state.save(self.out, self.settings(), kept | {name: part.state_dict() for name, part in self.parts().items()})

    def provenance(self, **learned_from: Any) -> dict[str, Any]:
        """What every checkpoint tells of its making."""
        run = dict(history=self.history, data=learned_from, seed=self.schedule.seed, device=str(self.device))
        return run | dict(torch=torch.__version__)


def mixed(
    maker: PairMaker, size: int, front_end: FrontEnd, first: int, end: int
) -> Iterator[tuple[int, PairBatch, Views]]:
    """Every step from `first` to before `end` with its `size` pairs; step n is mix n % mixes of batch n // mixes.

    The next batch is always in the making. One whose steps lie in two epochs is made in both, so that an epoch is the
    same after a resumption.
    """
    mixes = maker.pairing.mixes

    def make(number: int) -> list[tuple[int, PairBatch, Views]]:
        batch = maker.batch(number, size, step=number * mixes)
        steps = range(max(number * mixes, first), min((number + 1) * mixes, end))
        part = slice(steps.start - number * mixes, steps.stop - number * mixes)
        made = augment.every(batch, front_end, maker.grid, part=part)
        return [(step, batch, views) for step, views in zip(steps, made, strict=True)]

    for _, made in state.ahead(make, first // mixes, -(-end // mixes) - first // mixes):
        yield from made

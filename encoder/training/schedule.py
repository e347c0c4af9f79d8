"""Schedule: how long, how fast and in what portions a network is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Optimisation of an encoder; the defaults are NeuralSampleID's (section 4.2), but for a shorter run."""

    epochs: int = 30
    steps: int = 100  # per epoch
    batch: int = 1024  # pairs that see each other as negatives
    chunk: int = 256  # pairs in memory at a time (gradient caching), no more than the batch
    # Pairs that pass through the network at once, and share the statistics of its norms; 0: a chunk. What 16 pairs need
    # stays in a CPU's fast memory, which takes a fifth off the time of a step.
    portion: int = 0
    # Shares of a batch that pass through the network side by side, a thread each (OMP_NUM_THREADS=1 then). With more
    # than 1 the whole batch is in memory, and gradients are added, and paths dropped, in no fixed order.
    lanes: int = 1
    learning_rate: float = 8e-5  # peak, Adam
    final_rate: float = 7e-7
    warmup: int = 30  # steps; 0: none
    temperature: float = 0.05  # NT-Xent
    clip: float = 1.0  # gradient norm
    patience: int = 10  # epochs without a better validation before stopping
    validation_pairs: int = 384
    seed: int = 1
    # Of the network's products while it learns; "bfloat16" is 2.4 times as fast on CPUs that multiply it in hardware.
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        positive = ("epochs", "steps", "batch", "chunk", "lanes", "learning_rate", "temperature", "clip", "patience")
        for name in (*positive, "validation_pairs"):
            if getattr(self, name) <= 0:
                raise ValueError(f"schedule: {name} is {getattr(self, name)}, expected more than 0")
        for name in ("portion", "final_rate", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"schedule: {name} is {getattr(self, name)}, expected 0 or more")
        if self.precision not in get_args(Schedule.__annotations__["precision"]):
            raise ValueError(f"schedule: precision is {self.precision!r}, expected float32 or bfloat16")
        if self.batch < 2:
            raise ValueError(f"schedule: batch is {self.batch}, expected at least 2: a pair needs a negative")

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps


def rate(schedule: Schedule, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to the final rate."""
    cosine = (1 + math.cos(math.pi * step / schedule.total_steps)) / 2
    height = schedule.final_rate + (schedule.learning_rate - schedule.final_rate) * cosine
    return min(1.0, (step + 1) / max(schedule.warmup, 1)) * height


def refuse_unread(given: Any, defaults: Any, names: Sequence[str], *, what: str = "schedule") -> None:
    """ValueError where a value of a schedule or a pairing was changed that this training does not read."""
    for name in names:
        if getattr(given, name) != getattr(defaults, name):
            told = f"{what}: {name} is {getattr(given, name)}, which this training has no use for"
            raise ValueError(f"{told}; leave it away")


def diverged(loss: object, where: str) -> FloatingPointError:
    """What to raise where a loss is not finite; a run that is resumed as it was would meet it again."""
    return FloatingPointError(f"loss is {loss} {where}; lower the learning rate and begin with another --out")

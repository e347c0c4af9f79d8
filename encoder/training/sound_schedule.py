"""How a sound network is trained."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SoundSchedule:
    """Optimisation of a sound network; the defaults are those of the AN-GNN (section 4)."""

    epochs: int = 50
    batch: int = 512  # sounds, which are one graph
    learning_rate: float = 0.05  # AdamW, of weights and proxies
    weight_decay: float = 1e-5
    step: int = 10  # epochs after which the rate falls
    decay: float = 0.8  # to this share
    alpha: float = 32.0
    margin: float = 0.1  # delta
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "step", "decay", "alpha"):
            if getattr(self, name) <= 0:
                raise ValueError(f"sound schedule: {name} is {getattr(self, name)}, expected more than 0")
        if self.batch < 2:
            raise ValueError(f"sound schedule: batch is {self.batch}, expected 2 or more: a norm needs two sounds")

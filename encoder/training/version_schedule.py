"""Schedule of version training: batches of anchors with their positives, optimisation, and what is altered."""

from dataclasses import dataclass

from encoder import reductions


@dataclass(frozen=True, kw_only=True)
class VersionSchedule:
    """Optimisation of a version encoder; the defaults are those of the released CLEWS for DiscogsVI."""

    epochs: int = 1000
    steps: int = 0  # per epoch; 0: each track is an anchor once
    anchors: int = 25  # per batch
    positives: int = 3  # other tracks of each anchor's work
    block: int = 150  # seconds of a track, from a random start
    block_hop: int = 20  # seconds between the starts of a block's shingles
    chunk: int = 0  # shingles in memory at a time (gradient caching); 0: all of a batch, as published
    learning_rate: float = 2e-4  # Adam
    factor: float = 0.2  # by which the rate falls ...
    patience: int = 9  # ... after more epochs than this without a better validation
    final_rate: float = 1e-6  # under which training ends
    positive_reduction: str = "bpwr-5"
    negative_reduction: str = "min"
    gamma: float = 5.0  # steepness of the uniformity term
    epsilon: float = 1e-6
    masking: float = 0.1  # probability that a band of time or frequency of a shingle is zeroed
    masked: float = 0.15  # widest band, as a fraction
    stretching: float = 0.1  # probability that a shingle is stretched in time ...
    stretch: tuple[float, float] = (0.6, 1.8)  # ... by a factor in between
    transposing: float = 0.1  # probability that a shingle is moved in pitch ...
    transposition: int = 12  # ... by up to so many bins, up or down
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "block", "block_hop", "learning_rate", "gamma", "epsilon", "final_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"version schedule: {name} is {getattr(self, name)}, expected more than 0")
        if self.anchors < 2:
            raise ValueError(f"version schedule: anchors is {self.anchors}, expected at least 2: one needs negatives")
        if self.positives < 1:
            raise ValueError(f"version schedule: positives is {self.positives}, expected at least 1")
        for name in ("steps", "chunk"):
            if getattr(self, name) < 0:
                raise ValueError(f"version schedule: {name} is {getattr(self, name)}, expected 0 or more")
        for name in ("masking", "masked", "stretching", "transposing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"version schedule: {name} is {getattr(self, name)}, expected 0 to 1")
        for name in (self.positive_reduction, self.negative_reduction):
            reductions.parsed(name)
        if not 0 < self.factor < 1:
            raise ValueError(f"version schedule: factor is {self.factor}, expected between 0 and 1")
        if not 0 < self.stretch[0] <= self.stretch[1]:
            raise ValueError(f"version schedule: stretch is {self.stretch}, expected a rising pair above 0")

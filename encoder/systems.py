"""Systems: the named recipes, each a front end, a network and how it is trained.

A researcher adds a system by adding one entry here (and a module where the architecture is new).
"""

from dataclasses import dataclass

from torch import nn

from encoder.gnn import PAPER, GraphEncoder, GraphNetwork, Stage
from encoder.published import Published, PublishedNetwork
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogFrequency, LogMel
from encoder.training.pairs import Pairing
from encoder.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class System:
    """Everything that, with weights, makes an encoder; travels inside the checkpoint."""

    name: str
    about: str
    front_end: LogMel | LogFrequency
    network: GraphNetwork | Published
    grid: SegmentGrid = SegmentGrid()
    pairing: Pairing = Pairing()
    schedule: Schedule = Schedule()

    def build(self) -> nn.Module:
        """The untrained network: spectra (batch, bins, frames) -> Encoded."""
        if isinstance(self.network, Published):
            return PublishedNetwork(self.network)
        return GraphEncoder(self.network, bins=self.front_end.bins, frames=self.grid.frames)


ASID = System(
    name="asid",
    about="default: log-frequency input, five convolutions, two graph blocks on 8 bands x 4 time cells",
    front_end=LogFrequency(),
    network=GraphNetwork(
        stages=(
            Stage(channels=16, kernel=(5, 5), instance_norm=True),
            Stage(channels=32, instance_norm=True),
            Stage(channels=64, instance_norm=True),
            Stage(channels=128),
            Stage(channels=256, stride=(1, 2), blocks=2),
        ),
        expansion=2,
        pooling="bands",
        hidden=512,
    ),
    pairing=Pairing(foreign_interference=0.5, whole_reference=0.5, equaliser=6.0, short=0.4, varispeed=0.25),
    schedule=Schedule(batch=256, learning_rate=7e-4, epochs=30),
)

NEURALSAMPLEID = System(
    name="neuralsampleid",
    about="the paper as written: log-mel, overlapping patches, 12 graph blocks (Bhattacharjee et al., ISMIR 2025)",
    front_end=LogMel(),
    network=PAPER,
    schedule=Schedule(batch=1024, learning_rate=8e-5, epochs=180),
)

PUBLISHED = System(
    name="neuralsampleid-published",
    about="the released network as it really runs: graph blocks bypassed; weights by `asid import-published`",
    front_end=LogMel(),
    network=Published(),
    schedule=Schedule(batch=1024, learning_rate=8e-5, epochs=180),
)

SYSTEMS = {system.name: system for system in (ASID, NEURALSAMPLEID, PUBLISHED)}


def named(name: str) -> System:
    """The recipe of that name."""
    if name not in SYSTEMS:
        raise ValueError(f"no system is called {name!r}, expected one of: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]

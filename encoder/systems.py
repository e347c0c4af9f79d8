"""Systems: the named recipes, each a front end, a network and how it is trained.

A researcher adds a system by adding one entry here (and a module where the architecture is new).
"""

from dataclasses import dataclass

from torch import nn

from encoder.contrast import Contrast
from encoder.contrast_network import ContrastNetwork, LearnedContrast
from encoder.gnn import PAPER, GraphNetwork, Stage
from encoder.published import Published
from encoder.segments import SegmentGrid
from encoder.spectrogram import FrontEnd, LogFrequency, LogMel
from encoder.training.pairing import Pairing
from encoder.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class System:
    """Everything that, with weights, makes an encoder; travels inside the checkpoint."""

    name: str
    about: str
    front_end: LogMel | LogFrequency
    network: GraphNetwork | Published  # whatever has build(bins=, frames=), a network: spectra -> Encoded
    grid: SegmentGrid = SegmentGrid()
    contrast: LearnedContrast | None = None  # none: the plain contrast, where the front end is LogFrequency
    pairing: Pairing = Pairing()
    schedule: Schedule = Schedule()

    def __post_init__(self) -> None:
        if self.contrast is not None and not isinstance(self.front_end, LogFrequency):
            raise ValueError(
                f"system {self.name}: learned contrast on {type(self.front_end).__name__}, expected LogFrequency"
            )

    def build(self) -> nn.Module:
        """The untrained network: spectra (batch, bins, frames) -> Encoded; its `contrast` is the contrast network."""
        network = self.network.build(bins=self.front_end.bins, frames=self.grid.frames)
        if self.contrast is not None:
            network.contrast = self.contrast_network()
        return network

    def spectra(self) -> FrontEnd:
        """The front end on this system's grid: padded waveforms (batch, samples) -> (batch, bins, frames)."""
        return self.front_end.build(sample_rate=self.grid.sample_rate, frame_hop=self.grid.frame_hop)

    def contrast_network(self) -> ContrastNetwork:
        """The untrained contrast network."""
        return ContrastNetwork(self.contrast, self.plain_contrast(), bins=self.front_end.bins)

    def plain_contrast(self) -> Contrast | None:
        """How contrast is made of the front end's spectra; None where a transposition is no shift of them."""
        if not isinstance(self.front_end, LogFrequency):
            return None
        frame = self.grid.frame_hop / self.grid.sample_rate
        return Contrast(bins_per_octave=self.front_end.bins_per_octave, frame=frame)


# All that a checkpoint's configuration may be built of; a new architecture adds its dataclass here.
KINDS = (System, LearnedContrast, SegmentGrid, LogMel, LogFrequency, GraphNetwork, Stage, Published, Pairing, Schedule)

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
    contrast=LearnedContrast(),
    pairing=Pairing(
        foreign_interference=0.5,
        whole_reference=0.5,
        equaliser=6.0,
        short=0.4,
        varispeed=0.25,
        level_start=(0.0, 10.0),
        level=(-10.0, 8.0),
        level_steps=1000,
        mixes=4,
        interferers=0.3,
        chopped=0.2,
        saturation=0.1,
        reverb=0.1,
        band_limit=0.1,
    ),
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

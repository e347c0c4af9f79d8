"""Systems: the named recipes, each a front end, a network and how it is trained.

A researcher adds a system by adding one entry here (and a module where the architecture is new).
"""

from dataclasses import dataclass, replace

from torch import nn

from encoder.adaptive_graph import AdaptiveGraph
from encoder.clews import Clews
from encoder.constant_q import ConstantQ, ConstantQFrontEnd
from encoder.contrast import Contrast
from encoder.contrast_network import ContrastNetwork, LearnedContrast
from encoder.gnn import PAPER, GraphNetwork, Stage
from encoder.grafprint import GraFPrint
from encoder.published import Published
from encoder.resnet_ibn import RESNET18, RESNET50, ResNetIBN
from encoder.segments import SegmentGrid
from encoder.sound_features import SoundFeatures
from encoder.spectrogram import FrontEnd, LogFrequency, LogMel
from encoder.training.classes import ClassObjective
from encoder.training.pairing import NoisePairing, Pairing
from encoder.training.schedule import Schedule
from encoder.training.sound_schedule import SoundSchedule
from encoder.training.version_schedule import VersionSchedule


@dataclass(frozen=True, kw_only=True)
class System:
    """Everything that, with weights, makes an encoder; travels inside the checkpoint."""

    name: str
    about: str
    front_end: LogMel | LogFrequency | ConstantQ | SoundFeatures
    # Whatever has build(bins=, frames=), a network: spectra -> Encoded.
    network: GraphNetwork | Published | Clews | AdaptiveGraph | GraFPrint | ResNetIBN
    grid: SegmentGrid = SegmentGrid()
    contrast: LearnedContrast | None = None  # none: the plain contrast, where the front end is LogFrequency
    pairing: Pairing = Pairing()
    schedule: Schedule | VersionSchedule | SoundSchedule = Schedule()
    objective: ClassObjective | None = None  # none: NT-Xent
    shortest: float = 0.5  # seconds; a file that lasts less is refused

    def __post_init__(self) -> None:
        if self.contrast is not None and not isinstance(self.front_end, LogFrequency):
            raise ValueError(
                f"system {self.name}: learned contrast on {type(self.front_end).__name__}, expected LogFrequency"
            )
        if self.contrast is not None and self.contrast.strokes and self.front_end.short is None:
            raise ValueError(f"system {self.name}: contrast of strokes without short windows, give the front end some")
        if self.grid.shingled and isinstance(self.front_end, LogFrequency):
            raise ValueError(
                f"system {self.name}: shingles of LogFrequency, which has contrast features of whole tracks; "
                "expected ConstantQ or LogMel"
            )
        if self.grid.shingled and self.grid.window(1, 0) <= self.front_end.n_fft // 2:
            raise ValueError(
                f"system {self.name}: shingles of {self.grid.window(1, 0)} samples cannot be reflected by half an "
                f"n_fft of {self.front_end.n_fft}, make them longer"
            )
        if bool(getattr(self.network, "short", ())) != bool(getattr(self.front_end, "short", None)):
            raise ValueError(
                f"system {self.name}: short windows in only one of front end and network, expected in both or neither"
            )
        if isinstance(self.front_end, ConstantQ) and (self.pairing.mixes > 1 or self.pairing.in_decibels):
            raise ValueError(
                f"system {self.name}: several mixes, equaliser or band limit of pairs need a spectrum in decibels, "
                "ConstantQ has magnitudes; expected mixes=1, equaliser=0, band_limit=0"
            )

    def build(self) -> nn.Module:
        """The untrained network: spectra (batch, bins, frames) -> Encoded; its `contrast` is the contrast network."""
        network = self.network.build(bins=self.front_end.bins, frames=self.grid.frames)
        if self.contrast is not None:
            network.contrast = self.contrast_network()
        return network

    @property
    def rows(self) -> int:
        """Of a spectrum: the bins, and with short windows theirs."""
        return self.front_end.rows if isinstance(self.front_end, LogFrequency) else self.front_end.bins

    def spectra(self) -> FrontEnd | ConstantQFrontEnd:
        """The front end on this system's grid: padded waveforms (batch, samples) -> (batch, bins, frames)."""
        return self.front_end.build(sample_rate=self.grid.sample_rate, frame_hop=self.grid.frame_hop)

    def contrast_network(self) -> ContrastNetwork:
        """The untrained contrast network."""
        made, short = self.plain_contrast(), self.front_end.short
        strokes = short and replace(made, bins=3, bins_per_octave=short.bins_per_octave, frame=made.frame / 2)
        return ContrastNetwork(self.contrast, made, bins=self.front_end.bins, strokes=strokes)

    def plain_contrast(self) -> Contrast | None:
        """How contrast is made of the front end's spectra; None where a transposition is no shift of them."""
        if not isinstance(self.front_end, LogFrequency):
            return None
        frame = self.grid.frame_hop / self.grid.sample_rate
        return Contrast(bins_per_octave=self.front_end.bins_per_octave, frame=frame)


# All that a checkpoint's configuration may be built of; a new architecture adds its dataclass here.
KINDS = (
    System, LearnedContrast, SegmentGrid, LogMel, LogFrequency, ConstantQ, GraphNetwork, Stage, Published, Clews,
    Pairing, Schedule, VersionSchedule, SoundFeatures, AdaptiveGraph, SoundSchedule, GraFPrint, NoisePairing,
    ResNetIBN, ClassObjective,
)  # fmt: skip

ASID = System(
    name="asid",
    about="default: log-frequency input, five convolutions, two graph blocks on 8 bands x 4 time cells, short windows",
    front_end=LogFrequency(short=LogFrequency(n_fft=512, bins=28, bins_per_octave=4)),
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
        short=(16, 32, 64, 96),
    ),
    contrast=LearnedContrast(dilations=((1, 1), (6, 1), (1, 2), (3, 1), (1, 4), (1, 8)), strokes=True),
    pairing=Pairing(
        foreign_interference=0.5,
        whole_reference=0.5,
        drums=0.2,
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
    schedule=Schedule(batch=256, portion=16, learning_rate=7e-4, epochs=30, validation_pairs=1536),
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

CLEWS = System(
    name="clews",
    about="versions of a work: constant-Q, ResNet50 with IBN and ReZero, 20 s shingles (Serrà et al., ICML 2025)",
    front_end=ConstantQ(pool=5),
    network=Clews(),
    grid=SegmentGrid(frame_hop=1600, frames=200, step=50, minimum_samples=320_000, shingled=True),
    schedule=VersionSchedule(),
)

CLEWS_SMALL = replace(
    CLEWS,
    name="clews-small",
    about="clews at a size that trains on a CPU within minutes",
    network=Clews(start=(8, 16), channels=(16, 32, 64, 96), blocks=(1, 1, 1, 1), dimensions=64),
    schedule=VersionSchedule(epochs=24, steps=16, anchors=8, block=60, learning_rate=4e-3),
)

AN_GNN = System(
    name="an-gnn",
    about="similar sounds: MFCCs of one-shots, a graph with learned neighbourhoods (Vahidi et al., WASPAA 2023)",
    front_end=SoundFeatures(deviation=True),
    network=AdaptiveGraph(hidden=256, expansion=256),
    grid=SegmentGrid(frames=32, step=32, minimum_samples=16_384, shingled=True, repeated=False),  # 1 s, as published
    schedule=SoundSchedule(epochs=30, batch=256, learning_rate=0.01),
    shortest=0.01,
)

GRAFPRINT = System(
    name="grafprint",
    about="the same recording under noise: 1 s of log-mel, 1024 nodes, 12 graph blocks (Bhattacharjee et al., 2024)",
    front_end=LogMel(),
    network=GraFPrint(),
    grid=SegmentGrid(frames=32, step=3, minimum_samples=16_000),  # 1 s, overlapping by nine tenths
    pairing=NoisePairing(),
    schedule=Schedule(batch=256, learning_rate=8e-5, epochs=180),
)

GRAFPRINT_SMALL = replace(
    GRAFPRINT,
    name="grafprint-small",
    about="grafprint at a size that trains on a CPU within minutes: 128 nodes, 5 graph blocks",
    network=GraFPrint(
        stride=(4, 4), channels=(24, 48, 96, 192), blocks=(1, 1, 2, 1), drop_path=0.0, pooled=256, hidden=512
    ),
    pairing=NoisePairing(mixes=4),
    schedule=Schedule(batch=192, chunk=192, learning_rate=2e-3, epochs=10, steps=32),
)

RESNET18_IBN = System(
    name="resnet18-ibn",
    about="the baseline of NeuralSampleID: constant-Q, ResNet18 with IBN, classes and triplets (after Cheston et al.)",
    front_end=ConstantQ(),
    network=RESNET18,
    grid=SegmentGrid(sample_rate=22_050, frames=216, step=108, minimum_samples=110_250),  # 5 s every 2.5 s
    objective=ClassObjective(),
    schedule=Schedule(batch=512, chunk=64, learning_rate=1e-4, epochs=120),
)

RESNET50_IBN = replace(
    RESNET18_IBN,
    name="resnet50-ibn",
    about="resnet18-ibn with the usual ResNet50 with IBN in its first three stages (Pan et al., ECCV 2018)",
    network=RESNET50,
)

RESNET18_IBN_SMALL = replace(
    RESNET18_IBN,
    name="resnet18-ibn-small",
    about="resnet18-ibn at a size that trains on a CPU within an hour",
    network=ResNetIBN(stem=12, channels=(16, 32, 64, 160), strides=(1, 2, 2, 2), dimensions=256),
    # In so short a run a track is seen a few times, too few for its class to help: triplets lead.
    objective=ClassObjective(beta=0.05, gamma=0.95, scale=16.0),
    schedule=Schedule(batch=64, chunk=64, learning_rate=2e-3, epochs=24, steps=20, warmup=10, validation_pairs=192),
)

RESNET50_IBN_SMALL = replace(
    RESNET18_IBN_SMALL,
    name="resnet50-ibn-small",
    about="resnet50-ibn at a size that trains on a CPU within an hour",
    network=replace(
        RESNET50, stem=12, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2), strides=(1, 2, 2, 2), dimensions=256
    ),
)

SYSTEMS = {system.name: system for system in (ASID, NEURALSAMPLEID, PUBLISHED, CLEWS, CLEWS_SMALL, AN_GNN)}
SYSTEMS |= {system.name: system for system in (GRAFPRINT, GRAFPRINT_SMALL)}
SYSTEMS |= {system.name: system for system in (RESNET18_IBN, RESNET50_IBN)}
SYSTEMS |= {system.name: system for system in (RESNET18_IBN_SMALL, RESNET50_IBN_SMALL)}


def named(name: str) -> System:
    """The recipe of that name."""
    if name not in SYSTEMS:
        raise ValueError(f"no system is called {name!r}, expected one of: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]

"""Graph network: spectra (batch, bins, frames) -> node matrix (nodes, channels) and fingerprint of each segment.

Convolutions make a grid of nodes (frequency cells x time cells); stage by stage the grid gets coarser and the nodes
wider, and graph blocks let each node look at its nearest nodes, wherever in the segment they are (NeuralSampleID,
section 3.1; Vision GNN). The graph is rebuilt from the features in every block. The node matrix feeds the reranker;
pooled and projected it becomes the L2-normalised fingerprint that the index holds.

One architecture, two configurations of note (encoder/systems.py): the paper's, whose first stage is one overlapping
patch embedding and whose graph blocks sit at all four widths; and the default one, whose early stages are plain
convolutions and which keeps the frequency bands apart when it pools.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import graph
from encoder.ibn import HalfInstanceNorm


class Encoded(NamedTuple):
    """What an encoder network makes of a batch of segments."""

    node_matrices: Tensor  # (batch, nodes, channels)
    fingerprints: Tensor  # (batch, dimensions), L2-normalised


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A convolution onto a coarser grid of wider nodes, then graph blocks on that grid."""

    channels: int
    kernel: tuple[int, int] = (3, 3)  # frequency, time
    stride: tuple[int, int] = (2, 2)
    blocks: int = 0
    instance_norm: bool = False  # half of the channels: forgets level and colour of the recording (IBN)


@dataclass(frozen=True, kw_only=True)
class GraphNetwork:
    """Sizes of the network."""

    stages: tuple[Stage, ...]
    input: Literal["patch", "standard"] = "standard"
    node_channels: int = 512
    neighbours: int = 5
    max_dilation: int = 1
    expansion: int = 4  # of the feed-forward layers
    drop_path: float = 0.0  # of the last block; rises linearly from 0
    pooling: Literal["mean", "bands"] = "mean"
    hidden: int = 4096  # of the projector
    dimensions: int = 128  # of the fingerprint
    backend: graph.Backend = "dense"
    aggregation: Literal["graph", "alone", "convolution"] = "graph"  # what a node sees; see AGGREGATIONS
    short: tuple[int, ...] = ()  # channels of the layers that see the front end's short windows; none: there are none

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("graph network: no stages, expected at least one")
        if self.pooling not in ("mean", "bands"):
            raise ValueError(f"graph network: pooling is {self.pooling!r}, expected 'mean' or 'bands'")
        if self.backend not in graph.BACKENDS:
            raise ValueError(f"graph network: backend is {self.backend!r}, expected one of {graph.BACKENDS}")
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"graph network: aggregation is {self.aggregation!r}, expected one of {', '.join(AGGREGATIONS)}"
            )

    def grid(self, bins: int, frames: int) -> tuple[int, int]:
        """Frequency and time cells of the last stage."""
        for stage in self.stages:
            bins, frames = -(-bins // stage.stride[0]), -(-frames // stage.stride[1])
        return bins, frames

    def build(self, *, bins: int, frames: int) -> "GraphEncoder":
        """The untrained network for spectra of this size."""
        return GraphEncoder(self, bins=bins, frames=frames)


class GraphEncoder(nn.Module):
    """Spectra in dB -> node matrices and fingerprints."""

    def __init__(self, config: GraphNetwork, *, bins: int, frames: int) -> None:
        super().__init__()
        self.config, self.bins, self.cells = config, bins, config.grid(bins, frames)
        self.input = {"patch": PatchInput, "standard": StandardInput}[config.input](bins, frames)
        widths = [self.input.channels, *(stage.channels for stage in config.stages)]
        firsts = [0, *accumulate(stage.blocks for stage in config.stages)]
        self.stages = nn.ModuleList(
            StageLayers(width, stage, config, first=first, blocks=firsts[-1])
            for width, stage, first in zip(widths, config.stages, firsts, strict=False)
        )
        self.nodes = (
            nn.Linear(widths[-1], config.node_channels) if widths[-1] != config.node_channels else nn.Identity()
        )
        self.short = Short(config, self.cells) if config.short else None
        self.projector = Projector(config, bands=self.cells[0])

    def forward(self, spectra: Tensor) -> Encoded:
        x = self.input(spectra[:, : self.bins])  # (batch, channels, bins, frames)
        for stage in self.stages:
            x = stage(x)
        x = self.nodes(x.flatten(2).transpose(1, 2))  # (batch, nodes, node channels), frequency-major
        if self.short is not None:
            x = x + self.short(spectra[:, self.bins :])
        return Encoded(x, self.fingerprints(x))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, dimensions) of node matrices (batch, nodes, node channels)."""
        return self.projector(node_matrices)


class PatchInput(nn.Module):
    """Each segment scaled to [0, 1], with time and frequency ramps as further channels (as released)."""

    channels = 3

    def __init__(self, bins: int, frames: int) -> None:
        super().__init__()
        time = torch.linspace(0, 1, frames).expand(bins, frames)
        frequency = torch.linspace(0, 1, bins).unsqueeze(1).expand(bins, frames)
        self.register_buffer("ramps", torch.stack([time, frequency]), persistent=False)

    def forward(self, spectra: Tensor) -> Tensor:
        low, high = spectra.amin(dim=(1, 2), keepdim=True), spectra.amax(dim=(1, 2), keepdim=True)
        scaled = (spectra - low) / (high - low).clamp(min=1e-6)  # a constant segment becomes 0, not NaN
        return torch.cat([self.ramps.expand(len(spectra), -1, -1, -1), scaled.unsqueeze(1)], dim=1)


class StandardInput(nn.Module):
    """Each segment cut to its upper 70 dB and freed of its level and of half of each bin's mean.

    Half: all of it would erase sustained notes, none of it leaves the colour of the recording in every bin.
    """

    channels = 1

    def __init__(self, bins: int, frames: int) -> None:
        super().__init__()

    def forward(self, spectra: Tensor) -> Tensor:
        x = torch.maximum(spectra, spectra.amax(dim=(1, 2), keepdim=True) - 70)
        x = x - x.mean(dim=(1, 2), keepdim=True)
        return ((x - 0.5 * x.mean(dim=2, keepdim=True)) / 15).unsqueeze(1)  # (batch, 1, bins, frames)


class Short(nn.Module):
    """Bands of the short windows -> what is added to all nodes of a time cell: strokes, which long windows blur.

    It adds nothing until it is trained, so that a network without it can be trained further with it.
    """

    def __init__(self, config: GraphNetwork, cells: tuple[int, int]) -> None:
        super().__init__()
        widths = (1, *config.short)
        layers = (
            nn.Sequential(nn.Conv2d(a, b, (3, 5), (2, 2), (1, 2), bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1))
            for a, b in zip(widths, widths[1:])
        )
        self.bands = cells[0]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, cells[1])))
        self.last = nn.Linear(widths[-1], config.node_channels)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, 2 * bands, frames) in dB, a band's earlier window first -> (batch, nodes, node channels)."""
        x = rows.unflatten(1, (-1, 2)).movedim(2, 3).flatten(2)  # (batch, bands, 2 * frames)
        x = torch.maximum(x, x.amax((1, 2), keepdim=True) - 60)
        x = (x - x.mean((1, 2), keepdim=True)).unsqueeze(1) / 15
        x = self.last(self.layers(x)[:, :, 0].mT)  # (batch, time cells, node channels)
        return x.repeat(1, self.bands, 1)


class StageLayers(nn.Module):
    """Convolution, normalisation, activation, graph blocks: (batch, channels, frequency, time)."""

    def __init__(self, width: int, stage: Stage, config: GraphNetwork, *, first: int, blocks: int) -> None:
        super().__init__()
        padding = tuple((k - 1) // 2 for k in stage.kernel)
        self.convolution = nn.Conv2d(width, stage.channels, stage.kernel, stage.stride, padding, bias=False)
        ibn = stage.instance_norm
        self.norm = HalfInstanceNorm(stage.channels, first="instance") if ibn else nn.BatchNorm2d(stage.channels)
        self.blocks = nn.ModuleList(
            GraphBlock(stage.channels, config, index=i, total=blocks) for i in range(first, first + stage.blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm(self.convolution(x)), 0.1)
        if not len(self.blocks):
            return x
        nodes = x.flatten(2).transpose(1, 2).contiguous()
        for block in self.blocks:
            nodes = block(nodes, x.shape[2:])
        return nodes.transpose(1, 2).unflatten(2, x.shape[2:])


class GraphBlock(nn.Module):
    """Max-relative graph convolution and feed-forward layers, each added to its input (Vision GNN)."""

    def __init__(self, channels: int, config: GraphNetwork, *, index: int, total: int) -> None:
        super().__init__()
        dilation = min(index // 4 + 1, config.max_dilation)
        self.aggregate = AGGREGATIONS[config.aggregation](channels, config, dilation)
        self.path = DropPath(config.drop_path * index / max(total - 1, 1))
        self.before = NormedLinear(channels, channels, bias=False)
        self.update = NormedLinear(2 * channels, channels, bias=False)
        self.after = NormedLinear(channels, channels, bias=False)
        self.widen = NormedLinear(channels, config.expansion * channels, bias=False)
        self.narrow = NormedLinear(config.expansion * channels, channels, bias=False)

    def forward(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        """(batch, nodes, channels), the nodes being frequency x time `cells`, -> same shape."""
        h = self.before(x)
        h = torch.cat([h, self.aggregate(h, cells)], dim=-1)
        x = x + self.path(self.after(F.relu(self.update(h))))
        return x + self.path(self.narrow(F.relu(self.widen(x))))


class Nearest(nn.Module):
    """The largest difference to the nodes that are most alike, wherever they are: the graph."""

    def __init__(self, channels: int, config: GraphNetwork, dilation: int) -> None:
        super().__init__()
        self.k, self.dilation, self.backend = config.neighbours, dilation, config.backend

    def forward(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        return graph.max_relative(x, self.k, dilation=self.dilation, backend=self.backend)


class Alone(nn.Module):
    """A node's own positive part: no other node is seen, and every parameter of the block still has work."""

    def __init__(self, channels: int, config: GraphNetwork, dilation: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        return F.relu(x)


class Around(nn.Module):
    """The 5 x 5 cells around a node, each channel by itself: what a graph of 32 nodes costs, or less."""

    def __init__(self, channels: int, config: GraphNetwork, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)

    def forward(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        return self.convolution(x.transpose(1, 2).unflatten(2, cells)).flatten(2).transpose(1, 2)


AGGREGATIONS = {"graph": Nearest, "alone": Alone, "convolution": Around}


class NormedLinear(nn.Module):
    """Linear map and batch norm over all nodes of the batch: (batch, nodes, channels)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x).flatten(0, 1)).view(*x.shape[:2], -1)


class DropPath(nn.Module):
    """Stochastic depth: in training, the whole branch of a segment is dropped with probability `drop`."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """(batch, nodes, channels) -> same shape, of the same mean."""
        if not self.training or self.drop == 0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop
        return x * keep / (1 - self.drop)


class Projector(nn.Module):
    """Nodes pooled over the segment, or over time within each frequency band, then two layers to the fingerprint."""

    def __init__(self, config: GraphNetwork, *, bands: int) -> None:
        super().__init__()
        self.bands = bands if config.pooling == "bands" else 1
        self.layers = nn.Sequential(
            nn.Linear(self.bands * config.node_channels, config.hidden),
            nn.ELU(),
            nn.Linear(config.hidden, config.dimensions),
        )

    def forward(self, nodes: Tensor) -> Tensor:
        pooled = nodes.unflatten(1, (self.bands, -1)).mean(dim=2).flatten(1)  # (batch, bands * channels)
        return F.normalize(self.layers(pooled), dim=1)


PAPER = GraphNetwork(
    input="patch",
    # Overlapping patches, as the paper says; the released ones (4 x 8, no overlap) are in encoder/published.py.
    stages=(
        Stage(channels=64, kernel=(8, 16), stride=(4, 8), blocks=2),
        Stage(channels=128, stride=(1, 2), blocks=2),
        Stage(channels=256, stride=(2, 1), blocks=6),
        Stage(channels=512, stride=(1, 2), blocks=2),
    ),
    max_dilation=3,
    drop_path=0.1,
)

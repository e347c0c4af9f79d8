"""Published: the network of the released NeuralSampleID code, as it really runs, and the import of its checkpoint.

Log-mel spectra (batch, 64 mel bins, 128 frames) in dB -> 256 patches of 4 x 8 cells -> three strided convolutions over
the flattened patch order -> node matrix (32 nodes, 512 channels) -> fingerprint (128). The released file also holds
twelve graph blocks, but the released forward pass drops what they compute; its fingerprints come from the rest alone
(``graph_blocks="bypassed"``). ``"active"`` really runs the same blocks, with their stored weights.

A graph block as released: neighbours by Euclidean distance between the block's inputs (the paper says cosine), and
messages h_i - h_j (Vision GNN and the paper: h_j - h_i). Its random parts during training (edge dropout, stochastic
depth) are left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import graph
from encoder.gnn import Encoded, NormedLinear, PatchInput
from encoder.released import layer_keys, read_released, renamed

GRAPH_BLOCKS = ("bypassed", "active")

_BLOCK_LAYERS = {  # of one graph block: released -> ours
    "0.fc1.0": "before.linear",
    "0.fc1.1": "before.norm",
    "0.conv.nn.0": "update",
    "0.fc2.0": "after.linear",
    "0.fc2.1": "after.norm",
    "0.norm": "norm",
    "1.fc1": "widen.linear",
    "1.bn1": "widen.norm",
    "1.fc2": "narrow.linear",
    "1.bn2": "narrow.norm",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """Sizes of the released network ("tiny"); other sizes serve tests."""

    graph_blocks: Literal["bypassed", "active"] = "bypassed"
    bins: int = 64
    frames: int = 128
    patch: tuple[int, int] = (4, 8)  # mel bins, frames; without overlap
    patch_channels: int = 8
    channels: tuple[int, ...] = (64, 128, 256, 512)  # of the nodes, stage by stage; nodes halve in between
    blocks: tuple[int, ...] = (2, 2, 6, 2)  # graph blocks of each stage
    neighbours: int = 5
    max_dilation: int = 3
    pooled: int = 1024
    hidden: int = 4096  # of the projector
    dimensions: int = 128  # of the fingerprint

    def __post_init__(self) -> None:
        if self.graph_blocks not in GRAPH_BLOCKS:
            raise ValueError(f"published: graph_blocks is {self.graph_blocks!r}, expected one of {GRAPH_BLOCKS}")
        if len(self.blocks) != len(self.channels):
            raise ValueError(
                f"published: {len(self.blocks)} entries in blocks for {len(self.channels)} stages, give one per stage"
            )
        if self.bins % self.patch[0] or self.frames % self.patch[1]:
            raise ValueError(
                f"published: patches of {self.patch} do not tile {self.bins} x {self.frames}, choose divisors of both"
            )
        if self.patches % 2 ** (len(self.channels) - 1):
            raise ValueError(
                f"published: {self.patches} patches cannot be halved for {len(self.channels)} stages, use smaller ones"
            )

    @property
    def patches(self) -> int:
        """Patches of a segment, the nodes of the first stage."""
        return self.bins // self.patch[0] * (self.frames // self.patch[1])

    def layers(self) -> list[list[int]]:
        """Positions of each stage's graph blocks in the released layer list, where a downsampling takes one too."""
        layers, first = [], 0
        for count in self.blocks:
            layers.append(list(range(first, first + count)))
            first += count + 1
        return layers

    def build(self, *, bins: int, frames: int) -> "PublishedNetwork":
        """The untrained network; ValueError for spectra of another size than its own."""
        if (bins, frames) != (self.bins, self.frames):
            raise ValueError(f"published: spectra of {bins} x {frames}, expected {self.bins} x {self.frames}")
        return PublishedNetwork(self)


class PublishedNetwork(nn.Module):
    """Log-mel spectra -> node matrices and fingerprints, as released."""

    def __init__(self, config: Published) -> None:
        super().__init__()
        self.config, widths = config, config.channels
        self.input = PatchInput(config.bins, config.frames)
        self.patches = nn.Conv2d(self.input.channels, config.patch_channels, config.patch, stride=config.patch)
        self.stem = NormedLinear(config.patch_channels, widths[0], bias=False)
        self.downsamplings = nn.ModuleList(Downsampling(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.blocks = nn.ModuleList(self._stage_blocks(stage) for stage in range(len(widths)))
        self.pooled = nn.Linear(widths[-1], config.pooled)
        self.projector = nn.Sequential(
            nn.Linear(config.pooled, config.hidden), nn.ELU(), nn.Linear(config.hidden, config.dimensions)
        )

    def forward(self, spectra: Tensor) -> Encoded:
        x = F.relu(self.patches(self.input(spectra)))  # (batch, patch channels, 16, 16)
        x = x.flatten(2).transpose(1, 2)  # (batch, 256, patch channels), frequency-major
        x = self.blocks[0](F.leaky_relu(self.stem(x), 0.2))  # (batch, 256, 64)
        for downsampling, blocks in zip(self.downsamplings, self.blocks[1:], strict=True):
            x = blocks(downsampling(x))  # (batch, nodes / 2, 2 * channels)
        return Encoded(x, self.fingerprints(x))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, dimensions) of node matrices (batch, nodes, channels)."""
        # Released: linear map of each node, then the mean; the two commute and this way round costs 1/32.
        pooled = self.pooled(node_matrices.mean(dim=1))  # (batch, 1024)
        return F.normalize(self.projector(pooled), dim=1)

    def _stage_blocks(self, stage: int) -> nn.Sequential:
        if self.config.graph_blocks == "bypassed":
            return nn.Sequential()
        layers = self.config.layers()[stage]
        return nn.Sequential(*(ReleasedBlock(self.config, stage, layer=layer) for layer in layers))


class Downsampling(nn.Module):
    """Convolution of width 3 and stride 2 along the node order: half the nodes, wider.

    Nodes lie row after row of the patch grid, so the window mixes the end of one row with the start of the next.
    Written as a linear map of the windows, it takes two thirds of the time of nn.Conv1d on a CPU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = NormedLinear(3 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.pad(x, (0, 0, 1, 0)).unfold(1, 3, 2)  # (batch, nodes / 2, channels, 3)
        return F.relu(self.linear(windows.transpose(2, 3).flatten(2)))


class ReleasedBlock(nn.Module):
    """Graph convolution and feed-forward layers as released, each added to its input."""

    def __init__(self, config: Published, stage: int, *, layer: int) -> None:
        super().__init__()
        channels = config.channels[stage]
        self.k = config.neighbours
        self.dilation = min(layer // 4 + 1, config.max_dilation)  # the layer count includes downsamplings, as released
        self.before = NormedLinear(channels, channels)
        self.update = nn.Linear(2 * channels, 2 * channels)
        self.after = NormedLinear(2 * channels, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.widen = NormedLinear(channels, 4 * channels)
        self.narrow = NormedLinear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (batch, nodes, channels)
        h = F.relu(self.before(x))
        nearest = graph.neighbours(x, self.k, dilation=self.dilation, metric="euclidean")
        messages = h - graph.gather(h, nearest).amin(dim=2)  # max_j (h_i - h_j) = h_i - min_j h_j
        h = self.after(F.relu(self.update(torch.cat([h, messages], dim=-1))))
        x = F.relu(self.norm((x + h).transpose(1, 2)).transpose(1, 2))
        return x + self.narrow(F.relu(self.widen(x)))


def import_encoder(path: Path, *, graph_blocks: Literal["bypassed", "active"] = "bypassed") -> PublishedNetwork:
    """The network of a released .pth file, in eval mode; raises PublishedError."""
    config = Published(graph_blocks=graph_blocks)
    network = PublishedNetwork(config)
    network.load_state_dict(from_released(read_released(path), config))
    return network.eval()


def from_released(released: dict[str, Tensor], config: Published) -> dict[str, Tensor]:
    """Released weights under the names and in the shapes of PublishedNetwork; raises PublishedError."""
    with torch.device("meta"):
        expected = PublishedNetwork(config).state_dict()
    dead = tuple(f"encoder.backbone.{layer}." for layers in config.layers() for layer in layers)
    ignored = dead if config.graph_blocks == "bypassed" else ()
    return renamed(released, layer_keys(_released_layers(config), expected), expected, ignored=ignored)


def _released_layers(config: Published) -> dict[str, str]:
    """Layers of the whole network: released -> ours."""
    layers = {
        "peak_extractor.convs.0": "patches",
        "encoder.stem.0": "stem.linear",
        "encoder.stem.1": "stem.norm",
        "encoder.proj": "pooled",
        "projector.0": "projector.0",
        "projector.2": "projector.2",
    }
    for stage, blocks in enumerate(config.layers()[:-1]):
        downsampling = f"encoder.backbone.{blocks[-1] + 1}.conv"
        layers[f"{downsampling}.0"] = f"downsamplings.{stage}.linear.linear"
        layers[f"{downsampling}.1"] = f"downsamplings.{stage}.linear.norm"
    if config.graph_blocks == "active":
        for stage, blocks in enumerate(config.layers()):
            for i, layer in enumerate(blocks):
                released, ours = f"encoder.backbone.{layer}", f"blocks.{stage}.{i}"
                layers |= {f"{released}.{theirs}": f"{ours}.{own}" for theirs, own in _BLOCK_LAYERS.items()}
    return layers

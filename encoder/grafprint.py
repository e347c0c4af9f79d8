"""GraFPrint: the dense graph network for exact identification under noise, and the import of its released weights.

Log-mel spectra (batch, 64 mel bins, 32 frames) in dB -> patches of 7 x 7 cells, two bins apart -> 1024 nodes of 8
channels -> four stages of graph blocks, each with half the nodes of the one before and twice the channels -> mean over
the nodes -> fingerprint (128). One second of audio (Bhattacharjee et al., GraFPrint, 2024; released code, "tiny").

A graph block (Vision GNN): neighbours by cosine similarity, the node itself among them, messages max_j (x_j - x_i), a
map in four groups of channels, feed-forward layers; each added to its input. Of the released 3 x 3 downsampling
kernels only the middle column ever meets a node, for the nodes lie in one line; only that is kept here. The released
tables of relative positions are never read and left out.

What is stored of a segment is the mean of its nodes, a node matrix of one node: ranking sequences needs no more, and
ten segments a second of 128 nodes would be a megabyte a second.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import graph
from encoder.gnn import DropPath, Encoded, NormedLinear, PatchInput
from encoder.released import layer_keys, renamed

_BLOCK_LAYERS = {  # of one graph block: released -> ours
    "0.fc1.0": "before.linear",
    "0.fc1.1": "before.norm",
    "0.graph_conv.gconv.nn.0": "update",
    "0.graph_conv.gconv.nn.1": "update_norm",
    "0.fc2.0": "after.linear",
    "0.fc2.1": "after.norm",
    "1.fc1.0": "widen.linear",
    "1.fc1.1": "widen.norm",
    "1.fc2.0": "narrow.linear",
    "1.fc2.1": "narrow.norm",
}


@dataclass(frozen=True, kw_only=True)
class GraFPrint:
    """Sizes of the network; the defaults are the released ones."""

    bins: int = 64
    frames: int = 32
    kernel: tuple[int, int] = (7, 7)  # of the patches: mel bins, frames
    stride: tuple[int, int] = (2, 1)
    padding: tuple[int, int] = (3, 3)
    patch_channels: int = 8
    channels: tuple[int, ...] = (64, 128, 256, 512)  # of the nodes, stage by stage
    blocks: tuple[int, ...] = (2, 2, 6, 2)  # graph blocks of each stage
    neighbours: int = 3
    max_dilation: int = 1  # the released code speaks of 1, 2, 3 by depth, but its outputs are those of 1
    groups: int = 4  # of channels, in the map of the messages
    drop_path: float = 0.1  # of the last block; rises linearly from 0
    pooled: int = 1024
    hidden: int = 4096  # of the projector
    dimensions: int = 128  # of the fingerprint

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.channels):
            raise ValueError(
                f"grafprint: {len(self.blocks)} entries in blocks for {len(self.channels)} stages, give one per stage"
            )
        for channels in self.channels:
            if 2 * channels % self.groups:
                raise ValueError(f"grafprint: {channels} channels in {self.groups} groups, give a multiple of them")
        if self.nodes % 2 ** (len(self.channels) - 1):
            raise ValueError(
                f"grafprint: {self.nodes} patches cannot be halved for {len(self.channels)} stages, change the stride"
            )
        if self.neighbours * self.dilation(sum(self.blocks) - 1) > self.nodes >> (len(self.channels) - 1):
            raise ValueError(
                f"grafprint: {self.neighbours} neighbours with dilation {self.dilation(sum(self.blocks) - 1)} among "
                f"{self.nodes >> (len(self.channels) - 1)} nodes of the last stage, use fewer neighbours"
            )

    @property
    def nodes(self) -> int:
        """Patches of a segment, the nodes of the first stage."""
        cells = zip((self.bins, self.frames), self.kernel, self.stride, self.padding, strict=True)
        rows, columns = ((size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in cells)
        return rows * columns

    def dilation(self, block: int) -> int:
        """Of a block, counted from 0 over all stages: 1, 1, 1, 1, 2, 2, 2, 2, 3 ... up to the largest."""
        return min(block // 4 + 1, self.max_dilation)

    def build(self, *, bins: int, frames: int) -> "GraFPrintNetwork":
        """The untrained network; ValueError for spectra of another size than its own."""
        if (bins, frames) != (self.bins, self.frames):
            raise ValueError(f"grafprint: spectra of {bins} x {frames}, expected {self.bins} x {self.frames}")
        return GraFPrintNetwork(self)


class GraFPrintNetwork(nn.Module):
    """Log-mel spectra -> mean nodes and fingerprints."""

    def __init__(self, config: GraFPrint) -> None:
        super().__init__()
        self.config, widths = config, config.channels
        self.input = PatchInput(config.bins, config.frames)
        patch = (config.kernel, config.stride, config.padding)
        self.patches = nn.Conv2d(self.input.channels, config.patch_channels, *patch)
        nn.init.kaiming_normal_(self.patches.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.patches.bias)
        self.stem = NormedLinear(config.patch_channels, widths[0], bias=False)
        self.halvings = nn.ModuleList(Halving(*pair) for pair in zip(widths, widths[1:], strict=False))
        firsts = [sum(config.blocks[:stage]) for stage in range(len(widths))]
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DenseBlock(config, width, index=first + i) for i in range(count)))
            for width, first, count in zip(widths, firsts, config.blocks, strict=True)
        )
        self.pooled = nn.Linear(widths[-1], config.pooled)
        self.projector = nn.Sequential(
            nn.Linear(config.pooled, config.hidden), nn.ELU(), nn.Linear(config.hidden, config.dimensions)
        )

    def forward(self, spectra: Tensor) -> Encoded:
        x = F.relu(self.patches(self.input(spectra)))  # (batch, patch channels, 32, 32)
        x = x.flatten(2).transpose(1, 2)  # (batch, 1024, patch channels), frequency-major
        x = self.blocks[0](F.leaky_relu(self.stem(x), 0.2))  # (batch, 1024, 64)
        for halving, blocks in zip(self.halvings, self.blocks[1:], strict=True):
            x = blocks(halving(x))  # (batch, nodes / 2, 2 * channels)
        mean = x.mean(dim=1, keepdim=True)  # (batch, 1, 512)
        return Encoded(mean, self.fingerprints(mean))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, dimensions) of mean nodes (batch, 1, channels)."""
        # Released: linear map of each node, then the mean; the two commute.
        return F.normalize(self.projector(self.pooled(node_matrices.mean(dim=1))), dim=1)


class Halving(nn.Module):
    """Convolution of width 3 and stride 2 along the node order, without activation: half the nodes, wider."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = NormedLinear(3 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.pad(x, (0, 0, 1, 0)).unfold(1, 3, 2)  # (batch, nodes / 2, channels, 3)
        return self.linear(windows.transpose(2, 3).flatten(2))


class DenseBlock(nn.Module):
    """Graph convolution and feed-forward layers, each added to its input."""

    def __init__(self, config: GraFPrint, channels: int, *, index: int) -> None:
        super().__init__()
        self.k, self.dilation = config.neighbours, config.dilation(index)
        self.path = DropPath(config.drop_path * index / max(sum(config.blocks) - 1, 1))
        self.before = NormedLinear(channels, channels)
        self.update = GroupedLinear(2 * channels, groups=config.groups)
        self.update_norm = nn.BatchNorm1d(2 * channels)
        self.after = NormedLinear(2 * channels, channels)
        self.widen = NormedLinear(channels, 4 * channels, bias=False)
        self.narrow = NormedLinear(4 * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (batch, nodes, channels)
        h = self.before(x)
        messages = graph.max_relative(h, self.k, dilation=self.dilation)
        # Channel by channel the node and its message, so that every group of the map sees both.
        h = self.update(torch.stack([h, messages], dim=3).flatten(2))  # (batch, nodes, 2 * channels)
        h = F.relu(self.update_norm(h.flatten(0, 1))).view_as(h)
        x = x + self.path(self.after(h))
        return x + self.path(self.narrow(F.relu(self.widen(x))))


class GroupedLinear(nn.Module):
    """A linear map of each group of channels on its own, as wide as its input: (batch, nodes, channels)."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels // groups))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.flatten(0, 1).unflatten(1, (self.groups, -1)).transpose(0, 1)  # (groups, batch * nodes, channels)
        outputs = inputs @ self.weight.unflatten(0, (self.groups, -1)).transpose(1, 2)
        return outputs.transpose(0, 1).reshape(x.shape) + self.bias


def from_released(released: dict[str, Tensor], config: GraFPrint) -> dict[str, Tensor]:
    """Released weights under the names and in the shapes of GraFPrintNetwork; raises PublishedError."""
    with torch.device("meta"):
        expected = GraFPrintNetwork(config).state_dict()
    met = {key: _middle_column(key, weight) for key, weight in released.items()}
    tables = tuple(key for key in met if key.endswith("relative_pos"))
    return renamed(met, layer_keys(_released_layers(config), expected), expected, ignored=tables)


def _middle_column(key: str, weight: Tensor) -> Tensor:
    """A downsampling's kernel (outputs, inputs, 3, 3) as far as it meets nodes, (outputs, inputs, 3); others as is."""
    return weight[..., 1] if key.endswith(".conv.0.weight") and weight.ndim == 4 else weight


def _released_layers(config: GraFPrint) -> dict[str, str]:
    """Layers of the whole network: released -> ours."""
    layers = {
        "peak_extractor.convs.0": "patches",
        "encoder.stem.0": "stem.linear",
        "encoder.stem.1": "stem.norm",
        "encoder.proj": "pooled",
        "projector.0": "projector.0",
        "projector.2": "projector.2",
    }
    place = 0  # in the released list, where a downsampling takes one too
    for stage, count in enumerate(config.blocks):
        for i in range(count):
            released, ours = f"encoder.backbone.{place + i}", f"blocks.{stage}.{i}"
            layers |= {f"{released}.{theirs}": f"{ours}.{own}" for theirs, own in _BLOCK_LAYERS.items()}
        place += count
        if stage < len(config.blocks) - 1:
            layers[f"encoder.backbone.{place}.conv.0"] = f"halvings.{stage}.linear.linear"
            layers[f"encoder.backbone.{place}.conv.1"] = f"halvings.{stage}.linear.norm"
        place += 1
    return layers

"""CLEWS: constant-Q magnitudes (batch, bins, frames) -> one embedding per shingle, for the versions of a musical work.

Two strided convolutions, pre-activation residual blocks with IBN and ReZero, generalised mean pooling, projection
(Serrà et al., "Supervised contrastive learning from weakly-labeled audio segments for musical version matching",
ICML 2025). Shingles are 20 s of 10 frames a second; longer ones give one embedding too. Two embeddings are compared by
the mean squared difference of their values (encoder/reductions.py), not by angle: the raw embedding is kept as a node
matrix of one node, and its L2-normalised form is the fingerprint that the index searches.

The released scaling adds noise of 1e-6, which decides over silence alone; without it, silence has one embedding.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.gnn import Encoded
from encoder.ibn import GeneralisedMean, HalfInstanceNorm
from encoder.released import PublishedError, layer_keys, read_released, renamed

_KERNEL = (12, 3)  # bins (an octave), frames of the two convolutions at the start
_BLOCK_LAYERS = {  # of one residual block: released -> ours
    "convs.0.bn": "norm.batch",
    "convs.0.inst": "norm.instance",
    "convs.2.conv": "narrow",
    "convs.3": "middle",
    "convs.5.conv": "widen",
    "skip.0": "skip.0",
    "skip.2.conv": "skip.2",
}


@dataclass(frozen=True, kw_only=True)
class Clews:
    """Sizes of the network; the defaults are the published ones (196.8 million parameters)."""

    start: tuple[int, int] = (128, 256)  # channels of the two convolutions
    channels: tuple[int, ...] = (256, 512, 1024, 2048)  # stage by stage
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    strides: tuple[int, ...] = (1, 2, 2, 1)  # of each stage's first block
    power: float = 0.5  # of the magnitudes
    dimensions: int = 1024  # of the embedding

    def __post_init__(self) -> None:
        counts = (len(self.channels), len(self.blocks), len(self.strides))
        if len(set(counts)) != 1 or not self.channels:
            raise ValueError(f"clews: {counts} entries in channels, blocks, strides, expected one per stage in each")
        for name, sizes in vars(self).items():
            if min(sizes if isinstance(sizes, tuple) else (sizes,)) <= 0:
                raise ValueError(f"clews: {name} is {sizes}, expected more than 0")

    def build(self, *, bins: int, frames: int) -> "ClewsNetwork":
        """The untrained network; ValueError for spectra that its first convolutions swallow."""
        for name, size, kernel, first in (("bins", bins, _KERNEL[0], 1), ("frames", frames, _KERNEL[1], 2)):
            if (size - kernel) // first + 1 < kernel:
                raise ValueError(f"clews: {name} is {size}, expected at least {(kernel - 1) * first + kernel}")
        return ClewsNetwork(self)


class ClewsNetwork(nn.Module):
    """Constant-Q magnitudes -> embeddings."""

    def __init__(self, config: Clews) -> None:
        super().__init__()
        self.config = config
        first, second = config.start
        self.scaling = Scaling(config.power)
        self.start = nn.Sequential(
            nn.Conv2d(1, first, _KERNEL, (1, 2), bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, _KERNEL, 2, bias=False),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(*sizes) for sizes in block_sizes(config)))
        self.pool = GeneralisedMean(above_one=True)
        self.norm = nn.BatchNorm1d(config.channels[-1])
        self.projector = nn.Linear(config.channels[-1], config.dimensions, bias=False)

    def forward(self, spectra: Tensor) -> Encoded:
        embeddings = self.embed(spectra)  # (batch, dimensions)
        return Encoded(embeddings.unsqueeze(1), F.normalize(embeddings, dim=1))

    def embed(self, spectra: Tensor) -> Tensor:
        """(batch, bins, frames) of any number of frames -> (batch, dimensions), not normalised."""
        x = self.start(self.scaling(spectra).unsqueeze(1))  # (batch, channels, bins, frames)
        return self.projector(self.norm(self.pool(self.blocks(x))))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, dimensions) of node matrices (batch, 1, dimensions)."""
        return F.normalize(node_matrices.squeeze(1), dim=1)


class Scaling(nn.Module):
    """Magnitudes compressed by a power and stretched to [0, 1] segment by segment, then a learnt gain and offset."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power
        self.gain, self.offset = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, spectra: Tensor) -> Tensor:
        x = spectra.clamp(min=0).pow(self.power)
        for _ in range(2):  # once more, as released: the first time a faint segment does not reach 1
            x = x - x.amin(dim=(1, 2), keepdim=True)
            x = x / (x.amax(dim=(1, 2), keepdim=True) + 1e-6)
        return self.gain * x + self.offset


class ResidualBlock(nn.Module):
    """IBN, two convolutions, and a learnt gain that starts at 0 (ReZero): (batch, channels, bins, frames)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = -(-max(inputs, outputs) // 4) * 2  # half of the wider side, made even
        self.norm = HalfInstanceNorm(inputs, first="batch")
        self.narrow = nn.Conv2d(inputs, inner, 3, stride, padding=1, bias=False)
        self.middle = nn.BatchNorm2d(inner)
        self.widen = nn.Conv2d(inner, outputs, 3, padding=1, bias=False)
        self.gain = nn.Parameter(torch.zeros(1))
        self.skip = nn.Identity()
        if inputs != outputs or stride != 1:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            self.skip = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), convolution)

    def forward(self, x: Tensor) -> Tensor:
        h = self.narrow(F.relu(self.norm(x)))  # (batch, inner, bins / stride, frames / stride)
        return self.gain * self.widen(F.relu(self.middle(h))) + self.skip(x)


def block_sizes(config: Clews) -> list[tuple[int, int, int]]:
    """Input channels, output channels and stride of each residual block."""
    sizes, inputs = [], config.start[1]
    for outputs, blocks, stride in zip(config.channels, config.blocks, config.strides, strict=True):
        sizes += [(inputs, outputs, stride)] + [(outputs, outputs, 1)] * (blocks - 1)
        inputs = outputs
    return sizes


def import_clews(path: Path) -> ClewsNetwork:
    """The network of a released checkpoint, its sizes read from the weights, in eval mode; raises PublishedError."""
    released = read_released(path, within="model", inert=("omegaconf.",))
    network = ClewsNetwork(released_sizes(released))
    network.load_state_dict(from_released(released, network.config))
    return network.eval()


def from_released(released: dict[str, Tensor], config: Clews) -> dict[str, Tensor]:
    """Released weights under the names and in the shapes of ClewsNetwork; raises PublishedError."""
    with torch.device("meta"):
        expected = ClewsNetwork(config).state_dict()
    layers = {"frontend.1": "start.0", "frontend.2": "start.1", "frontend.4": "start.3"}
    layers |= {"proj.0": "norm", "proj.1": "projector"}
    keys = {"frontend.0.gain": "scaling.gain", "frontend.0.bias": "scaling.offset", "pool.p": "pool.theta"}
    for block in range(sum(config.blocks)):
        keys[f"backbone.{block}.gain"] = f"blocks.{block}.gain"
        layers |= {f"backbone.{block}.{theirs}": f"blocks.{block}.{ours}" for theirs, ours in _BLOCK_LAYERS.items()}
    flat = {key: weight.flatten() if key == "pool.p" else weight for key, weight in released.items()}
    return renamed(flat, keys | layer_keys(layers, expected), expected, ignored=("cqt.",))


def released_sizes(released: dict[str, Tensor]) -> Clews:
    """The sizes that the shapes of released weights tell; raises PublishedError where they are of no CLEWS network."""
    try:
        start = (len(released["frontend.1.weight"]), len(released["frontend.4.weight"]))
        channels, blocks = [], []
        while (key := f"backbone.{sum(blocks)}.convs.5.conv.weight") in released:
            if not blocks or f"backbone.{sum(blocks)}.skip.0.weight" in released:
                channels.append(len(released[key]))
                blocks.append(0)
            blocks[-1] += 1
        # A stride leaves no trace in the weights; the published ones hold for every released file.
        dimensions = len(released["proj.1.weight"])
        return Clews(start=start, channels=tuple(channels), blocks=tuple(blocks), dimensions=dimensions)
    except (KeyError, ValueError) as error:
        raise PublishedError(f"released checkpoint: its weights are of no CLEWS network ({error})") from error

"""ResNet-IBN: residual networks with instance and batch norm on constant-Q spectra, trained on classes of tracks.

Magnitudes (batch, 84 bins, 216 frames) of 5 s -> convolution of 7 x 7 -> four stages of residual blocks, the first norm
of each being half instance, half batch norm (IBN-Net) -> generalised mean over frequency and time -> linear map ->
L2-normalised fingerprint (2048). The pooled features are kept as a node matrix of one node.

RESNET18 is the network of the released NeuralSampleID baseline (after Cheston et al.; 32.8 million parameters): two
blocks a stage, each 1 x 1, 3 x 3, 1 x 1 at full width, without activation behind the second norm. RESNET50 is the usual
one (He et al., CVPR 2016) with IBN as published (Pan et al., ECCV 2018): inner width a quarter, activation behind both
norms, plain batch norm in the last stage.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.gnn import Encoded
from encoder.ibn import GeneralisedMean, HalfInstanceNorm
from encoder.released import layer_keys, renamed


@dataclass(frozen=True, kw_only=True)
class ResNetIBN:
    """Sizes of the network; the defaults are those of the released ResNet18-IBN."""

    stem: int = 64  # channels before the first stage
    channels: tuple[int, ...] = (128, 256, 512, 1024)  # out of each stage
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    strides: tuple[int, ...] = (1, 1, 2, 2)
    expansion: int = 1  # channels over inner channels of a block
    instance_stages: int = 4  # stages whose blocks have instance norm, from the first
    activated: bool = False  # whether an activation follows the second norm of a block
    exponent: float = 3.0  # of the generalised mean, at the beginning
    dimensions: int = 2048  # of the fingerprint

    def __post_init__(self) -> None:
        stages = len(self.channels)
        for name in ("blocks", "strides"):
            if len(getattr(self, name)) != stages:
                raise ValueError(
                    f"resnet-ibn: {len(getattr(self, name))} entries in {name} for {stages} stages, give one per stage"
                )
        if not 0 <= self.instance_stages <= stages:
            raise ValueError(f"resnet-ibn: instance_stages is {self.instance_stages}, expected 0 to {stages}")
        for channels in self.channels:
            if channels % self.expansion or channels // self.expansion < 2:
                raise ValueError(
                    f"resnet-ibn: {channels} channels with expansion {self.expansion}, expected a multiple of it, "
                    "and 2 inner channels or more"
                )

    def build(self, *, bins: int, frames: int) -> "ResNetIBNNetwork":
        """The untrained network; any size of spectra will do."""
        return ResNetIBNNetwork(self)


class ResNetIBNNetwork(nn.Module):
    """Constant-Q magnitudes -> pooled features and fingerprints."""

    def __init__(self, config: ResNetIBN) -> None:
        super().__init__()
        self.config, widths = config, (config.stem, *config.channels)
        self.convolution = nn.Conv2d(1, config.stem, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(config.stem)
        self.stages = nn.ModuleList(self._stage(config, stage, widths[stage]) for stage in range(len(config.channels)))
        self.pool = GeneralisedMean(exponent=config.exponent)
        self.head = nn.Linear(widths[-1], config.dimensions)

    def forward(self, spectra: Tensor) -> Encoded:
        x = F.relu(self.norm(self.convolution(spectra.unsqueeze(1))))  # (batch, stem, bins / 2, frames / 2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = stage(x)
        pooled = self.pool(x).unsqueeze(1)  # (batch, 1, channels)
        return Encoded(pooled, self.fingerprints(pooled))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, dimensions) of pooled features (batch, 1, channels)."""
        return F.normalize(self.head(node_matrices.mean(dim=1)), dim=1)

    @staticmethod
    def _stage(config: ResNetIBN, stage: int, width: int) -> nn.Sequential:
        channels, stride = config.channels[stage], config.strides[stage]
        how = dict(inner=channels // config.expansion, activated=config.activated)
        how |= dict(instance=stage < config.instance_stages)
        rest = (Block(channels, channels, stride=1, **how) for _ in range(config.blocks[stage] - 1))
        return nn.Sequential(Block(width, channels, stride=stride, **how), *rest)


class Block(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, added to the input, which is mapped where its shape changes."""

    def __init__(
        self, width: int, channels: int, *, inner: int, stride: int, instance: bool, activated: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.activated = activated
        self.narrow = nn.Conv2d(width, inner, 1, bias=False)
        self.narrow_norm = HalfInstanceNorm(inner, first="instance") if instance else nn.BatchNorm2d(inner)
        self.spread = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.spread_norm = nn.BatchNorm2d(inner)
        self.widen = nn.Conv2d(inner, channels, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or width != channels:
            mapped = nn.Conv2d(width, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(mapped, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.narrow_norm(self.narrow(x)))
        h = self.spread_norm(self.spread(h))
        h = self.widen_norm(self.widen(F.relu(h) if self.activated else h))
        return F.relu(h + self.shortcut(x))


RESNET18 = ResNetIBN()
RESNET50 = ResNetIBN(
    channels=(256, 512, 1024, 2048),
    blocks=(3, 4, 6, 3),
    strides=(1, 2, 2, 2),
    expansion=4,
    instance_stages=3,
    activated=True,
)

_BLOCK_LAYERS = {  # released -> ours
    "conv1": "narrow",
    "bn1.IN": "narrow_norm.instance",
    "bn1.BN": "narrow_norm.batch",
    "conv2": "spread",
    "bn2": "spread_norm",
    "conv3": "widen",
    "bn3": "widen_norm",
    "downsample.0": "shortcut.0",
    "downsample.1": "shortcut.1",
}


def from_released(released: dict[str, Tensor], config: ResNetIBN) -> dict[str, Tensor]:
    """Released weights under the names of ResNetIBNNetwork; raises PublishedError."""
    with torch.device("meta"):
        expected = ResNetIBNNetwork(config).state_dict()
    layers = {"conv1": "convolution", "bn1": "norm", "embedding_head": "head"}
    for stage, count in enumerate(config.blocks):
        for i in range(count):
            names = {
                f"layer{stage + 1}.{i}.{theirs}": f"stages.{stage}.{i}.{own}" for theirs, own in _BLOCK_LAYERS.items()
            }
            layers |= names
    keys = layer_keys(layers, expected) | {"global_pool.p": "pool.theta"}
    return renamed(released, keys, expected)

"""Adaptive neighbourhoods (AN-GNN): the features of many sounds -> their embeddings, through a graph over all of them.

A node is a whole sound, an edge says that two sounds are near. Twice the graph is made anew, each sound takes up its
neighbours (graph convolution, Kipf and Welling) and passes through a small feed-forward layer; compared are the raw
embeddings, by Euclidean distance. How near is near is the point (Vahidi et al., WASPAA 2023, equations 4 to 7): a
relation network gives each sound a scale s, and two sounds the weight ``W_ij = exp(-d(x_i / s_i, x_j / s_j) / 2)``.

    published   as the released code runs: W only chooses who is linked, edges have no weight, and the relation network
                never gets a gradient; its scale may be 0 or negative, and then a sound may be left alone
    weighted    as the paper means it: the normalised W is the adjacency matrix, so the scales learn; they are positive
    knn         linked to the nearest by Euclidean distance, in one direction
    mlp         no graph: two layers and a projection
    linear      one matrix

All are dense matrices of PyTorch. Distances are ``|a|^2 - 2 a.b + |b|^2``, which needs no (sounds, sounds, channels).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import graph
from encoder.gnn import Encoded

Variant = Literal["published", "weighted", "knn", "mlp", "linear"]
GRAPHS = ("published", "weighted", "knn")
_TINY = 2.2e-16  # of the released code: keeps a scale or a degree of 0 from dividing


@dataclass(frozen=True, kw_only=True)
class AdaptiveGraph:
    """Sizes of the network; None: the released proportions (512 channels: 256, 128 and 64, 16)."""

    variant: Variant = "weighted"
    neighbours: int = 3  # of each sound, itself included
    blocks: int = 2
    hidden: int | None = None  # channels of the graph convolution, or of the MLP; None: half of the features
    expansion: int | None = None  # channels inside the feed-forward layers; None: a quarter
    scale: tuple[int, int] | None = None  # channels inside the relation network; None: an eighth, and a quarter of that
    drop_path: float = 0.1
    dropout: float = 0.5  # of the MLP

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(
                f"adaptive graph: variant is {self.variant!r}, expected one of {', '.join(get_args(Variant))}"
            )
        for name in ("neighbours", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"adaptive graph: {name} is {getattr(self, name)}, expected 1 or more")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"adaptive graph: {name} is {getattr(self, name)}, expected 0 or more and less than 1")

    def build(self, *, bins: int, frames: int) -> "SoundNetwork":
        """The untrained network for features of that many dimensions (bins), the mean of `frames` of them."""
        return SoundNetwork(self, channels=bins)

    def layers(self, channels: int) -> nn.Module:
        """What makes embeddings (sounds, channels) of standardised features (sounds, channels), untrained."""
        if self.variant == "linear":
            return WithoutGraph(linear(channels))
        if self.variant == "mlp":
            return WithoutGraph(mlp(channels, self.hidden or max(1, channels // 2), self.dropout))
        return GraphLayers(self, channels)


class SoundNetwork(nn.Module):
    """Features -> standardised features (the node of each sound) and its fingerprint.

    A fingerprint must not hang on what else is in the batch: it is the normalised embedding of the sound alone.
    """

    def __init__(self, config: AdaptiveGraph, *, channels: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.layers = config.layers(channels)

    def forward(self, features: Tensor) -> Encoded:  # (batch, channels, frames)
        nodes = self.standardised(features.mean(dim=2)).unsqueeze(1)  # (batch, 1, channels)
        return Encoded(nodes, self.fingerprints(nodes))

    def fingerprints(self, node_matrices: Tensor) -> Tensor:
        """Fingerprints (batch, channels) of node matrices (batch, 1, channels)."""
        return F.normalize(self.layers(node_matrices[:, 0], alone=True), dim=1)

    def embed(self, nodes: Tensor) -> Tensor:
        """Embeddings (sounds, channels) of standardised features (sounds, channels), linked to each other."""
        return self.layers(nodes)

    def fit(self, features: Tensor) -> None:
        """Take mean and standard deviation of the features (sounds, channels) that standardise all others."""
        if len(features) < 2:
            raise ValueError(f"standardisation: {len(features)} sounds, expected 2 or more")
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(features.std(dim=0).clamp(min=1e-6))

    def standardised(self, features: Tensor) -> Tensor:
        """Features (sounds, channels) with the mean 0 and the deviation 1 of those that `fit` saw."""
        return (features - self.mean) / self.deviation


class GraphLayers(nn.Module):
    """One graph block, used again in every round as released, each time with feed-forward layers of its own."""

    def __init__(self, config: AdaptiveGraph, channels: int) -> None:
        super().__init__()
        self.block = GraphBlock(config, channels)
        self.feed_forward = nn.ModuleList(FeedForward(config, channels) for _ in range(config.blocks))

    def forward(self, x: Tensor, *, alone: bool = False) -> Tensor:  # (sounds, channels)
        for feed_forward in self.feed_forward:
            x = feed_forward(self.block(x, alone=alone))
        return x


class GraphBlock(nn.Module):
    """Graph convolution to fewer channels and back, added to its input."""

    def __init__(self, config: AdaptiveGraph, channels: int) -> None:
        super().__init__()
        self.convolution = GraphConvolution(config, channels, config.hidden or max(1, channels // 2))
        self.back = nn.Sequential(nn.Linear(self.convolution.weight.shape[1], channels), nn.BatchNorm1d(channels))

    def forward(self, x: Tensor, *, alone: bool = False) -> Tensor:
        return self.back(self.convolution(x, alone=alone)) + x


class GraphConvolution(nn.Module):
    """ELU(A x W + b) with the normalised adjacency matrix A of the features (equation 4)."""

    def __init__(self, config: AdaptiveGraph, channels: int, hidden: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, hidden)))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.relation = None if config.variant == "knn" else relation(channels, config.scale)

    def forward(self, x: Tensor, *, alone: bool = False) -> Tensor:
        projected = x @ self.weight  # (sounds, hidden)
        if not alone:  # a sound alone is linked to itself: the adjacency matrix is 1
            projected = self.adjacency(x) @ projected
        return F.elu(projected + self.bias)

    def adjacency(self, x: Tensor) -> Tensor:
        """(sounds, sounds), row i: how much of each sound goes into sound i."""
        if self.config.variant == "weighted":
            return normalised(similarities(x, self.scales(x), self.config.neighbours))
        if self.config.variant == "knn":
            return by_degree(nearest(x, self.config.neighbours))
        with torch.no_grad():
            linked = normalised(similarities(x, self.scales(x), self.config.neighbours)) != 0
        return by_degree(linked.to(x.dtype))

    def scales(self, x: Tensor) -> Tensor:
        """The scale of each sound, (sounds, 1)."""
        scale = self.relation(x)
        return F.softplus(scale) + 1e-3 if self.config.variant == "weighted" else scale + _TINY


class FeedForward(nn.Module):
    """Two layers and their norms, added to their input; in training the branch of a sound is dropped at times."""

    def __init__(self, config: AdaptiveGraph, channels: int) -> None:
        super().__init__()
        inside, self.drop = config.expansion or max(1, channels // 4), config.drop_path
        self.layers = nn.Sequential(
            nn.Linear(channels, inside),
            nn.BatchNorm1d(inside),
            nn.ReLU(),
            nn.Linear(inside, channels),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.layers(x)
        if self.training and self.drop > 0:
            branch = branch * (torch.rand(len(x), 1, device=x.device) >= self.drop) / (1 - self.drop)
        return x + branch


class WithoutGraph(nn.Module):
    """Layers that see one sound at a time, called as those with a graph are."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, *, alone: bool = False) -> Tensor:
        return self.layers(x)


def relation(channels: int, sizes: tuple[int, int] | None) -> nn.Sequential:
    """The network that gives each sound its scale: three layers, the last one without activation."""
    first, second = sizes or (max(1, channels // 8), max(1, channels // 32))
    return nn.Sequential(
        nn.Linear(channels, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
    )


def mlp(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """The released MLP: two layers with norm and dropout, then a projection without bias."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Dropout(dropout),
        linear(channels),
    )  # fmt: skip


def linear(channels: int) -> nn.Linear:
    """One matrix, initialised as released."""
    layer = nn.Linear(channels, channels, bias=False)
    nn.init.kaiming_uniform_(layer.weight)
    return layer


def similarities(x: Tensor, scales: Tensor, neighbours: int) -> Tensor:
    """Symmetric W (sounds, sounds): 0 but where one of the two is among the nearest of the other; 1 on the diagonal.

    Distances are means over the channels, as released.
    """
    scaled = (x / scales).double()  # a difference of large squares
    squares = scaled.square().sum(dim=1)
    distances = (squares.unsqueeze(1) - 2 * scaled @ scaled.T + squares).clamp(min=0) / x.shape[1]
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    weights = torch.exp(-0.5 * distances.masked_fill(own, 0)).to(x.dtype)  # what underflows here, underflows there
    chosen = weights.detach().topk(min(neighbours, len(x)), dim=1).indices
    mask = torch.zeros_like(own).scatter_(1, chosen, True)
    return weights * (mask | mask.T)


def normalised(weights: Tensor) -> Tensor:
    """D^-1/2 W D^-1/2 (sounds, sounds) of symmetric weights W, D their sums (equation 7)."""
    root = (weights.sum(dim=0) + _TINY).rsqrt()
    return root.unsqueeze(1) * weights * root


def nearest(x: Tensor, neighbours: int) -> Tensor:
    """1 in row i where a sound is among the nearest of sound i by Euclidean distance, itself included."""
    index = graph.neighbours(x.detach().unsqueeze(0), min(neighbours, len(x)), metric="euclidean")[0]
    return x.new_zeros(len(x), len(x)).scatter_(1, index, 1)


def by_degree(links: Tensor) -> Tensor:
    """Links (to, from), each divided by the roots of the degrees at its ends, as DGL's GraphConv does."""
    incoming, outgoing = links.sum(dim=1).clamp(min=1), links.sum(dim=0).clamp(min=1)
    return incoming.rsqrt().unsqueeze(1) * links * outgoing.rsqrt()

"""Graph: the k-nearest-neighbour graph over the nodes of each segment and max-relative aggregation on it.

Nodes (batch, nodes, channels) are connected to their k nearest nodes of the same segment, themselves included, by
cosine similarity; each node then receives ``max_j (x_j - x_i)`` over its neighbours j (Li et al., DeepGCNs; Han et
al., Vision GNN). Two backends give the same numbers: `dense` (batched matrices, any device) and `dgl` (DGL graphs).
A dilation d takes every d-th of the k*d nearest.
"""

import os
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Backend = Literal["dense", "dgl"]
BACKENDS = ("dense", "dgl")


def max_relative(x: Tensor, k: int, *, dilation: int = 1, backend: Backend = "dense") -> Tensor:
    """max_j (x_j - x_i) over the k nearest nodes j of each node i: (batch, nodes, channels) -> same shape."""
    if k * dilation > x.shape[1]:
        raise ValueError(f"k * dilation is {k * dilation}, expected at most the {x.shape[1]} nodes of a segment")
    aggregate = {"dense": _dense, "dgl": _dgl}.get(backend)
    if aggregate is None:
        raise ValueError(f"graph backend is {backend!r}, expected one of {BACKENDS}")
    return aggregate(x, k, dilation)


def neighbours(x: Tensor, k: int, *, dilation: int = 1, metric: Literal["cosine", "euclidean"] = "cosine") -> Tensor:
    """Indices (batch, nodes, k) of the nearest nodes, nearest first, each node its own first neighbour."""
    # In full precision: half of it leaves neighbours that are nearly as near in any order.
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if metric == "cosine":
            x = F.normalize(x, dim=-1)
        products = x @ x.transpose(1, 2)  # (batch, nodes, nodes)
        squares = products.diagonal(dim1=1, dim2=2)
        distances = squares.unsqueeze(2) + squares.unsqueeze(1) - 2 * products
        return distances.topk(k * dilation, dim=-1, largest=False, sorted=True).indices[..., ::dilation]


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Neighbour features: x (batch, nodes, channels) at index (batch, nodes, k) -> (batch, nodes, k, channels)."""
    batch, nodes, channels = x.shape
    offset = torch.arange(batch, device=x.device).view(-1, 1, 1) * nodes
    return x.reshape(-1, channels)[(index + offset).flatten()].view(*index.shape, channels)


def _dense(x: Tensor, k: int, dilation: int) -> Tensor:
    # max_j (x_j - x_i) = (max_j x_j) - x_i
    return gather(x, neighbours(x, k, dilation=dilation)).amax(dim=2) - x


def _dgl(x: Tensor, k: int, dilation: int) -> Tensor:
    dgl = _import_dgl()
    batch, nodes, channels = x.shape
    unit = F.normalize(x.detach(), dim=-1)
    flat = unit.reshape(-1, channels)
    graph = dgl.segmented_knn_graph(flat, k * dilation, [nodes] * batch, algorithm="bruteforce")
    if dilation > 1:
        graph = _every(dgl, graph, flat, k, dilation)
    with graph.local_scope():
        graph.srcdata["x"] = x.reshape(-1, channels)
        graph.update_all(dgl.function.copy_u("x", "m"), dgl.function.max("m", "nearest"))
        return graph.dstdata["nearest"].view_as(x) - x


def _every(dgl, graph, flat: Tensor, k: int, dilation: int):
    """The graph with every dilation-th neighbour only; DGL returns the neighbours of a node unsorted."""
    source, target = graph.edges()
    order = target.argsort(stable=True)
    source = source[order].view(-1, k * dilation)
    distance = (flat.unsqueeze(1) - flat[source]).square().sum(-1)  # (nodes, k * dilation)
    kept = source.gather(1, distance.argsort(dim=1)[:, ::dilation])
    return dgl.graph((kept.flatten(), torch.arange(len(flat)).repeat_interleave(k)), num_nodes=len(flat))


def _import_dgl():
    # Without this variable DGL writes a configuration file into the user's home on import.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    import dgl

    return dgl

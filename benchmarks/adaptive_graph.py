"""Speed of the adaptive graph: similarities by products against the tensor of all differences, and whole networks.

    python -m benchmarks.adaptive_graph

One thread, medians, side by side in one run. `differences` is how the released code computes the same numbers: a tensor
(sounds, sounds, channels), 0.5 GB at 512 sounds of 512 channels. `apart` is the largest difference of the two.
"""

import statistics
import time
from collections.abc import Callable

import pandas
import torch
from torch import Tensor

from encoder.adaptive_graph import GRAPHS, AdaptiveGraph, similarities

CHANNELS, CALLS = 512, 5


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(pandas.DataFrame([row(sounds) for sounds in (64, 256, 512)]).set_index("sounds").round(3).to_string())
    print(pandas.DataFrame([forward(sounds) for sounds in (64, 512)]).set_index("sounds").round(1).to_string())


@torch.inference_mode()
def row(sounds: int) -> dict[str, float]:
    """Similarities alone."""
    x, scales = torch.randn(sounds, CHANNELS), 1 + torch.rand(sounds, 1)
    spent = {
        "products, ms": milliseconds(lambda: similarities(x, scales, 3)),
        "differences, ms": milliseconds(lambda: by_differences(x, scales, 3)),
    }
    apart = float((similarities(x, scales, 3) - by_differences(x, scales, 3)).abs().max())
    return {"sounds": sounds, **spent, "ratio": spent["differences, ms"] / spent["products, ms"], "apart": apart}


@torch.inference_mode()
def forward(sounds: int) -> dict[str, float]:
    """Whole networks, one graph of all sounds."""
    x, spent = torch.randn(sounds, CHANNELS), {}
    for variant in (*GRAPHS, "mlp", "linear"):
        layers = AdaptiveGraph(variant=variant).layers(CHANNELS).eval()
        spent[f"{variant}, ms"] = milliseconds(lambda layers=layers: layers(x))
    return {"sounds": sounds, **spent}


def by_differences(x: Tensor, scales: Tensor, neighbours: int) -> Tensor:
    """The same through all differences."""
    scaled = x / scales
    distances = (scaled.unsqueeze(1) - scaled.unsqueeze(0)).square().mean(dim=2)
    weights = torch.exp(-0.5 * distances)
    mask = torch.zeros_like(weights, dtype=torch.bool).scatter_(1, weights.topk(neighbours, dim=1).indices, True)
    return weights * (mask | mask.T)


def milliseconds(call: Callable[[], object]) -> float:
    """Median of several calls."""
    spent = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)


if __name__ == "__main__":
    main()

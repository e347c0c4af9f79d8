"""Published: the released NeuralSampleID classifier as ours.

The architecture is the same; the released position embedding is frozen random numbers, and its file holds a bare state
dictionary whose attention projections are stacked (query, key, value).
"""

from pathlib import Path

import torch
from torch import Tensor

from encoder.released import PublishedError, layer_keys, read_released, renamed
from reranker.cross_attention import CrossAttention, CrossAttentionConfig

_STACKED = ("query", "key", "value")  # in attn.in_proj_weight and attn.in_proj_bias
_LAYERS = {"attn.out_proj": "output", "fc.0": "hidden", "fc.3": "logit"} | {f"attn.{name}": name for name in _STACKED}


def import_classifier(path: Path) -> CrossAttention:
    """The classifier of a released .pth file, in eval mode; raises PublishedError."""
    config = CrossAttentionConfig()
    network = CrossAttention(config)
    network.load_state_dict(from_released(read_released(path), config))
    return network.eval()


def from_released(released: dict[str, Tensor], config: CrossAttentionConfig) -> dict[str, Tensor]:
    """Released weights under the names and in the shapes of CrossAttention; raises PublishedError."""
    with torch.device("meta"):
        expected = CrossAttention(config).state_dict()
    keys = layer_keys(_LAYERS, expected) | {"positional_embedding": "positions"}
    return renamed(_unstacked(released), keys, expected)


def _unstacked(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value each under a name of its own, and the position embedding without its batch dimension."""
    weights = dict(released)
    for part in ("weight", "bias"):
        stacked = weights.pop(f"attn.in_proj_{part}", None)
        if stacked is None:
            raise PublishedError(f"released checkpoint: attn.in_proj_{part} is missing; is it the classifier's file?")
        if len(stacked) % len(_STACKED):
            raise PublishedError(
                f"released checkpoint: attn.in_proj_{part} has {len(stacked)} rows, expected 3 x channels"
            )
        weights |= {f"attn.{name}.{part}": rows for name, rows in zip(_STACKED, stacked.chunk(3), strict=True)}
    if "positional_embedding" in weights:
        weights["positional_embedding"] = weights["positional_embedding"].flatten(0, -2)
    return weights

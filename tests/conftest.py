"""Parity with the released NeuralSampleID code: its outputs, and the weights that made them.

`outputs` runs a test on the excerpt in tests/fixtures, and once more on the whole recorded outputs where the folder
`shared` lies beside the checkout. The weights are not stored: every value follows from its key, shape and a seed.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

EXCERPT = Path(__file__).parent / "fixtures" / "neuralsampleid"
WHOLE = Path(__file__).parents[1] / ".." / "shared" / "reference" / "fixtures" / "neuralsampleid"


@pytest.fixture(params=["excerpt", "whole"])
def outputs(request):
    """``outputs(name)``: recorded arrays by name, from proc_1, clf_direct or frontend."""
    folder = {"excerpt": EXCERPT, "whole": WHOLE}[request.param]
    if not folder.is_dir():
        pytest.skip("the folder shared, with the whole recorded outputs, is not beside the checkout")
    return lambda name: dict(np.load(folder / f"{name}.npz"))


@pytest.fixture(scope="session")
def released_weights():
    """``released_weights(network, seed=1)``: state dictionary of the "encoder" or "classifier" under released keys."""
    shapes = json.loads((EXCERPT / "released_shapes.json").read_text())

    def weights(network: str, seed: int = 1) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(procedural(key, shape, seed)) for key, shape in shapes[network].items()}

    return weights


@pytest.fixture(scope="session")
def recorded():
    """``recorded(network)``: weights of a network of which no excerpt is kept, and all recorded outputs."""
    if not WHOLE.is_dir():
        pytest.skip("the folder shared, with the whole recorded outputs, is not beside the checkout")
    shapes = json.loads((WHOLE / "state_dict_keys.json").read_text())

    def recorded(network: str) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
        weights = {key: torch.from_numpy(procedural(key, shape, 1)) for key, shape in shapes[network].items()}
        return weights, dict(np.load(WHOLE / "proc_1.npz"))

    return recorded


def procedural(key: str, shape: list[int], seed: int) -> np.ndarray:
    """Normal numbers seeded by the key, scaled as suits the kind of weight."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    random = np.random.RandomState((zlib.crc32(key.encode()) + 1_000_003 * seed) % 2**32)
    normal = random.standard_normal(int(np.prod(shape))).reshape(shape)
    if key == "positional_embedding":
        values = normal
    elif key.endswith("running_mean"):
        values = 0.1 * normal
    elif key.endswith("running_var"):
        values = 1 + 0.2 * np.abs(normal)
    elif len(shape) > 1:
        values = normal * np.sqrt(2 / np.prod(shape[1:]))
    elif key == "global_pool.p":
        values = 3 + 0.1 * normal  # exponent of generalised means
    elif key.endswith(".weight"):
        values = 1 + 0.1 * normal  # scale of a norm
    else:
        values = 0.05 * normal  # bias
    return values.astype(np.float32)

"""Released: checkpoint files of the published training code -> weights under our names; what does not fit is refused.

A .pth file is a pickle; it is read with everything but tensors, numbers and plain containers refused, so that nothing
in it is ever executed. Settings that a file holds as objects of a known package are stepped over: each becomes an empty
shell of ours, of whatever class it said it was.

    ValueError
     └─ PublishedError     missing, no checkpoint, holding code, or made for another network
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PICKLE = b"\x80"  # first byte of checkpoints from before torch's zip format
# Losses and accuracies beside the weights may be numpy scalars, under numpy's old module name; they hold no code.
_NUMBERS = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
]


# What settings objects are built with besides their own classes.
_SETTINGS = ("typing.Any", "collections.defaultdict", "builtins.dict", "builtins.list")


class PublishedError(ValueError):
    """A released checkpoint that cannot be used; the message says why and what to do."""


class _Shell:
    """Stands for an object that is stepped over."""

    def __init__(self, *values: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_released(path: Path, *, within: str = "state_dict", inert: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights in a released .pth file under their released names, without executing anything that is in it.

    Accepts a bare state dictionary or a training checkpoint that holds one under `within`; strips ``module.``. Objects
    of packages whose names start with one of `inert` are stepped over, all others refused.
    """
    path = Path(path)
    if not path.is_file():
        raise PublishedError(f"{path}: no such file, expected a released .pth checkpoint")
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start.lower().startswith((b"<!doctype", b"<html")):
        raise PublishedError(f"{path}: is a web page, expected a .pth checkpoint; download the file itself")
    if not zipfile.is_zipfile(path) and not start.startswith(_PICKLE):
        raise PublishedError(f"{path}: is no .pth checkpoint or only a part of one; download it again")
    return _weights(_loaded(path, inert), path, within)


def renamed(
    released: dict[str, Tensor], keys: dict[str, str], expected: dict[str, Tensor], *, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Weights under our keys, in the shapes of `expected`; `keys` maps released ones to ours.

    Batch counters are left out, and so are keys starting with one of `ignored`. Raises PublishedError.
    """
    given = [k for k in released if not k.endswith("num_batches_tracked") and not k.startswith(ignored)]
    _refuse("are missing", [k for k in keys if k not in released])
    _refuse("are unexpected", [k for k in given if k not in keys])
    shaped = {k: _shaped(released[k], expected[ours]) for k, ours in keys.items()}
    _refuse("have another shape", [f"{k} {tuple(released[k].shape)}" for k, weight in shaped.items() if weight is None])
    return {ours: shaped[k] for k, ours in keys.items()}


def layer_keys(layers: dict[str, str], expected: dict[str, Tensor]) -> dict[str, str]:
    """Released keys -> ours, for all weights in `expected` of the layers that `layers` maps from released to ours."""
    return {
        f"{released}.{part}": f"{ours}.{part}"
        for released, ours in layers.items()
        for part in ("weight", "bias", "running_mean", "running_var")
        if f"{ours}.{part}" in expected
    }


def _shaped(weight: Tensor, expected: Tensor) -> Tensor | None:
    """A released convolution as the linear map that does the same, anything else as it is; None where it cannot fit."""
    if weight.ndim > 2 and expected.ndim == 2:
        # (outputs, inputs, width) -> (outputs, width * inputs), as Downsampling lays out its windows
        weight = weight.flatten(2).transpose(1, 2).flatten(1)
    return weight.float().contiguous() if weight.shape == expected.shape else None


def _loaded(path: Path, inert: tuple[str, ...]) -> Any:
    try:
        with torch.serialization.safe_globals([*_NUMBERS, *_shells(path, inert)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PublishedError(
            f"{path}: holds code or objects, which are never loaded, expected weights and numbers only"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise PublishedError(f"{path}: cannot be read as a .pth checkpoint; download it again") from error


def _shells(path: Path, inert: tuple[str, ...]) -> list[tuple[type, str]]:
    """A shell for each kind of object in the file that is to be stepped over."""
    if not inert or not zipfile.is_zipfile(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Shell, name) for name in names if name.startswith(inert) or name in _SETTINGS]


def _weights(content: Any, path: Path, within: str) -> dict[str, Tensor]:
    weights = content.get(within, content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise PublishedError(
            f"{path}: holds no dictionary of weights, expected a {within}; is it another kind of file?"
        )
    return {str(key).removeprefix("module."): weight for key, weight in weights.items()}


def _refuse(what: str, keys: list[str]) -> None:
    if keys:
        named = ", ".join(sorted(keys)[:3]) + (" ..." if len(keys) > 3 else "")
        raise PublishedError(
            f"released checkpoint: {len(keys)} weights {what} ({named}); is it the file for this network and this size?"
        )

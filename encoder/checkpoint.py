"""Checkpoint: weights and the whole configuration in one safetensors file; nothing in it is executed.

The configuration is JSON in the file's header: nested dataclasses, each with its `kind`. The digest covers weights
and configuration, so that an index can name the encoder it belongs to.

    ValueError
     └─ CheckpointError     missing, unreadable, of another kind, or at odds with the code
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_HEADER = "asid"
_FORMAT = 1


class CheckpointError(ValueError):
    """The file is no checkpoint that this version can use; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A configuration with its weights, and where they come from."""

    config: Any  # dataclass: encoder.systems.System or reranker.cross_attention.CrossAttentionConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any]  # free record: data, command, seed, versions, figures
    digest: str  # sha256 of configuration and weights, 64 hexadecimal digits

    def restore(self, network: nn.Module) -> nn.Module:
        """The network with these weights, in eval mode."""
        try:
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in self.weights.items()})
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise CheckpointError(f"weights do not fit their configuration: {reason}") from error
        return network.eval()

    def part(self, prefix: str, *configs: Any) -> str:
        """Digest of the weights whose names begin so, and of the configurations that they rest on."""
        weights = {name: value for name, value in self.weights.items() if name.startswith(prefix)}
        return digest(to_plain(configs), weights)


def save(path: Path, config: Any, network: nn.Module, *, provenance: dict[str, Any], half: bool = True) -> str:
    """Write a checkpoint (matrices as float16 unless `half` is off) in one step; returns its digest."""
    weights = {k: _stored(v.detach().cpu(), half) for k, v in network.state_dict().items()}
    plain = to_plain(config)
    header = {"format": _FORMAT, "config": plain, "provenance": provenance, "digest": digest(plain, weights)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    try:
        save_file(weights, unfinished, metadata={_HEADER: json.dumps(header)})
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error}); free the disk, then go on") from error
    unfinished.chmod(0o644)  # safetensors writes for the owner only; an installation may serve others
    os.replace(unfinished, path)
    return header["digest"]


def load(path: Path, *kinds: type) -> Checkpoint:
    """Read a checkpoint whose configuration is built of the dataclasses `kinds`, the first being the outermost."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train one or leave the option away for the shipped weights")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            header = {name: header[name] for name in ("format", "config", "provenance", "digest")}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: is no asid checkpoint; released .pth files go through import-published"
        ) from error
    if header["format"] != _FORMAT:
        raise CheckpointError(f"{path}: has format {header['format']}, expected {_FORMAT}; update asid")
    found = digest(header["config"], weights)
    if found != header["digest"]:
        raise CheckpointError(
            f"{path}: contents {found[:12]} are not those saved ({header['digest'][:12]}); copy it again"
        )
    if header["config"].get("kind") != kinds[0].__name__:
        raise CheckpointError(f"{path}: holds a {header['config'].get('kind')}, expected a {kinds[0].__name__}")
    config = from_plain(header["config"], {kind.__name__: kind for kind in kinds}, path)
    return Checkpoint(config=config, weights=weights, provenance=header["provenance"], digest=found)


def digest(plain: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """sha256 over the configuration and all weights in the order of their names."""
    total = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def to_plain(value: Any) -> Any:
    """Nested dataclasses as JSON values, each with its `kind`."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return [to_plain(v) for v in value] if isinstance(value, list | tuple) else value


def from_plain(value: Any, kinds: dict[str, type], path: Path) -> Any:
    """The inverse of `to_plain`; unknown kinds and keys are refused."""
    if isinstance(value, list):
        return tuple(from_plain(v, kinds, path) for v in value)
    if not isinstance(value, dict):
        return value
    fields = {k: from_plain(v, kinds, path) for k, v in value.items() if k != "kind"}
    try:
        return kinds[value["kind"]](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: configuration is not of this version ({error}); update asid") from error


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # One-dimensional tensors (norms, biases, running statistics) stay exact: they are small, and variances overflow.
    return (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()

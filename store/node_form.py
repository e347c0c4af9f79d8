"""The form in which node matrices are kept: whole, or projected to fewer channels and rounded to bytes.

A node matrix is by far the largest thing kept of a segment: 32 x 512 float16 are 32 KiB. In the compact form each node
is projected onto a few directions (the leading singular vectors of many nodes) and each coordinate is rounded to a
byte in steps of its own: 32 x 64 bytes are 2 KiB. What is read is multiplied back, so that whoever reads sees node
matrices of the usual shape.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

_LARGEST = 127
_CURE = "make one with `asid train compact`"
_STEPS = 6.0  # standard deviations of a coordinate that fit into a byte


class NodeForm:
    """Whole node matrices, float16."""

    name = "full"
    channels: int | None = None  # kept of a node; None: all
    dtype = np.dtype("<f2")

    def kept(self, node_matrices: NDArray[np.float16]) -> NDArray:
        """What is kept of node matrices (segments, nodes, channels)."""
        return node_matrices

    def whole(self, kept: NDArray) -> NDArray[np.float16]:
        """Node matrices from what was kept."""
        return kept


FULL = NodeForm()


@dataclass(frozen=True, kw_only=True, eq=False)
class CompactForm(NodeForm):
    """Coordinates of each node in a basis, a byte each."""

    digest: str  # of the encoder it was made for
    basis: NDArray[np.float32]  # (channels, coordinates), orthonormal columns
    steps: NDArray[np.float32]  # (coordinates,), what one unit of a byte stands for

    dtype = np.dtype("i1")

    @property
    def channels(self) -> int:
        """Coordinates of a node."""
        return self.basis.shape[1]

    @property
    def name(self) -> str:
        """Names basis and steps; what was kept in another form cannot be read with this one."""
        content = hashlib.blake2b(self.basis.tobytes() + self.steps.tobytes(), digest_size=6)
        return f"compact-{content.hexdigest()}"

    def kept(self, node_matrices: NDArray[np.float16]) -> NDArray[np.int8]:
        """Bytes (segments, nodes, coordinates)."""
        coordinates = node_matrices.astype(np.float32) @ (self.basis / self.steps)
        return np.clip(np.rint(coordinates), -_LARGEST, _LARGEST).astype(np.int8)

    def whole(self, kept: NDArray[np.int8]) -> NDArray[np.float16]:
        """Node matrices (segments, nodes, channels)."""
        return (kept.astype(np.float32) @ (self.basis * self.steps).T).astype(np.float16)

    @classmethod
    def fit(cls, nodes: NDArray[np.floating], *, coordinates: int, digest: str) -> Self:
        """The basis that loses least of these nodes (nodes, channels), and steps that hold nearly all of them."""
        nodes = np.asarray(nodes, np.float32)
        if not 1 <= coordinates <= min(nodes.shape):
            raise ValueError(f"coordinates must lie in 1..{min(nodes.shape)}, got {coordinates}; give more nodes")
        _, vectors = np.linalg.eigh(nodes.T @ nodes)  # eigenvalues rise
        basis = np.ascontiguousarray(vectors[:, ::-1][:, :coordinates])
        spread = np.sqrt(np.mean(np.square(nodes @ basis), axis=0))
        steps = np.maximum(spread * _STEPS / _LARGEST, np.finfo(np.float32).tiny)  # nodes may not reach so far
        return cls(digest=digest, basis=basis, steps=steps.astype(np.float32))

    def save(self, path: Path) -> None:
        """Write it as a safetensors file."""
        save_file({"basis": self.basis, "steps": self.steps}, path, metadata={"encoder": self.digest})

    @classmethod
    def load(cls, path: Path, *, encoder: str) -> Self:
        """Read what ``save`` wrote; ValueError where it is no such file or was made for another encoder."""
        try:
            with safe_open(path, framework="numpy") as file:
                found = cls(
                    digest=file.metadata()["encoder"], basis=file.get_tensor("basis"), steps=file.get_tensor("steps")
                )
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no compact form of node matrices ({error}); {_CURE}") from error
        if found.digest != encoder:
            raise ValueError(f"{path} was made for encoder {found.digest[:12]}, this one is {encoder[:12]}; {_CURE}")
        return found


def shipped() -> Path:
    """The compact form that comes with the shipped encoder."""
    return Path(str(resources.files("encoder") / "weights" / "asid-compact.safetensors"))


def shipped_for(digest: str) -> NodeForm:
    """The shipped compact form where it is of this encoder, else whole node matrices."""
    with safe_open(shipped(), framework="numpy") as file:
        made_for = file.metadata()["encoder"]
    return CompactForm.load(shipped(), encoder=digest) if made_for == digest else FULL

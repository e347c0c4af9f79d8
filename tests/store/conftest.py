"""Stores of every kind behind one fixture, and tracks made of seeded noise."""

import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from encoder.encoding import Encoding
from store.fingerprints import IndexSettings
from store.identity import Identity
from store.memory import MemoryReferences
from store.references import References

NODES, CHANNELS, DIMENSIONS = 3, 4, 16
SHAPES = {"nodes": NODES, "channels": CHANNELS, "dimensions": DIMENSIONS, "hop": 0.5, "segment_duration": 4.0}
SERVER = os.environ.get("ASID_TEST_MILVUS_URI", "")


@pytest.fixture
def shapes():
    return dict(SHAPES)


@pytest.fixture
def encode():
    """``encode(seed, indices)``: one block with these segments; a seed gives each index the same values every time."""

    def encode(seed: int, indices) -> Encoding:
        indices = np.array(list(indices), np.int64)
        length = int(indices.max()) + 1 if len(indices) else 0
        fingerprints = np.random.default_rng(seed).standard_normal((length, DIMENSIONS)).astype(np.float32)
        fingerprints /= np.linalg.norm(fingerprints, axis=1, keepdims=True)
        node_matrices = np.random.default_rng(seed + 1000).standard_normal((length, NODES, CHANNELS)).astype(np.float16)
        return Encoding(
            segment_indices=indices,
            fingerprints=fingerprints[indices],
            node_matrices=node_matrices[indices],
            hop=0.5,
            segment_duration=4.0,
        )

    return encode


@pytest.fixture
def files(tmp_path):
    """``files(3)``: paths of three small files with different content."""

    def files(count: int) -> list[Path]:
        folder = tmp_path / "audio"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{number}.wav" for number in range(count)]
        for path in paths:
            path.write_bytes(path.name.encode())
        return paths

    return files


@pytest.fixture
def open_references(tmp_path):
    """``open_references(**changes)``: the default store on disk; closed at the end of the test."""
    opened = []

    def open_references(**changes) -> References:
        shapes = {name: changes.pop(name) for name in Identity.__dataclass_fields__ if name in changes}
        identity = Identity(**{"digest": "0123456789abcdef", **SHAPES, **shapes})
        opened.append(References.open(tmp_path / "data", identity, **changes))
        return opened[-1]

    yield open_references
    for references in opened:
        references.close()


@pytest.fixture(params=["memory", "lite", "server"])
def references(request, tmp_path):
    """Empty references of each kind."""
    digest = uuid.uuid4().hex
    if request.param == "memory":
        yield MemoryReferences(Identity(digest=digest, **SHAPES))
        return
    if request.param == "server" and not SERVER:
        pytest.skip("ASID_TEST_MILVUS_URI names no Milvus server; `make test-server` starts one")
    index = IndexSettings(m=8, nlist=16, nprobe=16)  # of the kind that the server gets by default
    server = {"milvus_uri": SERVER, "alias": f"asid_{digest[:12]}", "index": index} if request.param == "server" else {}
    with References.open(tmp_path / "data", Identity(digest=digest, **SHAPES), **server) as references:
        yield references
        references._fingerprints.drop()

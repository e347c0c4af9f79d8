"""Import of released files: NeuralSampleID's two .pth files, or CLEWS' one, -> checkpoints of ours."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from encoder import checkpoint, systems
from encoder.clews import import_clews
from encoder.published import import_encoder
from reranker.checkpoint import Reranker
from reranker.published import import_classifier


def import_released(
    model: Path, classifier: Path, out: Path, *, graph_blocks: Literal["bypassed", "active"] = "bypassed"
) -> tuple[Path, Path]:
    """Write out/encoder.safetensors and out/reranker.safetensors, at full precision; nothing pickled is executed."""
    network = import_encoder(model, graph_blocks=graph_blocks)
    attention = import_classifier(classifier)
    paths = out / "encoder.safetensors", out / "reranker.safetensors"
    system = replace(systems.named("neuralsampleid-published"), network=network.config)
    source = {"imported_from": [model.name, classifier.name]}
    digest = checkpoint.save(paths[0], system, network, provenance=source, half=False)
    config = Reranker(classifier=attention.config, encoder=digest)
    checkpoint.save(paths[1], config, attention, provenance=source, half=False)
    return paths


def import_released_clews(model: Path, out: Path) -> Path:
    """Write out/encoder.safetensors at full precision; nothing pickled is executed."""
    network, path = import_clews(model), out / "encoder.safetensors"
    system = replace(systems.named("clews"), network=network.config)
    checkpoint.save(path, system, network, provenance={"imported_from": [model.name]}, half=False)
    return path

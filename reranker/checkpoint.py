"""The reranker's checkpoint: a classifier and the digest of the encoder whose node matrices it reads."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from encoder import checkpoint
from encoder.checkpoint import Checkpoint, CheckpointError
from reranker.cross_attention import CrossAttention, CrossAttentionConfig


@dataclass(frozen=True, kw_only=True)
class Reranker:
    """Configuration of a reranker checkpoint."""

    classifier: CrossAttentionConfig
    encoder: str  # digest; a classifier is of no use with another encoder


def shipped() -> Path:
    """The reranker checkpoint that comes with the package, trained for the shipped encoder."""
    return Path(str(resources.files("reranker") / "weights" / "asid.safetensors"))


def digest(path: Path | None) -> str:
    """Of the classifier at `path`, or of the shipped one."""
    return _loaded(path or shipped()).digest


def _loaded(path: Path) -> Checkpoint:
    return checkpoint.load(path, Reranker, CrossAttentionConfig)


def load(path: Path | None, *, encoder: str) -> CrossAttention:
    """The classifier at `path`, or the shipped one; raises CheckpointError where it is not made for this encoder."""
    path = path or shipped()
    loaded = _loaded(path)
    if loaded.config.encoder != encoder:
        raise CheckpointError(
            f"{path}: made for encoder {loaded.config.encoder[:12]}, in use is {encoder[:12]}; "
            "give the reranker trained with this encoder, or search with --rank-by similarity"
        )
    return loaded.restore(CrossAttention(loaded.config.classifier))

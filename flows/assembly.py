"""Assembly: from settings, the encoder, the catalogue and the searcher that a command or a flow works with."""

import os

import torch

from encoder.encode import Encoder
from flows.settings import Settings
from reranker import checkpoint as reranker_checkpoint
from reranker.search import Searcher
from store.catalogue import Track
from store.references import References


def encoder(settings: Settings) -> Encoder:
    """The encoder that the settings name; raises CheckpointError."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but PyTorch sees no GPU here; use --device cpu")
    return Encoder(settings.encoder, device=settings.device)


def references(settings: Settings, made_by: Encoder, *, read_only: bool = False) -> References:
    """The catalogue under the data directory; raises IndexMismatch, IndexUnavailable, FileNotFoundError."""
    return References.open(
        settings.data,
        digest=made_by.digest,
        nodes=made_by.nodes,
        channels=made_by.channels,
        dimensions=made_by.dimensions,
        hop=made_by.grid.hop,
        segment_duration=made_by.grid.duration,
        milvus_uri=settings.milvus_uri,
        milvus_token=os.environ.get("ASID_MILVUS_TOKEN", ""),
        ledger_url=settings.ledger_url,
        index=settings.index,
        read_only=read_only,
    )


def searcher(settings: Settings, catalogue: References, asking: Encoder, *, rerank: bool = True) -> Searcher:
    """Ready to answer; without `rerank` candidates keep their similarity as score."""
    classifier = None
    if rerank:
        classifier = reranker_checkpoint.load(settings.reranker, encoder=asking.digest).to(asking.device)
    return Searcher(asking, catalogue, classifier, settings.ranking)


def the_track(catalogue: References, wanted: str) -> Track:
    """The one stored track of that number, path or title; LookupError where there is none or more than one."""
    found = [t for t in catalogue.catalogue.find(int(wanted) if wanted.isdigit() else wanted) if t.state == "stored"]
    if len(found) != 1:
        numbers = ", ".join(f"{t.number} ({t.path})" for t in found[:5])
        raise LookupError(
            f"{wanted}: {f'fits {len(found)} tracks: {numbers}; give the number' if found else 'no such track'}"
        )
    return found[0]

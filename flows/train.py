"""The training flows: a stem cache -> an encoder checkpoint; stem cache and encoder -> a reranker checkpoint, or the
compact form of node matrices.

The loops themselves are generators of the domain (encoder/training/train.py, reranker/train.py); the flows pass their
records on and publish the curve as an artifact.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

import reranker.train
from encoder import allocator, encode
from encoder.systems import System
from encoder.training import contrast, train
from encoder.training.schedule import Schedule
from encoder.training.stem_cache import StemCache
from flows import assembly
from flows.settings import Settings
from reranker import checkpoint as reranker_checkpoint
from reranker import compact, verify_training
from reranker.compact import Cost
from reranker.train import RerankerSchedule
from store.node_form import FULL

Progress = Callable[[Any], None]


@flow(name="train-encoder")
def train_encoder(
    cache: Path,
    system: System,
    out: Path,
    *,
    start: Path | None = None,
    device: str = "cpu",
    resume: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Train an encoder, one record per epoch; returns the checkpoint of the best one."""
    allocator.keep_memory()
    device = assembly.usable(device)
    records = train.train(StemCache.open(cache), system, out, start=start, device=device, resume=resume)
    _follow("encoder-training", records, progress)
    return out / train.FILE


@flow(name="train-contrast")
def train_contrast(
    cache: Path,
    encoder: Path | None,
    out: Path,
    *,
    schedule: Schedule,
    device: str = "cpu",
    resume: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Train the contrast network of an encoder; returns the encoder's checkpoint with the best one."""
    allocator.keep_memory()
    device = assembly.usable(device)
    begun = encoder or encode.shipped()
    records = contrast.train(StemCache.open(cache), begun, out, schedule=schedule, device=device, resume=resume)
    _follow("contrast-training", records, progress)
    return out / contrast.FILE


@flow(name="train-verifier")
def train_verifier(
    cache: Path,
    encoder: Path | None,
    out: Path,
    *,
    schedule: Schedule,
    start: Path | None = None,
    device: str = "cpu",
    resume: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Train a verifier of an encoder's contrast features; returns the checkpoint of the best epoch."""
    frozen = assembly.encoder(Settings(encoder=encoder, device=device))
    how = dict(schedule=schedule, start=start, device=device, resume=resume)
    records = verify_training.train(StemCache.open(cache), frozen, out, **how)
    _follow("verifier-training", records, progress)
    return out / verify_training.FILE


@flow(name="train-reranker")
def train_reranker(
    cache: Path,
    encoder: Path | None,
    out: Path,
    *,
    schedule: RerankerSchedule,
    device: str = "cpu",
    resume: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Train a reranker on the node matrices of a frozen encoder; returns the checkpoint of the best epoch."""
    frozen = assembly.encoder(Settings(encoder=encoder, device=device))
    records = reranker.train.train(StemCache.open(cache), frozen, out, schedule=schedule, device=device, resume=resume)
    _follow("reranker-training", records, progress)
    return out / reranker.train.FILE


@flow(name="train-compact")
def train_compact(cache: Path, encoder: Path | None, reranker: Path | None, out: Path) -> list[Cost]:
    """Fit the compact form of an encoder's node matrices, write it, and say what it costs the reranker."""
    frozen = assembly.encoder(Settings(encoder=encoder))
    kept = StemCache.open(cache)
    form = compact.fit(kept, frozen)
    out.parent.mkdir(parents=True, exist_ok=True)
    form.save(out)
    costs = compact.cost(kept, frozen, reranker_checkpoint.load(reranker, encoder=frozen.digest), [FULL, form])
    create_table_artifact(key="compact-node-matrices", table=[asdict(cost) for cost in costs])
    return costs


def _follow(key: str, records: Iterator[Any], progress: Progress | None) -> None:
    rows = []
    for record in records:
        if progress:
            progress(record)
        rows.append(asdict(record))
        create_table_artifact(key=key, table=rows)

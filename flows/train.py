"""The training flows: a stem cache -> an encoder checkpoint; stem cache and encoder -> a reranker checkpoint.

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
from reranker.train import RerankerSchedule

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


def _follow(key: str, records: Iterator[Any], progress: Progress | None) -> None:
    rows = []
    for record in records:
        if progress:
            progress(record)
        rows.append(asdict(record))
        create_table_artifact(key=key, table=rows)

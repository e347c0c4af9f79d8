"""Capacity: what a catalogue of a given size needs, before anything is bought.

Bytes follow from the shapes that the encoder writes; an inverted index with product quantisation keeps of a fingerprint
its codes and its id, on a CPU as on a GPU. What cannot be computed was measured, and says where: the time an ingestion
takes, the size from which Milvus Lite is slow, and how many right references a growing catalogue crowds off the short
list.
"""

import math
from dataclasses import dataclass

import numpy as np

from store.identity import Identity

_ID_BYTES = 8
_COMPACT_BYTES = 64  # of a node
_LEDGER_BYTES = 620  # of a row with its indexes; SQLite had 603 for each of 20,000
_CHECKSUMS = 1.02  # indexes and checksums of Zarr, and what pads a track's last chunk

LITE = 200_000  # segments to which Milvus Lite suits (docs/scale.md)
_STANDALONE_BYTES, _GPU_BYTES = 48 << 30, 64 << 30  # of one machine's or one GPU's memory, left for the index


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the plan takes from measurements; docs/scale.md has the commands.

    Recall of the short list was measured among real music up to the last of `sizes`. Beyond, it falls for each factor
    of ten as fast as under tiled music up to a million; at worst as among the last real music, at best as under the
    first tiles.
    """

    speed: float = 130.0  # seconds of audio a second, by one worker of two threads on one core
    sizes: tuple[int, ...] = (10_000, 30_000, 100_000, 135_000)  # segments
    recall: tuple[float, ...] = (1.0, 0.988, 0.950, 0.900)
    slopes: tuple[float, float, float] = (-0.26, -0.38, -0.16)  # expected, worst, best
    error: float = 0.10  # half of the 95 % interval over 80 queries, where it is widest


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a catalogue needs."""

    tracks: int
    hours: float  # of audio
    segments: int  # vectors in Milvus
    milvus_raw: int  # bytes
    milvus_quantised: int  # bytes, on a CPU or a GPU
    zarr_full: int  # bytes, with whole node matrices
    zarr_compact: int
    ledger: int
    worker_hours: float  # of ingestion, on workers of one core
    topology: str
    recall: tuple[float, float, float]  # of the short list: expected, low, high
    measured: bool  # whether the recall lies within what was measured


def plan(identity: Identity, *, tracks: int, minutes: float, m: int = 64, measured: Measured = Measured()) -> Need:
    """The need of so many tracks of so many minutes; ValueError for none."""
    if tracks < 1 or not minutes > 0:
        raise ValueError(f"{tracks} tracks of {minutes} minutes, expected at least one of more than 0")
    hops = math.ceil(60 * minutes / identity.hop)
    segments = tracks * max(1, hops - math.ceil(identity.segment_duration / identity.hop) + 1)
    row = 2 * identity.dimensions + identity.contrast_frames * identity.semitones
    quantised = segments * (m + _ID_BYTES)
    return Need(
        tracks=tracks,
        hours=tracks * minutes / 60,
        segments=segments,
        milvus_raw=segments * (4 * identity.dimensions + _ID_BYTES),
        milvus_quantised=quantised,
        zarr_full=_zarr(tracks * hops, row + 2 * identity.nodes * identity.channels),
        zarr_compact=_zarr(tracks * hops, row + _COMPACT_BYTES * identity.nodes),
        ledger=tracks * _LEDGER_BYTES,
        worker_hours=tracks * minutes / 60 / measured.speed,
        topology=topology(segments, quantised),
        recall=_recall(segments, measured),
        measured=segments <= measured.sizes[-1],
    )


def topology(segments: int, quantised: int) -> str:
    """The smallest installation that holds the index."""
    if segments <= LITE:
        return "Milvus Lite, nothing to start (deploy/settings/laptop.toml)"
    if quantised <= _STANDALONE_BYTES:
        return "Milvus standalone, IVF_PQ in memory (deploy/settings/server.toml)"
    if quantised <= _GPU_BYTES:
        return "Milvus standalone with one GPU of 80 GB, GPU_IVF_PQ (deploy/compose.yaml)"
    nodes = math.ceil(quantised / _GPU_BYTES)
    return f"Milvus Distributed, {nodes} query nodes with a GPU of 80 GB each (deploy/milvus-values.yaml)"


def _zarr(rows: int, row_bytes: int) -> int:
    return int(rows * row_bytes * _CHECKSUMS)


def _recall(segments: int, measured: Measured) -> tuple[float, float, float]:
    known = float(np.interp(math.log10(segments), np.log10(measured.sizes), measured.recall))
    beyond = max(0.0, math.log10(segments / measured.sizes[-1]))
    found = (known + slope * beyond for slope in measured.slopes)
    return tuple(min(1.0, max(0.0, r + off)) for r, off in zip(found, (0.0, -measured.error, measured.error)))

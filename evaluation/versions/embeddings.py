"""Embeddings of recordings for version identification: a track -> one vector for every window of it.

Vectors are what a system compares: the raw embedding where it keeps one (CLEWS), its fingerprints otherwise.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoder import audio, segments
from encoder.encode import SILENCE, Encoder
from encoder.encoding import Encoding

_BATCH = 16  # windows embedded at a time


def whole_track(encoder: Encoder, path: Path, *, longest: float) -> NDArray[np.float32]:
    """(windows, dimensions) of a track's first `longest` seconds, on the encoder's grid; raises AudioError."""
    return vectors(encoder.encode_waveform(_beginning(encoder, path, longest)))


def vectors(encoding: Encoding) -> NDArray[np.float32]:
    """What is compared of each segment, (segments, dimensions)."""
    if encoding.node_matrices.shape[1] == 1:
        return encoding.node_matrices[:, 0].astype(np.float32)
    return encoding.fingerprints


def windows(encoder: Encoder, path: Path, *, seconds: float, longest: float) -> NDArray[np.float32]:
    """(windows, dimensions) for every window of `seconds` that starts on a hop of the encoder's grid.

    Shorter than a shingle, a window is repeated until it fills one; longer, it is embedded whole. For systems that cut
    before their front end; ValueError for others.
    """
    grid = encoder.grid
    if not grid.shingled:
        raise ValueError(f"system {encoder.system.name} has segments of one length, expected one that is shingled")
    frames = max(1, round(seconds * grid.sample_rate / grid.frame_hop))
    cut = replace(grid, frames=frames, minimum_samples=frames * grid.frame_hop)
    sound, shingle = _beginning(encoder, path, longest), grid.window(1, 0)
    found = []
    for block in segments.blocks([sound], cut, encoder.front_end.config.n_fft):
        parts = torch.from_numpy(block.samples).unfold(0, cut.window(1, 0), cut.step * cut.frame_hop)
        parts = parts[parts.square().mean(dim=1).sqrt() > SILENCE]
        for part in parts.split(_BATCH):
            if part.shape[1] < shingle:
                part = part.repeat(1, -(-shingle // part.shape[1]))[:, :shingle]
            found.append(encoder.embed(part).node_matrices[:, 0].cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, encoder.channels), np.float32)


def _beginning(encoder: Encoder, path: Path, longest: float) -> NDArray[np.float32]:
    wanted, chunks, total = int(longest * encoder.grid.sample_rate), [], 0
    for chunk in audio.stream(path, sample_rate=encoder.grid.sample_rate, limits=encoder.limits):
        chunks.append(chunk)
        total += len(chunk)
        if total >= wanted:
            break
    return np.concatenate(chunks)[:wanted]

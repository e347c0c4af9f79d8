"""Material: listed sounds -> features, those that cannot be read left out with their reason."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from encoder import checkpoint
from encoder.audio import AudioError
from encoder.limits import Limits
from encoder.sound_features import first_window
from encoder.systems import System
from encoder.training.sounds import Material
from evaluation.sounds.listing import Sounds

Progress = Callable[[int, int], None]  # files done, files
_BATCH = 64  # sounds analysed at a time


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Sounds with their features (sounds, bins), and why others are not among them."""

    sounds: Sounds
    features: NDArray[np.float32]
    failures: tuple[str, ...]

    @property
    def material(self) -> Material:
        """For training."""
        return Material(features=self.features, labels=self.sounds.labels)


def gather(
    sounds: Sounds, system: System, *, cache: Path | None = None, limits: Limits | None = None,
    progress: Progress | None = None,
) -> Gathered:  # fmt: skip
    """Features of all sounds, from the folder `cache` where they were kept; ValueError where no sound can be used."""
    kept = cache / f"features-{_digest(sounds, system)[:16]}.npz" if cache else None
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as file:
            rows, features, failures = file["rows"], file["features"], tuple(map(str, file["failures"]))
    else:
        rows, features, failures = _computed(sounds, system, limits or Limits(shortest=system.shortest), progress)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with kept.with_suffix(".unfinished").open("wb") as file:
                np.savez(file, rows=rows, features=features, failures=np.array(failures, dtype=str))
            kept.with_suffix(".unfinished").replace(kept)
    if not len(rows):
        raise ValueError(f"{sounds.about}: no sound can be used, the first: {failures[0]}")
    return Gathered(sounds=sounds.pick(rows), features=features, failures=failures)


def _computed(sounds: Sounds, system: System, limits: Limits, progress: Progress | None):
    front_end, rows, windows, features, failures = None, [], [], [], []
    for row, path in enumerate(sounds.paths):
        try:
            if path.suffix == ".npy":
                features.append(_kept_features(path)[None])
            else:
                windows.append(first_window(path, system.grid, limits=limits))
            rows.append(row)
        except AudioError as error:
            failures.append(str(error))
        if len(windows) == _BATCH or (windows and row == len(sounds) - 1):
            front_end = front_end or system.spectra()
            features.append(_analysed(front_end, windows))
            windows = []
        if progress:
            progress(row + 1, len(sounds))
    if windows:  # the last sounds failed
        features.append(_analysed(front_end or system.spectra(), windows))
    stacked = np.concatenate(features) if features else np.zeros((0, 0), np.float32)
    return np.array(rows, np.int64), stacked.astype(np.float32), tuple(failures)


@torch.inference_mode()
def _analysed(front_end: nn.Module, windows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return front_end(torch.from_numpy(np.stack(windows)))[:, :, 0].numpy()


def _kept_features(path: Path) -> NDArray[np.float32]:
    """Precomputed features (bins,); the mean over time where they are (frames, bins)."""
    try:
        features = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise AudioError(path, f"holds no array of numbers ({error}); save it without pickle") from error
    return features if features.ndim == 1 else features.mean(axis=0)


def _digest(sounds: Sounds, system: System) -> str:
    """Of the features' configuration and of the files, by size and time of change."""
    files = []
    for path in sounds.paths:
        stat = path.stat() if path.is_file() else None
        files.append([str(path.absolute()), *([stat.st_size, stat.st_mtime_ns] if stat else [])])
    plain = [checkpoint.to_plain(system.front_end), checkpoint.to_plain(system.grid), files]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

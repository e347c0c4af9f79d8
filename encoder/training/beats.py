"""Beats: how many beats a track has after its first downbeat.

NeuralSampleID trains on tracks with at least 32 of them (section 4.1), which leaves out speech, noise and drones.
beat_this finds beats and downbeats where one of its checkpoints is at hand; otherwise librosa's tracker finds the
beats, and the first of them counts as the downbeat.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoder import torchaudio_cpu

_LOG = logging.getLogger(__name__)
_CHECKPOINT = "beat_this-final0.ckpt"  # the name beat_this itself keeps its published weights under


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Positions in seconds, rising; every downbeat is a beat as well."""

    beats: NDArray[np.float64]
    downbeats: NDArray[np.float64]

    @property
    def after_first_downbeat(self) -> int:
        """Beats strictly later than the first downbeat; 0 where there is none."""
        return int(np.count_nonzero(self.beats > self.downbeats[0])) if len(self.downbeats) else 0


BeatTracker = Callable[[NDArray[np.float32], int], Beats]  # ((samples,) mono, sample rate in Hz) -> Beats


def tracker(*, checkpoint_path: Path | None = None, device: str = "cpu") -> BeatTracker:
    """beat_this with the checkpoint given or already downloaded, else librosa's tracker; the log says which.

    Nothing is downloaded. Raises FileNotFoundError where a checkpoint is given and missing.
    """
    if checkpoint_path is not None and not Path(checkpoint_path).is_file():
        # beat_this would take the path for a name on its server.
        raise FileNotFoundError(f"no beat_this checkpoint {checkpoint_path}; check the path or leave it out")
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / _CHECKPOINT
    checkpoint = checkpoint_path or (downloaded if downloaded.is_file() else None)
    if checkpoint is None:
        _LOG.warning("beats are tracked with librosa, first beat taken as downbeat: no checkpoint of beat_this is here")
        return _librosa
    _LOG.info("beats are tracked with beat_this, checkpoint %s", checkpoint)
    return _beat_this(Path(checkpoint), device)


def _librosa(waveform: NDArray[np.float32], sample_rate: int) -> Beats:
    import librosa  # seconds to import, needed here only

    _, beats = librosa.beat.beat_track(y=waveform, sr=sample_rate, units="time")
    return Beats(beats=beats, downbeats=beats[:1])


def _beat_this(checkpoint: Path, device: str) -> BeatTracker:
    torchaudio_cpu.load()  # beat_this imports torchaudio
    from beat_this.inference import Audio2Beats

    find = Audio2Beats(checkpoint_path=str(checkpoint), device=device)

    def track(waveform: NDArray[np.float32], sample_rate: int) -> Beats:
        beats, downbeats = find(waveform, sample_rate)
        return Beats(beats=np.asarray(beats), downbeats=np.asarray(downbeats))

    return track

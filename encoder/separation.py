"""Separation: one recording -> its stems (vocals, drums, bass, other), with demucs.

Weights come by name from demucs's own hub, or from a local folder in demucs's layout: one or more
``<signature>-<first 8 digits of sha256>.th`` and, for a named set of them, ``<name>.yaml``. Such files are pickles
and run code when they are loaded: use those you trust.
"""

import logging
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import Lock

import numpy as np
import soxr
from demucs import api
from demucs.pretrained import ModelLoadingError
from numpy.typing import NDArray

from encoder import audio
from encoder.audio import AudioError

_LOADING = (ModelLoadingError, api.LoadModelError, OSError, RuntimeError, LookupError, pickle.UnpicklingError)


class SeparationError(ValueError):
    """The demucs model cannot be loaded; the message says why and what to do."""


class Separator:
    """Separates recordings one at a time, whichever thread asks: one model fills the machine, two fill its memory."""

    def __init__(self, model: str | Path, *, device: str = "cpu") -> None:
        """``model``: a name on demucs's hub such as "htdemucs", or a local folder of weights."""
        name, folder = _located(model)
        try:
            with _quiet():
                # No random shift of the input: the same recording shall give the same stems.
                self._demucs = api.Separator(name, repo=folder, device=device, shifts=0)
        except _LOADING as error:
            raise SeparationError(
                f"demucs model {str(model)!r} cannot be loaded ({error}); give a known name and a way to the network, "
                "or a local folder of weights"
            ) from error
        self._one_at_a_time = Lock()

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in the model's order."""
        return tuple(self._demucs.model.sources)

    def __call__(self, path: Path, *, sample_rate: int = 16_000) -> dict[str, NDArray[np.float32]]:
        """Stems of a recording by name, each (samples,) mono; raises AudioError where it cannot be read."""
        audio.read(path)  # refuses what all other readers refuse, in the same words
        with self._one_at_a_time:
            try:
                _, stems = self._demucs.separate_audio_file(path)  # {name: (channels, samples)}, stereo where it is
            except api.LoadAudioError as error:
                raise AudioError(path, f"demucs cannot read it ({' '.join(str(error).split())})") from error
        rate = self._demucs.samplerate
        return {name: soxr.resample(stem.mean(0).numpy(), rate, sample_rate) for name, stem in stems.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub's warning for each of its retries; that it downloads is told on stderr, not among results."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)


def _located(model: str | Path) -> tuple[str, Path | None]:
    """(name, folder) as demucs wants them; the folder is None for a model on its hub."""
    folder = Path(model)
    if not folder.is_dir():
        if len(folder.parts) > 1:
            raise SeparationError(f"no folder {model} of demucs weights; check the path or give a model's name")
        return str(model), None
    sets, single = sorted(folder.glob("*.yaml")), sorted(folder.glob("*.th"))
    candidates = sets or single
    if len(candidates) != 1:
        raise SeparationError(
            f"{folder} holds {len(sets)} .yaml and {len(single)} .th files, expected one .yaml, or one .th alone"
        )
    return candidates[0].stem if sets else single[0].stem.rsplit("-", 1)[0], folder

"""Beats are counted after the first downbeat, by beat_this where a checkpoint is at hand and by librosa otherwise."""

import logging

import numpy as np
import pytest
import torch

from encoder import torchaudio_cpu
from encoder.training import beats
from encoder.training.beats import Beats


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def clicks(seconds, per_minute):
    """Short noise bursts on the beat, 16 kHz."""
    waveform = np.zeros(seconds * 16_000, np.float32)
    burst = np.random.default_rng(0).normal(size=800).astype(np.float32) * np.exp(-np.arange(800) / 100)
    for start in range(0, len(waveform) - 800, 16_000 * 60 // per_minute):
        waveform[start : start + 800] += burst
    return waveform


def test_only_beats_after_the_first_downbeat_count():
    # Two beats before it, the downbeat itself, three after it.
    found = Beats(beats=np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0]), downbeats=np.array([1.5, 3.0]))
    assert found.after_first_downbeat == 3
    assert Beats(beats=np.array([0.5]), downbeats=np.array([])).after_first_downbeat == 0


def test_without_a_checkpoint_librosa_tracks_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        track = beats.tracker()
    assert "tracked with librosa" in caplog.text
    # 20 s at 120 beats per minute: 40 clicks, 39 after the first; the tracker may miss some at the ends.
    assert 34 <= track(clicks(20, 120), 16_000).after_first_downbeat <= 39
    assert track(np.zeros(80_000, np.float32), 16_000).after_first_downbeat == 0


@pytest.fixture
def checkpoint(tmp_path):
    torchaudio_cpu.load()
    from beat_this.model.beat_tracker import BeatThis

    sizes = {"transformer_dim": 16, "n_layers": 1, "head_dim": 8, "stem_dim": 8}
    torch.manual_seed(0)
    weights = {f"model.{name}": value for name, value in BeatThis(**sizes).state_dict().items()}
    torch.save({"hyper_parameters": sizes, "state_dict": weights}, tmp_path / "tiny.ckpt")
    return tmp_path / "tiny.ckpt"


def test_a_checkpoint_given_is_used(checkpoint, caplog):
    with caplog.at_level(logging.INFO):
        found = beats.tracker(checkpoint_path=checkpoint)(clicks(5, 120), 16_000)
    assert f"tracked with beat_this, checkpoint {checkpoint}" in caplog.text
    assert found.beats.ndim == found.downbeats.ndim == 1
    assert set(found.downbeats) <= set(found.beats)


def test_a_checkpoint_already_downloaded_is_found(checkpoint, tmp_path, caplog):
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    checkpoint.rename(tmp_path / "hub/checkpoints/beat_this-final0.ckpt")
    with caplog.at_level(logging.INFO):
        beats.tracker()
    assert "tracked with beat_this" in caplog.text


def test_a_checkpoint_that_is_missing_is_an_error_and_no_download(tmp_path):
    with pytest.raises(FileNotFoundError, match="no beat_this checkpoint .*gone.ckpt"):
        beats.tracker(checkpoint_path=tmp_path / "gone.ckpt")

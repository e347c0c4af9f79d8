"""Separation with a tiny, randomly initialised model in demucs's own folder layout."""

import hashlib
import io
import logging

import numpy as np
import pytest
import soundfile
import torch
from demucs import api

from encoder import stem_features
from encoder.audio import AudioError
from encoder.encode import Encoder
from encoder.separation import SeparationError, Separator

STEMS = ["drums", "bass", "other", "vocals"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    model = HTDemucs(
        STEMS, channels=4, depth=4, t_layers=1, t_heads=2, bottom_channels=0, dconv_mode=0, samplerate=44_100, segment=1
    )
    args, kwargs = model._init_args_kwargs
    package = {"klass": HTDemucs, "args": args, "kwargs": kwargs, "state": model.state_dict()}
    buffer = io.BytesIO()
    torch.save(package, buffer)
    folder = tmp_path_factory.mktemp("weights")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    (folder / f"tiny0000-{digest}.th").write_bytes(buffer.getvalue())
    (folder / "tiny.yaml").write_text("models: ['tiny0000']\n")
    return folder


@pytest.fixture
def recording(tmp_path):
    noise = np.random.default_rng(0).normal(scale=0.1, size=(44_100 * 2, 2))
    soundfile.write(tmp_path / "song.wav", noise, 44_100)
    return tmp_path / "song.wav"


def test_a_recording_becomes_mono_stems_of_its_own_length(weights, recording):
    separator = Separator(weights)
    stems = separator(recording, sample_rate=16_000)
    assert list(stems) == list(separator.stems) == STEMS
    for stem in stems.values():
        assert (stem.shape, stem.dtype) == ((32_000,), np.float32)  # 2 s at 16 kHz
        assert np.isfinite(stem).all()
        assert np.abs(stem).max() > 0


def test_the_same_recording_gives_the_same_stems(weights, recording):
    first, second = Separator(weights)(recording), Separator(str(weights))(recording)
    for name in STEMS:
        np.testing.assert_allclose(first[name], second[name], atol=1e-6)


def test_stems_of_a_recording_become_features_as_long_as_its_own(weights, recording, saved):
    encoder = Encoder(saved)
    features = stem_features.of_stems(encoder, Separator(weights)(recording, sample_rate=16_000))
    assert list(features) == STEMS
    assert {stem.shape for stem in features.values()} == {encoder.encode(recording).features.shape}


def test_a_download_is_not_told_among_results_and_logging_stays_as_it_was(weights, monkeypatch, capsys):
    load = api.get_model

    def get_model(**wanted):
        print("Downloading")
        logging.getLogger("hub").warning("Retrying")
        return load(**wanted)

    monkeypatch.setattr(api, "get_model", get_model)
    Separator(weights)
    assert capsys.readouterr() == ("", "Downloading\n")
    assert logging.root.manager.disable == logging.NOTSET


def test_a_single_model_needs_no_yaml(weights, tmp_path):
    (model,) = weights.glob("*.th")
    (tmp_path / model.name).write_bytes(model.read_bytes())
    assert list(Separator(tmp_path).stems) == STEMS


def test_a_file_that_is_no_audio_is_refused_with_its_reason(weights, tmp_path):
    (tmp_path / "x.wav").write_text("not audio")
    with pytest.raises(AudioError, match="x.wav"):
        Separator(weights)(tmp_path / "x.wav")


def test_weights_that_are_missing_ambiguous_or_damaged_are_told_apart(weights, tmp_path):
    with pytest.raises(SeparationError, match="no folder .*nowhere of demucs weights"):
        Separator(tmp_path / "nowhere")
    with pytest.raises(SeparationError, match="holds 0 .yaml and 0 .th files, expected one .yaml"):
        Separator(tmp_path)
    (tmp_path / "tiny0000-00000000.th").write_bytes(b"damaged")
    with pytest.raises(SeparationError, match="cannot be loaded .*checksum"):
        Separator(tmp_path)

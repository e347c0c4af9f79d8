"""The commands of similar sounds on a folder of made ones: train, measure, go on after a kill."""

import json

import numpy as np
import pytest
import soundfile

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hits and notes, four techniques of each, five sounds of each technique, by their folders; one file is broken."""
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    time = np.arange(round(0.3 * RATE)) / RATE
    for technique in range(4):
        for number in range(5):
            tone = np.sin(2 * np.pi * (200 + 60 * technique + 15 * number) * time) * np.exp(-(3 + technique) * time)
            noise = rng.standard_normal(len(time)) * np.exp(-(10 + 8 * technique + number) * time)
            for label, wave in (("note", tone), ("hit", noise)):
                path = root / label / f"{technique}" / f"{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.2 * wave, RATE)
    (root / "hit" / "0" / "broken.wav").write_bytes(b"RIFF....WAVEnothing")
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    from click.testing import CliRunner

    from flows.cli import main

    out = tmp_path_factory.mktemp("run")
    result = CliRunner().invoke(main, ["train", "sounds", str(folder), "--out", str(out), "--set", "epochs=2"])
    assert result.exit_code == 0, result.output
    assert "epoch 2" in result.stderr
    return out / "encoder.safetensors"


def test_a_trained_checkpoint_says_what_it_learned_from(trained):
    from encoder.encode import Encoder

    encoder = Encoder(trained)
    assert encoder.system.name == "an-gnn"
    assert encoder.provenance["data"]["sounds"] == 40
    assert encoder.provenance["data"]["left_out"] == 1
    assert encoder.provenance["data"]["labels"] == ["hit", "note"]


def test_training_goes_on_where_it_stopped(asid, folder, trained):
    result = asid("train", "sounds", folder, "--out", trained.parent, "--set", "epochs=3")
    assert result.exit_code == 0
    assert "epoch 3" in result.stderr
    assert "epoch 2" not in result.stderr


def test_networks_are_measured_by_both_protocols(asid, folder, tmp_path):
    options = ["--network", "knn", "--network", "linear", "--folds", "2", "--set", "epochs=2", "--out", tmp_path]
    result = asid("evaluate", "sounds", folder, *options)
    assert result.exit_code == 0, result.output
    assert "40 sounds, 1 left out, mfcc" in result.stdout
    assert "honest: 40 queries" in result.stdout
    assert "published: 40 queries" in result.stdout
    kept = json.loads((tmp_path / "result.json").read_text())
    assert set(kept["protocols"]["honest"]) == {"euclid", "knn", "knn, untrained", "linear", "linear, untrained"}
    assert 0 <= kept["protocols"]["honest"]["knn"]["ii_p5"] <= 1
    assert "knn, fold 2 of 2" in result.stderr
    again = asid("evaluate", "sounds", folder, *options, "--json")
    assert "knn, fold" not in again.stderr  # nothing was left to train
    assert json.loads(again.stdout)["protocols"] == kept["protocols"]


def test_a_checkpoint_is_measured_beside_its_untrained_self(asid, folder, trained, tmp_path):
    result = asid("evaluate", "sounds", folder, "--encoder", trained, "--out", tmp_path, "--json")
    rows = json.loads(result.stdout)["protocols"]["as trained"]
    name = next(name for name in rows if name.startswith("an-gnn") and "untrained" not in name)
    assert {"euclid", name, f"{name}, untrained"} == set(rows)
    assert {"gain", "gain_low", "gain_high"} <= set(rows[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "no such folder"),
        ((".", "--system", "asid"), "system asid has no features of whole sounds"),
        ((".", "--network", "gat"), "network 'gat' is not known"),
        ((".", "--folds", "9"), "9 folds of 8 techniques"),
    ],
)
def test_misuse_is_one_line(asid, folder, tmp_path, arguments, message):
    place, *options = arguments
    result = asid("evaluate", "sounds", folder / place, *options, "--out", tmp_path)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("asid: ")


def test_scattering_without_kymatio_is_one_line(asid, folder, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "kymatio.scattering1d.frontend.torch_frontend", None)
    result = asid("evaluate", "sounds", folder, "--features", "scattering", "--out", tmp_path)
    assert (result.exit_code, "need kymatio" in result.stderr) == (1, True)

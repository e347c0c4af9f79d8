"""The version commands: a set is rendered, an encoder trained and measured; a released file becomes a checkpoint."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder.encode import Encoder
from flows.versions import RESULT

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews"


@pytest.fixture
def run(asid):
    """``run("train", ...)``: the result of a command that ends with that status."""

    def run(*words, status=0):
        result = asid(*words)
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two works of two versions in every split, of 21 s."""
    made = tmp_path_factory.mktemp("set")
    rows = []
    for place, split in enumerate(("train", "validation", "test")):
        for work in (2 * place, 2 * place + 1):
            pitches = 110 * 2 ** (np.random.default_rng(work).integers(0, 24, 42) / 12)
            for number in range(2):
                notes = [np.sin(2 * np.pi * (number + 1) * f * np.arange(8000) / 16_000) for f in pitches]
                soundfile.write(made / f"{work}-{number}.wav", 0.3 * np.concatenate(notes), 16_000)
                rows.append((f"{work}-{number}", work, split, f"{work}-{number}.wav"))
    with (made / "versions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("track", "work", "split", "file"), *rows])
    return made


def test_an_encoder_is_trained_and_measured_beside_its_untrained_self(run, folder, tmp_path):
    changes = ("epochs=1", "steps=1", "anchors=2", "positives=1", "block=20")
    sets = [word for change in changes for word in ("--set", change)]
    trained = run("train", "versions", folder, "--out", tmp_path / "run", *sets).stdout.strip()
    assert Encoder(Path(trained)).system.name == "clews-small"
    words = ("evaluate", "versions", folder, "--encoder", trained, "--untrained", "clews-small", "--length", 5)
    shown = run(*words, "--out", tmp_path / "found").stdout
    assert "4 recordings of 2 works, split test" in shown
    result = json.loads((tmp_path / "found" / RESULT).read_text())
    assert set(result["measures"]) == {trained, "clews-small untrained"}
    levels = result["measures"][trained]
    assert set(levels) == {"track", "5 s"}
    assert 0 < levels["track"]["average_precision"]["value"] <= 1
    less = result[f"{trained} less"]["clews-small untrained"]["track"]["average_precision"]["value"]
    untrained = result["measures"]["clews-small untrained"]["track"]["average_precision"]["value"]
    assert less == pytest.approx(levels["track"]["average_precision"]["value"] - untrained)


def test_misuse_is_told_in_one_line(run, folder, tmp_path):
    assert "--encoder or --untrained is needed" in run(
        "evaluate", "versions", folder, "--out", tmp_path, status=2
    ).output  # fmt: skip
    refused = run("train", "versions", tmp_path, "--out", tmp_path / "run", status=1)
    assert "is no version set, expected versions.csv" in refused.output
    refused = run("train", "versions", folder, "--system", "asid", "--out", tmp_path / "run", status=1)
    assert "system asid is not trained on versions" in refused.output


def test_a_released_file_becomes_a_checkpoint(run, tmp_path):
    if not FIXTURES.is_dir():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    tiny = dict(np.load(FIXTURES / "tiny_clews.npz"))
    weights = {name[3:]: torch.from_numpy(values) for name, values in tiny.items() if name.startswith("sd/")}
    torch.save({"model": weights, "epoch": 7}, tmp_path / "clews.ckpt")
    path = run("import-published", tmp_path / "clews.ckpt", "--system", "clews", "--out", tmp_path).stdout.strip()
    encoder = Encoder(Path(path))
    spectra = torch.from_numpy(tiny["in_cqt"][0])
    np.testing.assert_allclose(encoder.network.embed(spectra).detach(), tiny["out_z"][0], rtol=0, atol=1e-5)
    assert encoder.system.name == "clews"
    run("import-published", path, path, "--system", "clews", "--out", tmp_path, status=2)
    assert "CLASSIFIER is missing" in run("import-published", path, "--out", tmp_path, status=2).output


def test_a_set_of_works_of_our_own_is_rendered_once(run, tmp_path):
    words = ("--train", 1, "--validation", 0, "--test", 1, "--versions", 2, "--seconds", 20)
    run("prepare", "versions", tmp_path, *words)
    files = sorted((tmp_path / "audio").iterdir())
    made = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 4
    run("prepare", "versions", tmp_path, *words)
    assert [file.stat().st_mtime_ns for file in files] == made

"""Benchmarks: each can be run, so that a figure in the docs can be had again."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder.encode import Encoder

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_can_be_imported_and_says_what_it_measures(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__
    assert not hasattr(module, "main") or f"python -m benchmarks.{name}" in module.__doc__


def test_every_stage_of_ingestion_is_timed(tmp_path):
    ingest = importlib.import_module("benchmarks.ingest")
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(6 * 16_000), 16_000)
    found = ingest.table([path], Encoder(), tmp_path)
    assert list(found.index) == ["decode", "features", "encode", "Milvus", "Zarr", "all"]
    assert found.loc["encode", "CPU-s"] > 0
    assert found.loc["all", "CPU-s"] > 0


@pytest.mark.parametrize(
    ("name", "number"), [("one", 1), ("graph", 1), ("slots", 4), ("windows", 3), ("cells", 1), ("fine", 1)]
)
def test_every_form_gives_as_many_fingerprints_as_it_says(name, number):
    levers = importlib.import_module("benchmarks.levers")
    spectra = torch.rand(2, levers.COARSE.bins, levers.GRID.frames)
    fine = torch.rand(2, levers.FINE.bins, levers.FINE_GRID.frames)
    fingerprints, said = levers.Form(name).eval()(spectra, fine)
    assert fingerprints.shape == (2, number, 128)
    assert torch.allclose(fingerprints.norm(dim=2), torch.ones(2, number), atol=1e-5)
    assert said.shape == (2, levers.BANDS * levers.TIMES)


def test_the_best_of_several_fingerprints_counts():
    levers = importlib.import_module("benchmarks.levers")
    references, queries = torch.eye(4).reshape(2, 2, 4), torch.eye(4)[[1, 1, 0, 3]].reshape(2, 2, 4)
    assert levers.best(references, queries).tolist() == [[1, 1], [0, 1]]

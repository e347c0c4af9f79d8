"""Benchmarks: each can be run, so that a figure in the docs can be had again."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

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

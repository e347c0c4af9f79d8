"""Benchmarks: each can be run, so that a figure in the docs can be had again."""

import importlib
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
import torch

from encoder.encode import Encoder
from encoder.training.stem_cache import StemCache, StemTrack

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


def test_every_recipe_shows_as_many_pairs_and_leaves_validation_as_it_is():
    recipes = importlib.import_module("benchmarks.recipes")
    tracks = [
        StemTrack(track=f"{split}-{kind}", group="", split=split, stems=(), length=1, kind=kind)
        for split in ("train", "validation")
        for kind in ("song", "midi", "multitrack")
    ]
    cache = StemCache(Path(), tracks, np.zeros(0, np.int16))
    for recipe in recipes.RECIPES.values():
        schedule = recipe.system(3).schedule
        assert (schedule.steps * schedule.batch, schedule.seed) == (recipes.PAIRS, 3)
        kept = [track.kind for track in recipe.music(cache).tracks if track.split == "train"]
        assert set(kept) == {"song", "midi", "multitrack"} - recipe.without
        assert sum(track.split == "validation" for track in recipe.music(cache).tracks) == 3


def test_what_a_recipe_gives_is_what_it_has_over_all_of_it():
    recipes = importlib.import_module("benchmarks.recipes")
    runs = [
        {"recipe": name, "seed": seed, "ranks": np.array([1, 5, 11, 11 if name == "no chops" else 2])}
        for name in recipes.RECIPES
        for seed in (1, 2)
    ]
    table = recipes.summary(pandas.DataFrame(runs))
    assert table.loc["all", "HR@10"] == 0.75
    assert table.loc["no chops", "more"] == -0.25
    assert table.loc["no chops", "low"] < -0.25 < table.loc["no chops", "high"] <= 0
    assert (table.drop(index="no chops")[["more", "low", "high"]] == 0).all(axis=None)

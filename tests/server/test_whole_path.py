"""Rendered music through the command line into a real Milvus server, out again as matches, and away."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="module")
def music(milvus, tmp_path_factory):
    """Four rendered pieces of about 50 s."""
    from evaluation.pieces.planted import render_catalogue

    folder = tmp_path_factory.mktemp("music")
    render_catalogue(folder, seed=5, references=4, workers=1)
    return [file for file in sorted(folder.iterdir()) if file.suffix != ".json"]


@pytest.fixture(scope="module")
def query(music, tmp_path_factory):
    """Twelve seconds of the second piece from 20 s on, under noise."""
    wave, rate = soundfile.read(music[1])
    part = wave[20 * rate : 32 * rate]
    path = tmp_path_factory.mktemp("queries") / "excerpt.wav"
    soundfile.write(path, 0.5 * (part + np.random.default_rng(0).normal(0, 0.7 * part.std(), part.shape)), rate)
    return path


def printed(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def found(asid, query) -> list[str]:
    """File names of the references named for the query."""
    (reply,) = printed(asid("find", query, "--json"))["queries"]
    return [Path(match["reference"]["path"]).stem for match in reply["matches"]]


def test_what_is_ingested_is_found_then_rebuilt_then_removed(asid, music, query):
    assert asid("ingest", music[0].parent).exit_code == 0
    assert printed(asid("info", "--json"))["catalogue"]["stored"] == 4
    assert found(asid, query)[0] == music[1].stem

    assert asid("reindex").exit_code == 0
    assert found(asid, query)[0] == music[1].stem

    assert asid("remove", music[1]).exit_code == 0
    assert music[1].stem not in found(asid, query)
    assert printed(asid("info", "--json"))["catalogue"]["stored"] == 3

    assert asid("ingest", "--retry", music[0].parent).exit_code == 0
    assert found(asid, query)[0] == music[1].stem

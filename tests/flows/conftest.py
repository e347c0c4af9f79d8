"""A Prefect server for the whole test session, and a small folder of rendered music."""

import os

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory):
    """One ephemeral Prefect server with a database of its own; no test talks to the user's."""
    from flows.options import prepare_prefect

    home = tmp_path_factory.mktemp("prefect")
    os.environ["PREFECT_HOME"] = str(home)
    prepare_prefect()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def music(tmp_path_factory):
    """Four rendered pieces of about 50 s."""
    from evaluation.pieces.planted import render_catalogue

    folder = tmp_path_factory.mktemp("music")
    render_catalogue(folder, seed=5, references=4, workers=1)
    return folder


@pytest.fixture(scope="session")
def catalogue(music, tmp_path_factory):
    """A data directory into which the music was ingested."""
    from flows.ingest import ingest_catalogue
    from flows.settings import Settings

    data = tmp_path_factory.mktemp("data")
    ingest_catalogue([music], Settings(data=data, workers=2))
    return data


@pytest.fixture
def asid():
    """Run a command line in this process: asid("find", path) -> result with exit_code, stdout, stderr."""
    from click.testing import CliRunner

    from flows.cli import main

    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def excerpt(music, tmp_path_factory):
    """Twelve seconds of the second piece from 20 s on, under noise."""
    source = sorted(music.iterdir())[1]
    wave, rate = soundfile.read(source)
    part = wave[20 * rate : 32 * rate]
    noise = np.random.default_rng(0).normal(0, 0.7 * part.std(), part.shape)
    path = tmp_path_factory.mktemp("queries") / "excerpt.wav"
    soundfile.write(path, 0.5 * (part + noise), rate)
    return path, source

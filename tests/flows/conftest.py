"""A Prefect server for the whole test session, and a small folder of rendered music."""

import os

import pytest


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

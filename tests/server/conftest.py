"""An empty Milvus server, a Prefect server for the session, and the command line in this process."""

import os

import pytest

SERVER = os.environ.get("ASID_TEST_MILVUS_URI", "")


@pytest.fixture(scope="session")
def milvus():
    """Address of a server on which no catalogue lies; what the tests make there is dropped."""
    if not SERVER:
        pytest.skip("ASID_TEST_MILVUS_URI names no Milvus server; `make test-server` starts one")
    from pymilvus import MilvusClient

    client = MilvusClient(SERVER)
    if client.has_collection("asid"):
        pytest.skip(f"Milvus at {SERVER} holds a catalogue; give an empty one")
    yield SERVER
    if client.has_collection("asid"):
        collection = client.describe_collection("asid")["collection_name"]
        client.drop_alias("asid")
        client.drop_collection(collection)
    client.close()


@pytest.fixture(scope="session")
def prefect_server(milvus, tmp_path_factory):
    """One ephemeral Prefect server with a database of its own."""
    from flows.options import prepare_prefect

    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    prepare_prefect()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def asid(prefect_server, milvus, tmp_path_factory):
    """Run a command line against the server: asid("find", path) -> result with exit_code, stdout, stderr."""
    from click.testing import CliRunner

    from flows.cli import main

    data = tmp_path_factory.mktemp("data")

    def asid(*arguments):
        return CliRunner().invoke(main, [*map(str, arguments), "--data", str(data), "--milvus-uri", milvus])

    return asid

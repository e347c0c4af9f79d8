"""The connection: what Milvus Lite is told that a server is not."""

import pytest

from store import connection


@pytest.mark.parametrize(("uri", "pings"), [("/data/fingerprints.db", False), ("http://milvus:19530", True)])
def test_lite_is_not_asked_whether_it_is_there(monkeypatch, uri, pings):
    # Asked every ten seconds, Lite's server hangs up after a minute of silence, and gRPC writes to stderr.
    given = {}
    monkeypatch.setattr(connection, "MilvusClient", lambda uri, **how: given.update(how))
    monkeypatch.setattr(connection, "_lite_holders", connection.Counter())
    connection.connect(uri, "")
    assert ("grpc.keepalive_time_ms" not in given["grpc_options"]) == pings
    assert pings or given["grpc_options"]["grpc.keepalive_time_ms"] > 24 * 3600 * 1000

"""Which index each Milvus gets: decided from what a client answers, and on a real server where there is one."""

import os

import numpy as np
import pytest
from pymilvus.exceptions import MilvusException

from store import index
from store.fingerprints import Fingerprints, IndexSettings
from store.identity import Identity

SERVER = os.environ.get("ASID_TEST_MILVUS_URI", "")
on_a_server = pytest.mark.skipif(not SERVER, reason="no Milvus server; `make test-server` starts one")


class Server:
    """Stands in for a client: every call is noted, the one named ``refuses`` raises."""

    def __init__(self, *, refuses: str = "", code: int = 1100, finds: int = 1) -> None:
        self.calls, self.refuses, self.code, self.finds = [], refuses, code, finds

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            if name == self.refuses:
                raise MilvusException(self.code, "invalid index type: GPU_IVF_PQ")
            return [[None] * self.finds] if name == "search" else self

        return call

    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


@pytest.fixture
def fingerprints():
    """``fingerprints(kind="FLAT")``: an empty collection on the real server, dropped at the end."""
    opened = []

    def fingerprints(**settings) -> Fingerprints:
        digest = os.urandom(16).hex()
        identity = Identity(digest=digest, nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
        wanted = IndexSettings(m=8, nlist=16, nprobe=16, **settings)
        opened.append(Fingerprints.open(SERVER, identity, catalogue="test", alias=f"asid_{digest}", index=wanted))
        return opened[-1]

    yield fingerprints
    for one in opened:
        one.drop()
        one.close()


@pytest.mark.parametrize("kind", index.get_args(index.Kind))
def test_milvus_lite_gets_flat_whatever_is_asked_and_is_never_probed(kind):
    server = Server()
    assert index.chosen(server, "milvus_lite-3.2.2", IndexSettings(kind=kind)).kind == "FLAT"
    assert server.calls == []


@pytest.mark.parametrize("version", ["v2.3.5-lite", "2.6.0", "v2.6.0-gpu-dev"])
def test_a_server_that_does_not_call_itself_gpu_gets_the_papers_index_without_a_probe(version):
    server = Server()
    chosen = index.chosen(server, version, IndexSettings())
    assert (chosen.kind, chosen.m, chosen.nbits, chosen.nprobe) == ("IVF_PQ", 64, 8, 20)
    assert server.calls == []


def test_a_server_whose_gpu_answers_a_search_gets_the_gpu_index():
    server = Server()
    chosen = index.chosen(server, "v2.6.0-gpu", IndexSettings())
    assert chosen.kind == "GPU_IVF_PQ"
    assert chosen.build(128) == {"nlist": 1024, "m": 64, "nbits": 8, "cache_dataset_on_device": "false"}
    assert server.names()[-1] == "drop_collection"


@pytest.mark.parametrize("refuses", ["create_index", "load_collection", "search"])
@pytest.mark.parametrize("code", [1, 1100, 65_535])  # 1: the client's own timeout
def test_every_form_of_refusal_means_no_gpu_and_the_scratch_collection_is_dropped(refuses, code):
    server = Server(refuses=refuses, code=code)
    assert index.chosen(server, "v2.6.0-gpu", IndexSettings()).kind == "IVF_PQ"
    (created,) = [arguments for name, arguments, _ in server.calls if name == "create_collection"]
    (dropped,) = [arguments for name, arguments, _ in server.calls if name == "drop_collection"]
    assert created == dropped


def test_a_gpu_index_that_finds_nothing_is_none():
    assert not index.gpu_works(Server(finds=0))


def test_every_step_of_the_probe_has_a_timeout():
    server = Server()
    index.gpu_works(server, timeout=7)
    steps = {"create_collection", "insert", "flush", "create_index", "load_collection", "search", "drop_collection"}
    timeouts = {name: named.get("timeout") for name, _, named in server.calls if name in steps}
    assert set(timeouts) == steps
    assert all(timeout and timeout <= 60 for timeout in timeouts.values())


def test_a_gpu_index_asked_for_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="GPU_IVF_PQ needs a GPU, which Milvus v2.3.5-lite could not use"):
        index.chosen(Server(refuses="create_index"), "v2.3.5-lite", IndexSettings(kind="GPU_IVF_PQ"))


@pytest.mark.parametrize(("kind", "quantised", "most"), [
    ("FLAT", False, 16_384), ("IVF_FLAT", False, 16_384), ("IVF_PQ", True, 16_384), ("GPU_IVF_PQ", True, 1024),
])  # fmt: skip
def test_quantised_kinds_are_overfetched_and_a_gpu_gives_1024(kind, quantised, most):
    settings = IndexSettings(kind=kind)
    assert (settings.quantised, settings.most_candidates) == (quantised, most)


@on_a_server
def test_a_real_cpu_server_is_not_taken_for_a_gpu(fingerprints):
    client = fingerprints(kind="FLAT")._client
    assert not index.gpu_works(client, timeout=5)
    assert not [name for name in client.list_collections() if name.startswith("asid_probe")]


@on_a_server
@pytest.mark.parametrize(("asked", "got", "overfetch"), [("auto", "IVF_PQ", 2), ("IVF_FLAT", "IVF_FLAT", 1)])
def test_the_kind_of_a_collection_is_readable(fingerprints, asked, got, overfetch):
    opened = fingerprints(kind=asked)
    assert (opened.kind, opened.overfetch, opened.most_candidates) == (got, overfetch, 16_384)


@on_a_server
def test_a_collection_keeps_its_kind_until_it_is_made_anew(fingerprints, caplog):
    first = fingerprints(kind="IVF_FLAT")
    again = Fingerprints.open(
        SERVER, first._identity, catalogue="test", alias=first._alias, index=IndexSettings(kind="FLAT")
    )
    assert again.kind == "IVF_FLAT"
    assert "IVF_FLAT, not FLAT; `asid reindex`" in caplog.text
    again.recreate("test")
    assert again.kind == "FLAT"
    again.close()


@on_a_server
def test_more_queries_than_fit_into_a_call_are_answered_in_order(fingerprints, monkeypatch):
    monkeypatch.setattr("store.fingerprints._HITS_PER_CALL", 14)  # 7 queries of 2 a call
    opened = fingerprints(kind="FLAT")
    vectors = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    opened.upsert(np.arange(20), vectors)
    found = opened.search(vectors, limit=2)
    assert found.query_rows.tolist() == [row for row in range(20) for _ in range(2)]
    assert found.segment_ids[::2].tolist() == list(range(20))


def test_more_candidates_than_the_index_gives_are_refused_before_anything_is_sent():
    identity = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
    opened = Fingerprints(None, "http://nowhere", identity, IndexSettings(kind="GPU_IVF_PQ"), "asid")
    with pytest.raises(ValueError, match="kind GPU_IVF_PQ gives 1..1024 candidates, not 1025"):
        opened.search(np.zeros((1, 16), np.float32), limit=1025)


def test_milvus_lite_tells_its_user_once_to_move_to_a_server(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("store.fingerprints.LITE_SEGMENTS", 5)
    identity = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
    lite = Fingerprints.open(str(tmp_path / "lite.db"), identity, catalogue="test")
    heard = []
    for start in (0, 3, 6):
        lite.upsert(np.arange(start, start + 3), np.eye(3, 16, dtype=np.float32))
        lite.flush()
        heard.append(caplog.text.count("holds 6 segments and gets slow beyond 5: move to a Milvus server"))
    lite.close()
    assert heard == [0, 1, 1]
    assert "holds 9" not in caplog.text

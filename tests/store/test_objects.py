"""Object stores: one that does not answer is one line, whoever asked; what is not there stays that."""

import pytest
from zarr.storage import ObjectStore

from store import nodes
from store.identity import Identity
from store.nodes import Nodes
from store.objects import ObjectsUnavailable, is_url, opened, reaching
from store.segment_ids import segment_id
from store.shards import RemoteShards

GenericError = pytest.importorskip(
    "obstore.exceptions", reason="obstore is not installed; pip install 'asid[cluster]'"
).GenericError

IDENTITY = Identity(digest="0123456789abcdef", nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
TOLD = r"^s3://music cannot be reached \(.+\); check address and credentials$"


@pytest.fixture
def dead(monkeypatch):
    """The URL of a bucket at an address where nobody listens, asked once."""
    from obstore import store

    quick = {"client_options": {"timeout": "1s", "connect_timeout": "1s"}, "retry_config": {"max_retries": 0}}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    from_url = store.from_url
    monkeypatch.setattr(store, "from_url", lambda url: from_url(url, **quick))
    return "s3://music"


def test_a_store_that_does_not_answer_is_told_when_it_is_opened_or_deleted(dead):
    with pytest.raises(ObjectsUnavailable, match=TOLD):
        Nodes.open(dead, IDENTITY)
    with pytest.raises(ObjectsUnavailable, match=TOLD):
        nodes.delete(dead, IDENTITY)


def test_a_folder_is_no_store_and_what_is_not_there_stays_missing(tmp_path):
    assert is_url("s3://music")
    assert not is_url(tmp_path)
    with pytest.raises(PermissionError), reaching(tmp_path):
        raise PermissionError
    with pytest.raises(FileNotFoundError), reaching(tmp_path.as_uri()):
        opened(tmp_path.as_uri()).get("nothing")


@pytest.mark.parametrize(
    "use",
    [
        lambda kept, encode: kept.write(8, [encode(1, range(3))]),
        lambda kept, encode: kept.node_matrices(segment_id([7], [0])),
        lambda kept, encode: kept.fingerprints(7, 3),
        lambda kept, encode: kept.clear(7),
        lambda kept, encode: kept.sizes(),
    ],
    ids=["write", "rows", "track", "clear", "sizes"],
)
def test_a_store_that_stops_answering_is_told(tmp_path, monkeypatch, encode, use):
    kept = Nodes.open(tmp_path.as_uri(), IDENTITY)
    kept.write(7, [encode(1, range(3))])
    asked = [(RemoteShards, "_chunks"), *((ObjectStore, name) for name in ("set", "delete_dir", "getsize_prefix"))]
    for place, name in asked:
        monkeypatch.setattr(place, name, _hung_up)
    with pytest.raises(ObjectsUnavailable, match=r"cannot be reached \(connection reset\); check address and cred"):
        use(kept, encode)


def _hung_up(*_):
    raise GenericError("connection reset\n\nDebug source: ...")

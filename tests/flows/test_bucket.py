"""An object-store prefix as a watched folder: what is fetched, what is left alone, what is refused."""

import time
from pathlib import Path

import pytest

from flows import bucket, ingest, watch
from flows.bucket import mirror
from flows.ingest import Summary
from flows.watch import ingest_watched
from store import objects

pytest.importorskip("obstore", reason="obstore is not installed; pip install 'asid[cluster]'")


@pytest.fixture
def store(tmp_path):
    """A bucket in a folder, and its address."""
    folder = tmp_path / "bucket"
    for name, content in {
        "a.wav": b"one",
        "deep/b.flac": b"two",
        "notes.txt": b"no audio",
        ".c.wav": b"hidden",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder, f"file://{folder}"


def copies(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_audio_objects_are_fetched_with_their_folders_and_nothing_else(store, tmp_path):
    mirrored = mirror(store[1], tmp_path / "copies")
    assert (mirrored.fetched, mirrored.kept, mirrored.refused) == (2, 0, ())
    assert copies(tmp_path / "copies") == {"a.wav": b"one", "deep/b.flac": b"two"}


def test_only_what_changed_is_fetched_again_and_what_vanished_stays(store, tmp_path):
    folder, url = store
    mirror(url, tmp_path / "copies")
    assert mirror(url, tmp_path / "copies").kept == 2
    (folder / "a.wav").write_bytes(b"new")  # as long as before
    (folder / "deep" / "b.flac").unlink()
    again = mirror(url, tmp_path / "copies")
    assert (again.fetched, again.kept) == (1, 0)
    assert copies(tmp_path / "copies") == {"a.wav": b"new", "deep/b.flac": b"two"}


@pytest.mark.parametrize("key", ["../a.wav", "x/../../a.wav", "/a.wav", "a//b.wav", "..\\a.wav", "./a.wav"])
def test_a_key_that_leads_out_of_the_folder_is_refused(tmp_path, monkeypatch, key):
    class Store:
        def list(self):
            return [[{"path": key}]]

    monkeypatch.setattr(objects, "opened", lambda url: Store())
    assert mirror("s3://music", tmp_path / "copies").refused == (key,)
    assert copies(tmp_path) == {}


def test_a_key_that_no_file_can_have_is_refused_and_the_others_are_fetched(store, tmp_path):
    folder, url = store
    longest = f"{'x' * 251}.wav"  # as long as a name may be
    (folder / longest).write_bytes(b"long")
    for name in ("a.wav/in.wav", "deep/b.flac", "z.wav"):
        (tmp_path / "copies" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "copies" / "deep").rmdir()
    (tmp_path / "copies" / "deep").write_bytes(b"a file where the key has a folder")
    mirrored = mirror(url, tmp_path / "copies")  # a.wav is a folder there
    assert (mirrored.fetched, set(mirrored.refused)) == (1, {"a.wav", "deep/b.flac"})
    assert (tmp_path / "copies" / longest).read_bytes() == b"long"
    assert [path.name for path in (tmp_path / "copies").iterdir() if path.name.startswith(".")] == []


def test_a_key_whose_part_is_too_long_for_a_name_is_refused(tmp_path, monkeypatch):
    class Store:
        def list(self):
            return [[{"path": f"{'x' * 252}.wav", "size": 1}]]

    monkeypatch.setattr(objects, "opened", lambda url: Store())
    (tmp_path / "copies").mkdir()
    assert mirror("s3://music", tmp_path / "copies").refused == (f"{'x' * 252}.wav",)


def test_an_interrupted_fetch_leaves_no_audio_file(store, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket.os, "utime", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        mirror(store[1], tmp_path / "copies")
    assert all(Path(name).name.startswith(".") for name in copies(tmp_path / "copies"))
    monkeypatch.undo()
    assert mirror(store[1], tmp_path / "copies").fetched == 2


def test_a_store_that_does_not_answer_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    quick = {"client_options": {"timeout": "1s", "connect_timeout": "1s"}, "retry_config": {"max_retries": 0}}
    from obstore import store

    opened = store.from_url
    monkeypatch.setattr(store, "from_url", lambda url: opened(url, **quick))
    with pytest.raises(ConnectionError, match="s3://music cannot be reached") as error:
        mirror("s3://music", tmp_path)
    assert "\n" not in str(error.value)


def test_a_tick_over_a_prefix_ingests_the_copies_and_the_next_one_does_nothing(store, tmp_path, monkeypatch):
    calls = []

    class Flow:
        @staticmethod
        def fn(paths, settings, *, retry, progress):
            calls.append(sorted(str(path.relative_to(settings.data)) for path in paths))
            return Summary(outcomes=(), seconds=1.0)

    monkeypatch.setattr(ingest, "ingest_catalogue", Flow)
    monkeypatch.setattr(watch, "publish", lambda *_: None)
    monkeypatch.setenv("ASID_DATA", str(tmp_path / "data"))
    ingest_watched.fn(store[1], settle=60)
    assert ingest_watched.fn(store[1], settle=60).startswith("nothing new")
    assert len(calls) == 1
    assert [path.partition("/")[0] for path in calls[0]] == ["fetched"] * 2
    time.sleep(0.01)
    (store[0] / "d.mp3").write_bytes(b"more")
    ingest_watched.fn(store[1], settle=60)
    assert len(calls) == 2
    assert any(path.endswith("d.mp3") for path in calls[1])

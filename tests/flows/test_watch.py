"""The watched folder: what counts as arrived, and what a tick does with it."""

import json
import os
import time

import pytest
from prefect.client.orchestration import get_client

from flows import arrivals, ingest, watch
from flows.ingest import Outcome, Summary
from flows.installation import taking_turns
from flows.watch import ingest_watched, throughput

PUBLISH = watch.publish


def old(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "watch").mkdir()
    return tmp_path / "watch"


@pytest.fixture
def ingested(monkeypatch, tmp_path):
    """The lists of files that a stand-in for ingestion was given; it fails every file called bad.*."""
    calls = []

    class Flow:
        @staticmethod
        def fn(paths, settings, *, retry, progress):
            calls.append([path.name for path in paths])
            outcomes = [
                Outcome(path=path, state="failed", reason="no audio")
                if path.stem == "bad"
                else Outcome(path=path, state="stored", seconds=60.0, segments=100)
                for path in paths
            ]
            for outcome in outcomes:
                progress(outcome, 1, len(paths))
            return Summary(outcomes=tuple(outcomes), seconds=10.0)

    monkeypatch.setattr(ingest, "ingest_catalogue", Flow)
    monkeypatch.setattr(watch, "publish", lambda *_: None)  # artifacts belong to runs
    monkeypatch.setenv("ASID_DATA", str(tmp_path))
    return calls


def test_audio_files_are_ready_when_nothing_about_them_has_changed_for_a_while(folder):
    for name in ("b.flac", "sub/a.wav", "notes.txt", ".hidden.wav", ".trash/c.wav"):
        old(folder / name)
    assert [path.name for path in arrivals.look(folder, settle=0).ready] == ["b.flac", "a.wav"]
    assert [path.name for path in arrivals.look(folder, settle=0, below=False).ready] == ["b.flac"]
    waiting = arrivals.look(folder, settle=60)
    assert (waiting.ready, len(waiting.waiting)) == ((), 2)


def test_a_file_that_keeps_the_times_of_its_original_is_still_new(folder):
    os.utime(old(folder / "copied.wav"), (0, 0))
    assert arrivals.look(folder, settle=60).waiting == (folder / "copied.wav",)


def test_links_out_of_the_folder_are_refused_and_pipes_are_no_files(folder, tmp_path):
    secret = old(tmp_path / "secret.wav")
    (folder / "out.wav").symlink_to(secret)
    (folder / "up.wav").symlink_to("../secret.wav")
    (folder / "in.wav").symlink_to(old(folder / "real.wav"))
    (folder / "gone.wav").symlink_to(folder / "nothing.wav")
    os.mkfifo(folder / "pipe.wav")
    found = arrivals.look(folder, settle=0)
    assert [path.name for path in found.refused] == ["out.wav", "up.wav"]
    assert [path.name for path in found.ready] == ["in.wav", "real.wav"]
    (tmp_path / "elsewhere").mkdir()
    old(tmp_path / "elsewhere" / "x.wav")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert not any("linked" in path.parts for path in arrivals.look(folder, settle=0).ready)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        arrivals.look(tmp_path / "x", settle=0)


def test_the_watched_folder_of_the_installation_is_made_where_it_is_missing(folder):
    folder.rmdir()
    assert ingest_watched.fn(settle=0) == "nothing new, 0 waiting, 0 refused"


def test_a_tick_ingests_what_is_new_and_the_next_one_does_nothing(folder, ingested):
    old(folder / "a.wav")
    assert ingest_watched.fn(settle=0) == "1 stored"
    assert ingest_watched.fn(settle=0).startswith("nothing new")
    old(folder / "b.wav")
    assert ingest_watched.fn(settle=0) == "2 stored"
    old(folder / "a.wav", b"changed")
    ingest_watched.fn(settle=0)
    assert ingested == [["a.wav"], ["a.wav", "b.wav"], ["a.wav", "b.wav"]]


def test_all_is_looked_at_again_after_an_hour_and_on_request(folder, ingested, tmp_path):
    old(folder / "a.wav")
    ingest_watched.fn(settle=0)
    ingest_watched.fn(settle=0, retry=True)
    seen = json.loads((tmp_path / "watch.json").read_text())
    (tmp_path / "watch.json").write_text(json.dumps(seen | {"time": time.time() - 3601}))
    ingest_watched.fn(settle=0)
    assert len(ingested) == 3


def test_a_tick_leaves_the_work_to_one_that_is_still_at_it(folder, ingested, tmp_path):
    old(folder / "a.wav")
    with taking_turns(tmp_path, "watch"):
        assert ingest_watched.fn(settle=0) == "the last tick is still at work"
    assert ingest_watched.fn(settle=0) == "1 stored"


def test_a_tick_that_dies_leaves_its_files_to_the_next(folder, ingested, monkeypatch):
    old(folder / "a.wav")
    monkeypatch.setattr(ingest.ingest_catalogue, "fn", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ingest_watched.fn(settle=0)
    assert not (folder.parent / "watch.json").exists()


@pytest.mark.parametrize("content", [b"", b'{"digest": "a', b"[]", b"{}", b"\xff"])
def test_a_note_that_cannot_be_read_counts_as_nothing_seen(folder, ingested, tmp_path, content):
    old(folder / "a.wav")
    (tmp_path / "watch.json").write_bytes(content)
    assert ingest_watched.fn(settle=0) == "1 stored"
    assert ingest_watched.fn(settle=0).startswith("nothing new")


def test_a_full_disk_leaves_the_earlier_note(folder, ingested, tmp_path, monkeypatch):
    old(folder / "a.wav")
    ingest_watched.fn(settle=0)
    before = (tmp_path / "watch.json").read_text()

    def fill(path, *_, **__):
        path.open("w").close()
        raise OSError(28, "No space left on device")

    old(folder / "b.wav")
    monkeypatch.setattr(type(tmp_path), "write_text", fill)
    with pytest.raises(OSError, match="No space left"):
        ingest_watched.fn(settle=0)
    assert (tmp_path / "watch.json").read_text() == before


def test_a_run_publishes_counts_failures_and_throughput(folder, ingested, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "publish", PUBLISH)
    old(folder / "a.wav")
    old(folder / "bad.wav")
    (folder / "out.wav").symlink_to(old(tmp_path / "secret.wav"))
    ingest_watched(settle=0)
    with get_client(sync_client=True) as client:
        found = {one.key: one.data for one in client.read_latest_artifacts()}
    (row,) = json.loads(found["ingestion-summary"])
    # 60 s of audio in 10 s
    assert (row["stored"], row["failed"], row["refused"], row["x real time"]) == (1, 1, 1, 6.0)
    reasons = {os.path.basename(one["file"]): one["reason"] for one in json.loads(found["ingestion-failures"])}
    assert reasons == {"bad.wav": "no audio", "out.wav": "leads out of the watched folder"}
    assert "█" in found["ingestion-throughput"]


def test_throughput_sums_what_was_stored_by_time():
    # 40 s in 20 lines of 2 s: 100 s of audio in the first are 50 x real time, 20 s in the last 10 x
    lines = throughput([(0.5, 60.0), (1.5, 40.0), (40.0, 20.0)]).splitlines()
    assert lines[2] == f"| 0 | 50.0 | {'█' * 30} |"
    assert lines[-1] == f"| 40 | 10.0 | {'█' * 6} |"
    assert len(lines) == 2 + 21

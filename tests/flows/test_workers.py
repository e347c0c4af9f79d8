"""Workers: other processes store the tracks, dead ones lose nothing, and claimed tracks are waited for."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from flows import assembly, workers
from flows.ingest import ingest_catalogue
from flows.settings import Settings
from store.catalogue import Catalogue
from store.claims import Claims
from store.directory import ledger_url


@pytest.fixture
def noise(tmp_path):
    """A folder of six files, two seconds of different noise each."""
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(6):
        wave = np.random.default_rng(number).normal(0, 0.1, 2 * 16_000)
        soundfile.write(folder / f"{number}.wav", wave, 16_000)
    return folder


@pytest.fixture
def milvus(tmp_path):
    """A Milvus that several processes may use: Milvus Lite, served on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["milvus-lite", "server", "--data-dir", tmp_path / "lite", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([Path(sys.executable).with_name(command[0]), *command[1:]], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail("milvus-lite server did not answer within 60 s")


def states(summary):
    return {state: len(summary.having(state)) for state in ("stored", "skipped", "failed")}


def test_another_process_than_this_one_needs_a_milvus_server(tmp_path):
    with pytest.raises(ValueError, match="runner 'processes' needs a Milvus server"):
        Settings(data=tmp_path, runner="processes")
    with pytest.raises(ValueError, match="runner is 'thread', expected threads, processes or dask"):
        Settings(data=tmp_path, runner="thread")


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_a_killed_worker_loses_nothing_and_the_rest_is_stored_by_another(tmp_path, noise, milvus, runner):
    if runner == "dask":
        pytest.importorskip("prefect_dask", reason="prefect-dask is not installed (extra `cluster`)")
    settings = Settings(data=tmp_path / "data", runner=runner, workers=1, milvus_uri=milvus)
    killed = []

    def kill_one():
        """Kills the worker that holds the first claim."""
        encoder = assembly.encoder(settings)
        (tmp_path / "data").mkdir(exist_ok=True)
        with closing(Catalogue.open(ledger_url(tmp_path / "data"), encoder.digest)) as catalogue:
            while not killed:
                for track in catalogue.tracks("pending"):
                    if track.claimed_by:
                        killed.append(int(track.claimed_by.rsplit(":", 2)[1]))
                        os.kill(killed[0], signal.SIGKILL)
                        return
                time.sleep(0.01)

    hunter = threading.Thread(target=kill_one, daemon=True)
    hunter.start()
    summary = ingest_catalogue([noise], settings)
    hunter.join(5)
    assert killed
    assert not psutil.pid_exists(killed[0])
    assert {o.path.name for o in summary.outcomes if o.state in ("stored", "skipped")} == {f"{n}.wav" for n in range(6)}
    with assembly.references(settings, assembly.encoder(settings)) as references:
        assert references.counts().stored == 6
        assert references.require_complete() == references.counts().segments
        assert not references.catalogue.leftovers()


@pytest.fixture
def cluster():
    """A Dask cluster with a worker for each of the resources CPU and GPU; gives the scheduler's address."""
    distributed = pytest.importorskip("distributed", reason="prefect-dask is not installed (extra `cluster`)")
    workers = {
        name: {"cls": distributed.Nanny, "options": {"nthreads": 1, "resources": {name: 1}}} for name in ("CPU", "GPU")
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        yield client


def test_workers_without_a_gpu_decode_and_those_with_one_encode_and_store(tmp_path, noise, milvus, cluster):
    (noise / "text.wav").write_text("this is no audio")
    dask = {"runner": "dask", "dask_address": cluster.scheduler.address, "decoding": "apart"}
    settings = Settings(data=tmp_path / "data", workers=1, milvus_uri=milvus, **dask)
    cluster.get_task_stream()  # from now on
    summary = ingest_catalogue([noise], settings)
    assert states(summary) == {"stored": 6, "skipped": 0, "failed": 1}
    offers = {w["id"]: next(iter(w["resources"])) for w in cluster.scheduler_info(n_workers=-1)["workers"].values()}
    names = {address: w["id"] for address, w in cluster.scheduler_info(n_workers=-1)["workers"].items()}
    done = {(event["key"].split("-")[0], offers[names[event["worker"]]]) for event in cluster.get_task_stream()}
    assert done == {("decode_batch", "CPU"), ("store_decoded", "GPU")}
    alone = Settings(data=tmp_path / "alone", workers=1)  # encoded in this process, from the files
    ingest_catalogue([noise], alone)
    with (
        assembly.references(settings, assembly.encoder(settings)) as apart,
        assembly.references(alone, assembly.encoder(alone)) as along,
    ):
        one, other = (
            {
                t.path.name: references._nodes.fingerprints(t.number, t.rows)
                for t in references.catalogue.tracks("stored")
            }
            for references in (apart, along)
        )
    for name in one:
        np.testing.assert_allclose(one[name].fingerprints, other[name].fingerprints, atol=1e-3)


def test_a_cluster_without_a_gpu_worker_is_told_before_anything_waits(tmp_path, noise, milvus):
    distributed = pytest.importorskip("distributed", reason="prefect-dask is not installed (extra `cluster`)")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, resources={"CPU": 1}
    ) as cluster:
        dask = {"runner": "dask", "dask_address": cluster.scheduler_address, "decoding": "apart"}
        settings = Settings(data=tmp_path / "data", workers=1, milvus_uri=milvus, **dask)
        with pytest.raises(ValueError, match="needs a Dask worker that offers GPU, none of 1 does"):
            ingest_catalogue([noise], settings)


def test_decoding_apart_needs_a_cluster_that_is_named(tmp_path):
    with pytest.raises(ValueError, match="decoding 'apart' needs workers of two kinds"):
        Settings(data=tmp_path, runner="dask", milvus_uri="http://127.0.0.1:19530", decoding="apart")
    with pytest.raises(ValueError, match="decoding is 'aside', expected along or apart"):
        Settings(data=tmp_path, decoding="aside")


def test_what_another_ingestion_holds_is_waited_for(tmp_path, noise, monkeypatch):
    settings = Settings(data=tmp_path / "data", workers=1)
    encoder = assembly.encoder(settings)
    monkeypatch.setattr(workers, "_LOOK_AGAIN", 0.01)
    with assembly.references(settings, encoder) as references:
        first, second = references.plan(sorted(noise.iterdir())[:2]).pending
        other = Claims(references.catalogue._engine, references.catalogue.url, holds=1.0)
        other.worker = "another.host:1:0"
        assert other.take(first.number)
        assert other.take(second.number)
        told = []
        ingestion = workers.Ingestion(references, encoder, settings, beside=False, tell=told.append)
        monkeypatch.setattr(workers, "store_batch", workers.store_batch.fn)
        finish = threading.Timer(0.3, lambda: references.catalogue.stored(second.number))  # the other one goes on
        finish.start()
        began = time.monotonic()
        outcomes = list(ingestion([first, second]))
        assert time.monotonic() - began > 0.9  # the claim on the first ran out
    assert [(o.path, o.state, o.reason) for o in outcomes] == [
        (second.path, "skipped", "another ingestion took it"),
        (first.path, "stored", ""),
    ]
    assert told == outcomes


def test_a_track_that_costs_three_workers_is_a_failed_row(tmp_path, noise, monkeypatch):
    settings = Settings(data=tmp_path / "data", workers=1)
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder) as references:
        pending = references.plan(sorted(noise.iterdir())[:3]).pending
        ingestion = workers.Ingestion(references, encoder, settings, beside=False, tell=lambda _: None)
        tried = []

        class Dies:
            def __init__(self, batch):
                self.batch = batch

            def result(self):
                if pending[1] in self.batch:
                    raise workers.BrokenExecutor("a child process terminated abruptly")
                return [workers.Outcome(path=one.path, state="stored") for one in self.batch]

        def one_round(waiting):
            for batch in ingestion._batches(waiting):
                tried.append([one.number for one in batch])
                yield from ingestion._result(Dies(batch), batch)

        monkeypatch.setattr(ingestion, "_round", one_round)
        outcomes = list(ingestion(pending))
        assert tried == [[1, 2, 3], [1], [2], [3], [2]]
        assert references.catalogue.track(2).reason == "3 workers died over it; look at the file before trying it again"
    assert sorted((o.path.name, o.state) for o in outcomes) == [
        ("0.wav", "stored"), ("1.wav", "failed"), ("2.wav", "stored"),
    ]  # fmt: skip


def test_a_worker_that_has_lost_its_claim_undoes_nothing(tmp_path, noise):
    settings = Settings(data=tmp_path / "data", workers=1)
    encoder = assembly.encoder(settings)

    def store(pending, blocks):
        return workers._store(workers._file(pending), blocks, references, encoder.limits)

    def breaks():
        references.catalogue.stored(unreadable.number)  # another worker's work, meanwhile
        raise ValueError("cannot be read: stale file handle")
        yield

    with assembly.references(settings, encoder) as references:
        removed, unreadable = references.plan(sorted(noise.iterdir())[:2]).pending
        references.claim(removed)
        references.remove(removed.number)
        assert store(removed, encoder.blocks(removed.path)) is None
        assert store(unreadable, breaks()) is None
        states = [track.state for track in references.catalogue.by_numbers([removed.number, unreadable.number])]
    assert states == ["removed", "stored"]

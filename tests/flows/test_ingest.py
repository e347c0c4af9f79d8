"""Ingestion through a real Prefect run, a real Milvus and a real Zarr store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import soundfile

from flows.ahead import encoded as encoded_ahead
from flows.ingest import ingest_catalogue
from flows.settings import Settings
from store.references import References


def settings(data):
    return Settings(data=data, workers=2)


def states(summary):
    return {state: len(summary.having(state)) for state in ("stored", "skipped", "failed")}


def test_ingesting_twice_does_nothing_the_second_time(catalogue, music):
    summary = ingest_catalogue([music], settings(catalogue))
    assert states(summary) == {"stored": 0, "skipped": 4, "failed": 0}


def test_a_broken_file_is_a_line_with_its_reason_and_the_rest_is_stored(tmp_path, music):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(next(music.glob("*.flac")), folder / "good.flac")
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "short.wav", np.ones(3200) * 0.1, 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(80_000), 16_000)
    summary = ingest_catalogue([folder], settings(tmp_path / "data"))
    assert states(summary) == {"stored": 2, "skipped": 0, "failed": 2}
    reasons = {o.path.name: o.reason for o in summary.having("failed")}
    assert "0.20 s" in reasons["short.wav"]
    assert reasons["text.wav"]
    assert {o.path.name: o.segments for o in summary.having("stored")}["silent.wav"] == 0


def test_a_folder_that_goes_away_meanwhile_is_ingested_once_it_is_back(tmp_path, music, monkeypatch):
    folder, away = tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    shutil.copy(next(music.glob("*.flac")), folder / "song.flac")
    planned = References.plan

    def drops(self, *args, **kwargs):
        found = planned(self, *args, **kwargs)
        folder.rename(away)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(References, "plan", drops)
        summary = ingest_catalogue([folder], settings(tmp_path / "data"))
    assert states(summary) == {"stored": 0, "skipped": 0, "failed": 1}
    away.rename(folder)
    assert states(ingest_catalogue([folder], settings(tmp_path / "data"))) == {"stored": 1, "skipped": 0, "failed": 0}


def test_threads_end_though_nobody_takes_their_blocks():
    class Endless:
        def blocks(self, _encoder):
            while True:
                yield 0

    before = threading.active_count()
    with closing(encoded_ahead([Endless()] * 5, None, workers=2)) as encoded:
        for taken, (_, blocks) in enumerate(encoded):
            assert next(iter(blocks)) == 0
            assert threading.active_count() - before <= 3 + taken  # the one that is read and two ahead; a few stopping
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() == before


def test_after_kill_9_ingestion_goes_on_and_nothing_stored_is_lost(tmp_path, music):
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(6):  # six copies with one sample changed, so that each is a track of its own
        wave, rate = soundfile.read(next(music.glob("*.flac")))
        wave[n] = 0.5
        soundfile.write(folder / f"{n}.flac", wave, rate)
    code = (
        "import sys; from pathlib import Path; from flows import ingest, workers; from flows.settings import Settings; "
        "workers.store_batch = workers.store_batch.fn; "  # without Prefect, whose server would outlive the kill
        "ingest.ingest_catalogue.fn([Path(sys.argv[1])], Settings(data=Path(sys.argv[2]), workers=1), "
        "progress=lambda o, size, total: print(o.path.name, flush=True))"
    )
    run = subprocess.Popen([sys.executable, "-c", code, folder, tmp_path / "data"], stdout=subprocess.PIPE, text=True)
    first = [run.stdout.readline().strip() for _ in range(2)]
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(0.5)
    summary = ingest_catalogue([folder], settings(tmp_path / "data"))
    skipped = [o.path.name for o in summary.having("skipped")]
    assert len(skipped) >= 2
    assert set(first) <= set(skipped)
    assert states(summary)["stored"] == 6 - len(skipped)
    assert states(ingest_catalogue([folder], settings(tmp_path / "data")))["skipped"] == 6


def test_what_milvus_lost_is_refused_and_filled_again_from_zarr(asid, tmp_path, music):
    data, (first, second) = tmp_path / "data", sorted(music.iterdir())[:2]
    assert asid("ingest", first, "--data", data).exit_code == 0
    shutil.rmtree(data / "fingerprints.db")
    result = asid("find", second, "--data", data)
    assert result.exit_code == 1
    assert "asid reindex" in result.stderr
    assert "segments in Milvus" in asid("reindex", "--data", data).stdout
    answer = json.loads(asid("find", first, "--data", data, "--json", "--include-self").stdout)
    assert answer["queries"][0]["matches"][0]["reference"]["path"] == str(first)


def test_a_removed_track_is_no_longer_found_and_stays_out(asid, tmp_path, music):
    data = tmp_path / "data"
    files = sorted(music.iterdir())[:2]
    assert asid("ingest", *files, "--data", data).exit_code == 0
    result = asid("remove", files[0], "--data", data)
    assert "removed 1" in result.stdout
    summary = json.loads(asid("ingest", *files, "--data", data, "--json").stdout)
    assert (summary["stored"], summary["skipped"]) == (0, 2)
    answer = json.loads(asid("find", files[0], "--data", data, "--json", "--include-self").stdout)
    found = {m["reference"]["path"] for q in answer["queries"] for m in q["matches"]}
    assert str(files[0]) not in found

"""A disk that fills up during `asid ingest`: one line says so, nothing stored is lost, the next run goes on."""

import json
import os
import subprocess

import numpy as np
import pytest
import soundfile

MOUNT = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs"]
TRACKS = 6  # of 100 s, about 6.6 MB each: three fit


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run([*MOUNT, disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def music(tmp_path):
    """Tracks of noise, which compress as badly as node matrices of music do."""
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(TRACKS):
        noise = 0.1 * np.random.default_rng(number).standard_normal(100 * 16_000)
        soundfile.write(folder / f"{number}.flac", noise, 16_000)
    return folder


def test_a_full_disk_is_told_in_one_line_and_loses_nothing(asid, small_disk, music, tmp_path):
    data, settings = small_disk / "data", tmp_path / "settings.toml"
    settings.write_text('node_form = "full"')

    def counts():
        return json.loads(asid("info", "--data", data, "--settings", settings, "--json", limit=120).output)["catalogue"]

    full = asid("ingest", music, "--data", data, "--settings", settings, "--json", limit=300)
    told = [line for line in full.errors.splitlines() if line.startswith("asid: ")]
    assert full.status == 1, full.errors[-500:]
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert "Traceback" not in full.errors
    before = counts()
    assert 1 <= before["stored"] < TRACKS
    assert before["failed"] == 0  # the file is not to blame

    subprocess.run(["mount", "-o", "remount,size=120m", small_disk], check=True)
    again = asid("ingest", music, "--data", data, "--settings", settings, "--json", limit=300)
    assert again.status == 0, again.errors[-500:]
    summary = json.loads(again.output)
    assert (summary["skipped"], summary["stored"], summary["failed"]) == (
        before["stored"],
        TRACKS - before["stored"],
        0,
    )
    after = counts()
    assert after["stored"] == TRACKS
    assert after["segments"] == TRACKS * before["segments"] // before["stored"]

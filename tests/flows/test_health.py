"""Health: each part that is away or damaged is told by name, and the others are looked at all the same."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import health
from flows.settings import Settings


@pytest.fixture
def copied(catalogue, tmp_path):
    """A catalogue that may be damaged."""
    return Settings(data=shutil.copytree(catalogue, tmp_path / "data", ignore=shutil.ignore_patterns("LOCK", "*.lock")))


@pytest.fixture(autouse=True)
def without_prefect(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def by_part(settings):
    return {found.part: found for found in health.check(settings)}


def test_a_whole_catalogue_is_well(copied):
    found = by_part(copied)
    assert list(found) == ["encoder", "ledger", "milvus", "segment", "disk"]
    assert all(one.well for one in found.values()), found
    assert "4 tracks stored" in found["ledger"].seen
    assert "milvus_lite" in found["milvus"].seen
    assert "read back" in found["segment"].seen


def test_a_server_of_prefect_that_answers_is_well(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    assert by_part(Settings(data=tmp_path))["prefect"].well


def test_without_a_catalogue_the_ledger_is_told_and_nothing_is_made(tmp_path):
    (tmp_path / "data").mkdir()
    found = by_part(Settings(data=tmp_path / "data"))
    assert (found["encoder"].well, found["ledger"].well, "milvus" in found) == (True, False, False)
    assert "asid ingest" in found["ledger"].seen
    assert list((tmp_path / "data").iterdir()) == []


def test_an_index_that_lacks_segments_is_told(copied):
    shutil.rmtree(copied.data / "fingerprints.db")
    found = by_part(copied)
    told = [one.seen for one in found.values() if not one.well]
    assert len(told) == 1
    assert "asid reindex" in told[0]


def test_node_matrices_that_are_gone_are_told(copied):
    for chunks in (copied.data / "nodes").rglob("node_matrices/c"):
        shutil.rmtree(chunks)
    found = by_part(copied)
    assert (found["milvus"].well, found["segment"].well) == (True, False)


def test_a_milvus_that_is_away_is_told_as_such(copied):
    found = by_part(replace(copied, milvus_uri="http://127.0.0.1:9"))
    assert [one.part for one in found.values() if not one.well] == ["milvus"]
    assert "127.0.0.1:9" in found["milvus"].seen


def test_contrast_features_that_are_damaged_are_told(copied):
    for shard in filter(Path.is_file, (copied.data / "nodes").rglob("contrast/c/**/*")):
        kept = bytearray(shard.read_bytes())
        kept[len(kept) // 3] ^= 1
        shard.write_bytes(bytes(kept))
    found = by_part(copied)
    assert (found["milvus"].well, found["segment"].well) == (True, False)


def test_a_server_that_is_away_a_full_disk_and_a_missing_checkpoint_are_told(copied, monkeypatch):
    monkeypatch.setattr(health, "LEAST_FREE", 1 << 60)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = by_part(replace(copied, encoder=copied.data / "none.safetensors"))
    assert [one.part for one in found.values() if not one.well] == ["encoder", "disk", "prefect"]
    assert "MiB left" in found["disk"].seen
    assert "none.safetensors" in found["encoder"].seen

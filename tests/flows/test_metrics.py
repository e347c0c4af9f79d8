"""Metrics: what Prometheus reads agrees with the ledger and with the queries that were answered."""

import re
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from flows import metrics
from flows.settings import Settings


def values(text):
    """Name with labels -> value."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_queries_add_up_over_processes_and_restarts(tmp_path):
    metrics.count_queries(tmp_path, [0.4, 1.0, 400.0], failed=1)
    metrics.count_queries(tmp_path, [1.5], failed=0)
    found = values(metrics.text(Settings(data=tmp_path)))
    # buckets are cumulative and hold their upper bound: 0.4 | 0.4 1.0 | 0.4 1.0 1.5 | ... | all
    assert [found[f'asid_query_seconds_bucket{{le="{le}"}}'] for le in ("0.5", "1", "2", "300", "+Inf")] == [
        1,
        2,
        3,
        3,
        4,
    ]
    assert (found["asid_query_seconds_count"], found["asid_query_seconds_sum"]) == (4, pytest.approx(402.9))
    assert found["asid_query_failures_total"] == 1


def test_tracks_segments_and_bytes_are_those_of_the_catalogue(catalogue):
    found = values(metrics.text(Settings(data=catalogue)))
    (tracks,) = [value for name, value in found.items() if re.match(r'asid_tracks\{.*state="stored"', name)]
    assert tracks == 4
    assert sum(value for name, value in found.items() if name.startswith("asid_segments")) > 100
    assert sum(value for name, value in found.items() if name.startswith("asid_audio_seconds")) > 100
    assert all(found[f'asid_disk_bytes{{part="{part}"}}'] > 0 for part in ("nodes", "fingerprints", "ledger"))
    assert found["asid_disk_free_bytes"] > 0


def test_a_directory_that_is_not_there_has_no_metrics(tmp_path):
    assert metrics.text(Settings(data=tmp_path / "x")) == ""
    assert not (tmp_path / "x").exists()


def test_they_are_served_on_loopback(tmp_path):
    metrics.count_queries(tmp_path, [1.0], failed=0)
    port = metrics.serve(Settings(data=tmp_path), port=0)
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert "asid_query_seconds_count 1.0" in answer.read().decode()
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.2:{port}/metrics", timeout=10)


def test_a_port_that_is_taken_is_named(tmp_path):
    port = metrics.serve(Settings(data=tmp_path), port=0)
    with pytest.raises(OSError, match=f"port {port} on 127.0.0.1 cannot be taken for metrics .*; choose another"):
        metrics.serve(Settings(data=tmp_path), port=port)

"""kill -9 of the Milvus server, while tracks are added and while it is asked: told in one line, and nothing is lost."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from benchmarks import milvus_server
from encoder.encoding import Encoding
from store.connection import IndexUnavailable
from store.identity import Identity
from store.index import IndexSettings
from store.references import References
from store.segment_ids import segment_id

pytestmark = pytest.mark.skipif(
    not os.environ.get("ASID_DRILLS"),
    reason="takes minutes and a server of its own; `make drills` sets ASID_DRILLS",
)
SHAPES = {"nodes": 3, "channels": 4, "dimensions": 64, "hop": 0.5, "segment_duration": 4.0}
TRACKS, SEGMENTS = 40, 400


@pytest.fixture(scope="module")
def server():
    """A Milvus that may be killed and started again on the same data; its address stays."""
    try:
        with milvus_server.running() as running:
            yield running
    except milvus_server.ServerUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def files(tmp_path):
    """``files(3)``: paths of three small files with different content."""

    def files(count):
        paths = [tmp_path / f"{number}.wav" for number in range(count)]
        for path in paths:
            path.write_text(path.name)
        return paths

    return files


def block_of(number: int) -> Encoding:
    rng = np.random.default_rng(number)
    fingerprints = rng.standard_normal((SEGMENTS, 64)).astype(np.float32)
    return Encoding(
        segment_indices=np.arange(SEGMENTS),
        fingerprints=fingerprints / np.linalg.norm(fingerprints, axis=1, keepdims=True),
        node_matrices=rng.standard_normal((SEGMENTS, 3, 4)).astype(np.float16),
        hop=0.5,
        segment_duration=4.0,
    )


def opened(server, folder, digest="0123456789abcdef", **changes) -> References:
    settings = {"index": IndexSettings(timeout=15, nlist=64), **changes}
    uri = f"http://127.0.0.1:{server.listen_port}"
    return References.open(folder / "data", Identity(digest=digest, **SHAPES), milvus_uri=uri, **settings)


def kill(server) -> None:
    os.kill(server.server_proc.pid, signal.SIGKILL)
    server.server_proc.wait()


def start_again(server) -> None:
    """On the same port, once the kernel has forgotten the connections of the dead one."""
    until = time.monotonic() + 120
    while True:
        try:
            server.start()
            return milvus_server._wait(server)
        except RuntimeError as error:
            if "bind failed" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(2)


def in_time(work):
    """What ``work`` returns once the server has come to itself."""
    until = time.monotonic() + 120
    while True:
        try:
            return work()
        except IndexUnavailable:
            if time.monotonic() > until:
                raise
        time.sleep(1)


def add_until_it_dies(references, paths, acknowledged) -> None:
    """Adds all files, changes them, adds them again …"""
    for turn in range(1000):
        for number, pending in enumerate(references.plan(paths).pending):
            references.add(pending, [block_of(number)], duration=200.0)
            acknowledged.append(pending.number)
        for path in paths:
            path.write_text(f"{path.name} {turn}")


def ask_until_it_dies(references, queries) -> None:
    while True:
        references.candidates(queries, limit=5)


def require_whole(references, numbers) -> None:
    """Every track is complete, once, and finds itself."""
    assert references.require_complete() == SEGMENTS * len(numbers)
    for number in numbers:
        block = block_of(number - 1)
        ids = segment_id(number, block.segment_indices)
        np.testing.assert_array_equal(references.node_matrices(ids), block.node_matrices)
        found = references.candidates(block.fingerprints[::50], limit=1)
        np.testing.assert_array_equal(found.segment_ids, ids[::50])


def test_a_server_killed_while_tracks_are_added_loses_nothing_and_the_next_run_completes(server, tmp_path, files):
    paths, acknowledged = files(TRACKS), []
    references = opened(server, tmp_path)
    threading.Timer(3.0, kill, [server]).start()
    began = time.monotonic()
    with pytest.raises(IndexUnavailable, match="Milvus at .* could not .*: .*; check that it runs and try again"):
        add_until_it_dies(references, paths, acknowledged)
    assert time.monotonic() - began < 90
    stored = [track.number for track in references.catalogue.tracks("stored")]
    with pytest.raises(IndexUnavailable):
        references.candidates(block_of(0).fingerprints[:1], limit=1)
    references.close()
    start_again(server)
    with in_time(lambda: opened(server, tmp_path)) as again:
        assert acknowledged
        require_whole(again, stored)
        for pending in again.plan(paths).pending:
            again.add(pending, [block_of(pending.number - 1)], duration=200.0)
        require_whole(again, range(1, TRACKS + 1))


def test_a_server_killed_while_it_is_asked_is_told_in_one_line_and_answers_the_same_afterwards(server, tmp_path, files):
    with opened(server, tmp_path, digest="fedcba9876543210", alias="asked") as references:
        for number, pending in enumerate(references.plan(files(5)).pending):
            references.add(pending, [block_of(number)], duration=200.0)
        queries = block_of(2).fingerprints
        before = references.candidates(queries, limit=5)
        threading.Timer(1.0, kill, [server]).start()
        with pytest.raises(IndexUnavailable, match="could not search: .*; check that it runs and try again"):
            ask_until_it_dies(references, queries)
        start_again(server)
        after = in_time(lambda: references.candidates(queries, limit=5))
        np.testing.assert_array_equal(after.segment_ids, before.segment_ids)

"""What goes wrong around a store: killed writers, second processes, dead servers, full disks, other encoders."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from store.claims import HOLDS, ClaimLost
from store.connection import IndexUnavailable
from store.fingerprints import Fingerprints, IndexIncomplete
from store.identity import IndexMismatch
from store.segment_ids import segment_id, track_of

ROOT = Path(__file__).parents[2]

# Adds the files one after the other, then removes the first; dies without warning at the n-th call of one method.
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from encoder.encoding import Encoding
from store.catalogue import Catalogue
from store.fingerprints import Fingerprints
from store.nodes import Nodes
from store.identity import Identity
from store.references import References

folder, owner, method, calls = Path(sys.argv[1]), *sys.argv[2].split("."), int(sys.argv[3])
original = getattr(globals()[owner], method)

def deadly(*args, **kwargs):
    global calls
    calls -= 1
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(globals()[owner], method, deadly)
shapes = dict(nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
references = References.open(folder / "data", Identity(digest="0123456789abcdef", **shapes))
for pending in references.plan(sorted((folder / "audio").glob("*.wav"))).pending:
    arrays = np.load(folder / (pending.path.stem + ".npz"))
    block = Encoding(**arrays, hop=0.5, segment_duration=4.0)
    references.add(pending, [block], duration=1.0)
    print(pending.number, flush=True)
references.remove(1)
print("removed", flush=True)
"""

HOLDER = """
import sys
from store.identity import Identity
from store.references import References
shapes = dict(nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)
with References.open(sys.argv[1], Identity(digest="0123456789abcdef", **shapes)):
    print("open", flush=True)
    sys.stdin.read()
"""


def start(code: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def require_consistent(references, block_of) -> None:
    """Everything the ledger calls stored is complete in Zarr and Milvus, and nothing else is in Milvus."""
    stored = references.catalogue.tracks("stored")
    assert references.require_complete() == sum(track.segments for track in stored)
    for track in stored:
        block = block_of(track.path)
        ids = segment_id(track.number, block.segment_indices)
        np.testing.assert_array_equal(references.node_matrices(ids), block.node_matrices)
        found = references.candidates(block.fingerprints, limit=1)
        np.testing.assert_array_equal(found.segment_ids, ids)
    assert references.catalogue.leftovers() == []


@pytest.mark.parametrize(
    ("method", "calls", "announced"),
    [
        ("Nodes.write_shard", 4, ["1"]),  # two shards a track: in the middle of the second track's Zarr
        ("Catalogue.placed", 2, ["1"]),  # Zarr written, the ledger does not know
        ("Fingerprints.upsert", 2, ["1"]),  # the ledger knows the rows, Milvus has none
        ("Catalogue.stored", 2, ["1"]),  # Milvus has them, not yet called stored
        ("Fingerprints.delete", 1, ["1", "2", "3"]),  # called removed, still in Milvus
        ("Nodes.clear", 4, ["1", "2", "3"]),  # out of Milvus, still in Zarr
        ("Catalogue.cleared", 4, ["1", "2", "3"]),  # out of both, the ledger does not know
    ],
)
def test_a_killed_writer_leaves_what_is_stored_complete_and_the_rest_to_be_added(
    tmp_path, files, encode, open_references, method, calls, announced
):
    paths = files(3)
    blocks = {path: encode(seed, range(300)) for seed, path in enumerate(paths)}
    for path, block in blocks.items():
        arrays = {name: getattr(block, name) for name in ("segment_indices", "fingerprints", "node_matrices")}
        np.savez(tmp_path / f"{path.stem}.npz", **arrays)
    writer = start(WRITER, str(tmp_path), method, str(calls))
    output, _ = writer.communicate(timeout=60)
    assert writer.returncode == -signal.SIGKILL
    assert output.split() == announced

    references = open_references()
    require_consistent(references, blocks.get)
    removed = {track.path for track in references.catalogue.tracks("removed")}
    assert {str(track.number) for track in references.catalogue.tracks("stored")} == set(announced) - (
        {"1"} if removed else set()
    )
    for pending in references.plan(paths, retry=True).pending:
        references.add(pending, [blocks[pending.path]], duration=1.0)
    require_consistent(references, blocks.get)
    assert [track.number for track in references.catalogue.tracks("stored")] == [1, 2, 3]


def test_a_second_process_is_told_who_holds_the_index(tmp_path, open_references, shapes):
    holder = start(HOLDER, str(tmp_path / "data"))
    try:
        assert holder.stdout.readline() == "open\n"
        for read_only in (True, False):
            with pytest.raises(IndexUnavailable, match="another process holds it: wait"):
                open_references(read_only=read_only)
        with pytest.raises(IndexUnavailable, match="another process is writing to .*; wait for it to finish"):
            open_references(alone=True)
    finally:
        holder.communicate("", timeout=30)
    assert open_references().counts().stored == 0


def test_closing_lets_another_process_in(tmp_path, open_references):
    open_references().close()
    holder = start(HOLDER, str(tmp_path / "data"))
    assert holder.communicate("", timeout=30)[0] == "open\n"


def test_readers_in_the_writers_process_share_its_index(files, encode, open_references):
    writer, reader = open_references(), open_references(read_only=True)
    (pending,) = writer.plan(files(1)).pending
    writer.add(pending, [encode(1, range(300))], duration=1.0)
    reader.close()
    assert len(writer.candidates(encode(1, [0]).fingerprints, limit=5)) == 5
    late = open_references(read_only=True)
    writer.close()
    found = late.candidates(encode(1, [0]).fingerprints, limit=5)
    assert late.node_matrices(found.segment_ids).shape == (5, 3, 4)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://nobody.invalid:19530"])
def test_a_dead_server_is_told_within_seconds(open_references, uri):
    begin = time.monotonic()
    with pytest.raises(IndexUnavailable, match=f"Milvus at {uri} cannot be opened .*; start Milvus there"):
        open_references(milvus_uri=uri)
    assert time.monotonic() - begin < 15


def test_a_full_disk_loses_nothing_that_is_stored(files, encode, open_references, monkeypatch):
    paths, references = files(2), open_references()
    blocks = {path: encode(seed, range(300)) for seed, path in enumerate(paths)}
    first, second = references.plan(paths).pending
    references.add(first, [blocks[paths[0]]], duration=1.0)
    write_shard = references._nodes.write_shard

    def full(track, first, values):
        if first >= 256:  # the second shard of the second track
            raise OSError(28, "No space left on device")
        write_shard(track, first, values)

    monkeypatch.setattr(references._nodes, "write_shard", full)
    with pytest.raises(OSError, match="No space left"):
        references.add(second, [blocks[paths[1]]], duration=1.0)
    require_consistent(references, blocks.get)
    monkeypatch.undo()
    assert references.add(second, [blocks[paths[1]]], duration=1.0).state == "stored"
    require_consistent(references, blocks.get)


def test_milvus_dying_in_the_middle_leaves_the_track_to_be_added(files, encode, open_references, monkeypatch):
    paths, references = files(1), open_references()
    (pending,) = references.plan(paths).pending

    def die(*_):
        raise IndexUnavailable("Milvus is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Fingerprints, "upsert", die)
        with pytest.raises(IndexUnavailable):
            references.add(pending, [encode(1, range(3))], duration=1.0)
    assert references.plan(paths).pending == (pending,)
    references.add(pending, [encode(1, range(3))], duration=1.0)
    require_consistent(references, {paths[0]: encode(1, range(3))}.get)


def test_a_catalogue_of_another_checkpoint_is_refused_with_both_digests(open_references):
    open_references().close()
    with pytest.raises(IndexMismatch, match="digest 0123456789abcdef, this encoder has digest fedcba9876543210; use"):
        open_references(digest="fedcba9876543210")


def test_an_index_of_another_catalogue_is_refused(tmp_path, open_references):
    open_references().close()
    (tmp_path / "data" / "ledger.sqlite").unlink()
    with pytest.raises(IndexMismatch, match="belongs to catalogue"):
        open_references()


def test_an_index_that_lost_segments_is_told_and_rebuilt(files, encode, open_references):
    references = open_references()
    (pending,) = references.plan(files(1)).pending
    track = references.add(pending, [encode(1, range(3))], duration=1.0)
    references._fingerprints.delete(segment_id(track.number, [1]).tolist())
    references.close()
    with pytest.raises(IndexIncomplete, match="holds 2 of 3 stored segments; run `asid reindex`"):
        open_references()
    repaired = open_references(verify=False)
    assert repaired.rebuild() == 3
    assert len(repaired.candidates(encode(1, [0]).fingerprints, limit=5)) == 3


def test_reading_creates_nothing(tmp_path, open_references):
    with pytest.raises(FileNotFoundError, match="run `asid ingest` first"):
        open_references(read_only=True)
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    with pytest.raises(FileNotFoundError, match="run `asid ingest` first"):
        open_references(read_only=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_many_segments_survive_batches_flushes_and_reopening(files, encode, open_references):
    references = open_references()
    block = encode(1, range(12_000))  # above the limits of one write and of one flush
    (pending,) = references.plan(files(1)).pending
    references.add(pending, [block], duration=6000.0)
    references.close()
    references = open_references(read_only=True)
    queries = block.fingerprints[::100]
    found = references.candidates(queries, limit=1)
    assert (found.segment_ids & 0xFFFF).tolist() == list(range(0, 12_000, 100))
    assert set(track_of(found.segment_ids).tolist()) == {pending.number}


def test_a_collection_whose_maker_was_killed_before_its_index_gets_one(files, encode, open_references, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("pymilvus.MilvusClient.create_index", lambda *_args, **_more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_references()
    with pytest.raises(IndexIncomplete, match="run `asid reindex`"):
        open_references(read_only=True)
    references = open_references()
    (pending,) = references.plan(files(1)).pending
    references.add(pending, [encode(1, range(3))], duration=1.0)
    assert len(references.candidates(encode(1, [0]).fingerprints, limit=5)) == 3


def test_whoever_only_looks_binds_an_empty_catalogue_to_no_encoder(tmp_path, open_references):
    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    with pytest.raises(FileNotFoundError, match="is empty; run `asid ingest` first"):
        open_references(ledger_url=url, read_only=True)
    assert open_references(ledger_url=url, digest="fedcba9876543210").catalogue.current() == "fedcba9876543210"


def test_what_is_called_stored_is_on_the_disk(tmp_path, files, encode, open_references, monkeypatch):
    references, synced = open_references(), []
    monkeypatch.setattr("store.nodes._sync", synced.append)
    stored = references.catalogue.stored
    there = []
    monkeypatch.setattr(references.catalogue, "stored", lambda number: (there.extend(synced), stored(number)))
    (pending,) = references.plan(files(1)).pending
    references.add(pending, [encode(1, range(300))], duration=150.0)
    shards = [path for path in (tmp_path / "data" / "nodes").rglob("c/*/*/**/*") if path.is_file()]
    assert len(shards) == 4  # two of each array
    assert {*shards, *(path.parent for path in shards)} <= set(there)


@pytest.mark.parametrize("slow", ["decoding", "upserting"])
def test_what_was_cleared_under_a_worker_that_was_too_slow_is_not_called_stored(
    files, encode, open_references, monkeypatch, slow
):
    mine, others = open_references(), open_references()
    (pending,) = mine.plan(files(1)).pending
    now = [time.time()]
    monkeypatch.setattr("store.claims.time", SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0]))
    monkeypatch.setattr("store.catalogue.time.time", lambda: now[0])

    def paused():
        now[0] += 2 * HOLDS
        others.settle()  # as everybody does who opens the catalogue

    def blocks():
        yield encode(1, range(300))
        if slow == "decoding":
            paused()
            yield encode(1, range(300, 600))

    if slow == "upserting":
        upsert = mine._fingerprints.upsert
        monkeypatch.setattr(mine._fingerprints, "upsert", lambda *rows: (upsert(*rows), paused()))
    with pytest.raises(ClaimLost):
        mine.add(pending, blocks(), duration=300.0)
    assert mine.catalogue.track(pending.number).state == "pending"
    assert others.counts().segments == 0
    monkeypatch.undo()
    (again,) = others.plan(files(1)).pending
    others.add(again, [encode(1, range(600))], duration=300.0)
    assert others.require_complete() == others.rebuild() == 600


def test_what_somebody_works_on_is_not_cleared_between_a_look_and_the_next(files, encode, open_references, monkeypatch):
    mine, others = open_references(), open_references()
    (pending,) = mine.plan(files(1)).pending
    left = mine.catalogue.track(pending.number)
    assert mine.claim(pending)
    monkeypatch.setattr(others.catalogue, "leftovers", lambda: [left])  # seen before it was claimed
    monkeypatch.setattr(others, "_clear", lambda track: pytest.fail("cleared"))
    others.settle()
    monkeypatch.undo()
    assert mine.add(pending, [encode(1, range(300))], duration=150.0).state == "stored"

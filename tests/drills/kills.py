"""Kills a writer with SIGKILL at every boundary between two steps, then checks and completes what it left.

    python kills.py FOLDER [--every N] [CASE ...]      prints a line of JSON per case

Every case has a data directory of its own: three files of two shards each are added, one of them once more after it has
changed, a fourth cannot be used, and the first is removed. The writer dies just before or just after the n-th call of
one method. Each writer and each check is a fork of this process, which itself never opens a store.
"""

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from encoder.encoding import Encoding
from store.catalogue import Catalogue
from store.claims import Claims
from store.fingerprints import Fingerprints
from store.identity import Identity
from store.nodes import Nodes
from store.references import References
from store.segment_ids import segment_id

OWNERS = {owner.__name__: owner for owner in (Catalogue, Claims, Fingerprints, Nodes)}
SHAPES = {"nodes": 3, "channels": 4, "dimensions": 16, "hop": 0.5, "segment_duration": 4.0}
CALLS = {  # step -> calls of it that are worth dying at
    "Catalogue.write": [1, 2],
    "Claims.take": [1, 2, 3, 4],
    "Nodes.clear": [1, 3, 4],
    "Catalogue.cleared": [1, 4],
    "Nodes.write_shard": [1, 2, 3, 4],
    "Catalogue.placed": [1, 2],
    "Fingerprints.upsert": [1, 2, 4],
    "Catalogue.stored": [1, 3, 4],
    "Catalogue.failed": [1],
    "Catalogue.removed": [1],
    "Fingerprints.delete": [1, 2],
}
CASES = [f"{step}:{call}:{when}" for step, calls in CALLS.items() for call in calls for when in ("before", "after")]


@dataclass(frozen=True)
class Result:
    """What one kill left, and what it came to in the end."""

    case: str
    killed: bool
    acknowledged: int  # tracks that the writer had called stored
    lost: int  # of these, not complete any more
    twice: int  # segments in Milvus beyond those of the stored tracks, right after reopening
    completed: bool  # the next run stores all that can be stored


def block_of(path: Path) -> Encoding:
    """Segments that follow from a file's content."""
    seed = int.from_bytes(path.read_bytes()[:4], "little")
    rng = np.random.default_rng(seed)
    fingerprints = rng.standard_normal((300, 16)).astype(np.float32)
    return Encoding(
        segment_indices=np.arange(300),
        fingerprints=fingerprints / np.linalg.norm(fingerprints, axis=1, keepdims=True),
        node_matrices=rng.standard_normal((300, 3, 4)).astype(np.float16),
        hop=0.5,
        segment_duration=4.0,
    )


def opened(folder: Path) -> References:
    return References.open(folder / "data", Identity(digest="0123456789abcdef", **SHAPES))


def ingest(references: References, paths: list[Path], told: Path) -> None:
    """As flows/workers.py does it: claim, add or fail; what is stored is acknowledged in a file."""
    for pending in references.plan(paths, retry=True).pending:
        if not references.claim(pending):
            raise SystemExit(f"{pending.path} is claimed by a worker that is dead")
        if pending.path.name == "3.wav":
            references.failed(pending.number, "no audio in it")
            continue
        track = references.add(pending, [block_of(pending.path)], duration=150.0)
        with told.open("a") as file:
            file.write(f"{track.number} {pending.path.read_bytes().hex()}\n")


def write(folder: Path, case: str) -> None:
    """The whole story of a writer that dies on the way."""
    step, call, when = case.split(":")
    owner, method = step.split(".")
    original, left = getattr(OWNERS[owner], method), [int(call)]

    def deadly(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    paths = [folder / f"{number}.wav" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number, 0, 0, 0]))
    setattr(OWNERS[owner], method, deadly)
    references = opened(folder)
    ingest(references, paths, folder / "told")
    paths[1].write_bytes(bytes([9, 0, 0, 0]))
    ingest(references, paths, folder / "told")
    references.remove(1)
    (folder / "gone").touch()
    os._exit(3)  # lived through it


def check(folder: Path, case: str) -> None:
    """Reopens, compares with what was acknowledged, lets the next run complete it."""
    told = (
        dict(line.split() for line in (folder / "told").read_text().splitlines()) if (folder / "told").exists() else {}
    )
    with opened(folder) as references:
        stored = {track.number: track for track in references.catalogue.tracks("stored")}
        # A file that has changed since, or was being removed, is no longer what was acknowledged.
        kept = [int(n) for n, content in told.items() if (folder / f"{int(n) - 1}.wav").read_bytes().hex() == content]
        removed = {track.number for track in references.catalogue.tracks("removed")}
        lost = [n for n in kept if n not in removed and not (n in stored and is_whole(references, stored[n]))]
        twice = references.require_complete() - sum(track.segments for track in stored.values())
        ingest(references, [folder / f"{number}.wav" for number in range(4)], folder / "told")
        numbers = {track.number for track in references.catalogue.tracks("stored")}
        whole = all(is_whole(references, track) for track in references.catalogue.tracks("stored"))
        completed = numbers == {1, 2, 3} and whole and references.require_complete() == 900
        completed &= not references.catalogue.leftovers() and references.catalogue.track(4).state == "failed"
    result = Result(case, True, len(kept), len(lost), twice, completed)
    print(json.dumps(asdict(result)), flush=True)
    os._exit(0)


def is_whole(references: References, track) -> bool:
    """Whether Zarr has the node matrices of the file's content, and Milvus finds its segments."""
    block = block_of(track.path)
    ids = segment_id(track.number, block.segment_indices)
    same = np.array_equal(references.node_matrices(ids), block.node_matrices)
    found = references.candidates(block.fingerprints, limit=1)
    return same and np.array_equal(found.segment_ids, ids)


def fork(work, folder: Path, case: str) -> int:
    """Runs `work` in a child; what it ended with."""
    child = os.fork()
    if not child:
        work(folder, case)
        os._exit(4)
    return os.waitpid(child, 0)[1]


def main(folder: Path, cases: list[str]) -> int:
    for number, case in enumerate(cases):
        place = folder / str(number)
        place.mkdir(parents=True)
        status = fork(write, place, case)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            print(json.dumps(asdict(Result(case, False, 0, 0, 0, False))), flush=True)
        elif fork(check, place, case):
            return 1
    return 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--every", type=int, default=1)
    arguments.add_argument("cases", nargs="*", default=CASES)
    given = arguments.parse_args()
    sys.exit(main(given.folder, given.cases[:: given.every]))

"""Sustained load: clients query a Milvus server for minutes while tracks are stored in it.

    python -m benchmarks.load [--minutes 10] [--clients 4] [--start 20000] [--rate 500]

Each client is a process that opens the catalogue for reading and asks one query of 120 segments after the other, for 20
candidates a segment; tracks are stored meanwhile, at the rate given (two cores encode some 500 segments a second), or
as fast as it goes. Prints errors, latencies, and the memory of every process a minute after the start and at the end.
"""

import argparse
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import milvus_server
from benchmarks.scale import LIMIT, NOISY, QUERY_SEGMENTS, SHAPES, Grown, timed
from benchmarks.walks import SEGMENTS, noisy, walks
from store.identity import Identity
from store.references import References

_TRACKS_A_MINUTE = 1200  # more than any machine stores: files to plan
_KNOWN_TRACKS = 20  # the first ones, which clients ask about
_MOST_WARM_UP = 60  # seconds until memory is compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--start", type=int, default=20_000, help="segments stored before the load begins")
    parser.add_argument("--rate", type=float, default=0, help="segments stored a second; 0: as many as it goes")
    parser.add_argument("--uri", help="Milvus server to use, whose memory is then not told")
    arguments = parser.parse_args()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="asid-load-")))
        server = None if arguments.uri else parts.enter_context(milvus_server.running())
        uri = arguments.uri or f"http://127.0.0.1:{server.listen_port}"
        room = arguments.start + int(arguments.minutes * _TRACKS_A_MINUTE) * SEGMENTS
        grown = parts.enter_context(Grown.open(folder, uri, walks(), room))
        while grown.size < arguments.start:
            grown.add_track()
        run(grown, folder, uri, {"server": server.server_proc.pid} if server else {}, arguments)


def run(grown: Grown, folder: Path, uri: str, server: dict[str, int], arguments: argparse.Namespace) -> None:
    """Load until the time is over, then the page."""
    spawn, before = multiprocessing.get_context("spawn"), grown.size
    results, ends = spawn.Queue(), time.time() + 60 * arguments.minutes
    where = (str(folder / "server"), uri, grown.references.identity.digest)
    clients = [
        spawn.Process(target=ask, args=(number, *where, ends, results), daemon=True)
        for number in range(arguments.clients)
    ]
    for client in clients:
        client.start()
    processes = {f"client {i + 1}": client.pid for i, client in enumerate(clients)} | server
    answers, early, began = [], {}, time.time()
    while time.time() < ends:
        if arguments.rate and grown.size - before > arguments.rate * (time.time() - began):
            time.sleep(0.05)
            continue
        grown.add_track()
        if not early and time.time() - began > min(_MOST_WARM_UP, 20 * arguments.minutes):
            early, early_size = {name: milvus_server.memory(pid) for name, pid in processes.items()}, grown.size
    late = {name: milvus_server.memory(pid) for name, pid in processes.items()}
    for _ in clients:
        answers += results.get(timeout=120)  # after its last query
    show(answers, (time.time() - began) / 60)
    for client in clients:
        client.join()
    print(f"stored meanwhile: {before} -> {grown.size} segments")
    print(f"memory, MB, at {early_size} and at {grown.size} segments:")
    for name in processes:
        print(f"  {name}: {early[name]:.0f} -> {late[name]:.0f}")


def ask(number: int, data: str, uri: str, digest: str, ends: float, results) -> None:
    """One client: puts a list of (milliseconds, complaint), one for each query, "" where all was well."""
    random, tracks, answers = np.random.default_rng(number), walks(), []
    known = [next(tracks) for _ in range(_KNOWN_TRACKS)]
    references = References.open(
        data, Identity(digest=digest, **SHAPES), milvus_uri=uri, alias=f"scale_{digest}", read_only=True, verify=False
    )
    with references:
        while time.time() < ends:
            start = random.integers(SEGMENTS - QUERY_SEGMENTS)
            query = noisy(known[random.integers(_KNOWN_TRACKS)][start : start + QUERY_SEGMENTS], NOISY, random)
            answers.append(answer(references, query))
    results.put(answers)


def answer(references: References, query: np.ndarray) -> tuple[float, str]:
    """Milliseconds, and what went wrong."""
    try:
        ms, found = timed(lambda: references.candidates(query, limit=LIMIT))
    except (OSError, LookupError, ValueError) as error:
        return 0.0, f"{type(error).__name__}: {error}"
    short = QUERY_SEGMENTS * LIMIT - len(found)
    return ms, f"{short} candidates too few" if short else ""


def show(answers: list[tuple[float, str]], minutes: float) -> None:
    """Counts and latencies."""
    complaints = [complaint for _, complaint in answers if complaint]
    ms = [spent for spent, complaint in answers if not complaint]
    print(f"{len(answers)} queries in {minutes:.1f} minutes, {len(complaints)} errors")
    for complaint in sorted(set(complaints))[:5]:
        print(f"  {complaints.count(complaint)} x {complaint}")
    print("ms: " + ", ".join(f"p{p} {np.percentile(ms, p):.0f}" for p in (50, 95, 99)))
    half = len(ms) // 2
    print(f"ms, p50 of the first half {np.median(ms[:half]):.0f}, of the second {np.median(ms[half:]):.0f}")


if __name__ == "__main__":
    main()

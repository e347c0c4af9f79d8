"""The index as the catalogue grows: recall, latency and memory on a Milvus server, with Milvus Lite beside it.

    python -m benchmarks.scale                               10,000, 100,000 and 1,000,000 segments
    python -m benchmarks.scale --sizes 10000 100000          less: a few minutes
    python -m benchmarks.scale --music DATA --nprobe 20 96   the fingerprints of a data directory, tiled with noise

A query is 120 consecutive segments of a stored track under noise (cosine 0.86 to what is stored), all in one call.
`recall` is candidate recall@20: the share of the 20 exactly nearest segments that come back, by their ids. `as near`
is the share of candidates at most 0.001 less similar than the 20th nearest: loops repeat, and ties are closer than
the float16 in which fingerprints are kept. `bare` is pymilvus' search for 20 in the same collection, in turn with
ours; ours asks for more, looks each track up in the ledger, and compares again with the fingerprints in Zarr. A
server is started where --uri names none; it does not merge its segments, which at a million takes it half an hour,
and is at rest when it is asked.
"""

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
import psutil
from numpy.typing import NDArray

from benchmarks import milvus_server
from benchmarks.walks import DIMENSIONS, SEGMENTS, Tracks, noisy, tiled, walks
from encoder.encoding import Encoding
from store.candidates import Candidates
from store.fingerprints import Fingerprints, IndexSettings
from store.identity import Identity
from store.references import References
from store.rescore import rescore
from store.segment_ids import segment_id

LIMIT, QUERY_SEGMENTS, QUERIES, ROUNDS = 20, 120, 8, 3
NOISY = 0.86  # cosine of a query to what is stored
_TIE = 1e-3  # the tolerance of ann-benchmarks; float16 keeps a similarity to a quarter of it
_SECONDS_TO_SETTLE, _LEAST_INDEXED = 3600, 1024
SHAPES = {"nodes": 1, "channels": 1, "dimensions": DIMENSIONS, "hop": 0.5, "segment_duration": 4.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="segments")
    parser.add_argument("--lite-to", type=int, default=100_000, help="largest size tried with Milvus Lite")
    parser.add_argument("--music", type=Path, help="data directory whose fingerprints are tiled")
    parser.add_argument(
        "--nprobe", type=int, nargs="+", default=[IndexSettings().nprobe], help="cells visited per query"
    )
    parser.add_argument("--uri", help="Milvus server to use")
    arguments = parser.parse_args()
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="asid-scale-")))
        server = None if arguments.uri else parts.enter_context(milvus_server.running(merging=False))
        uri = arguments.uri or f"http://127.0.0.1:{server.listen_port}"
        tracks = tiled(arguments.music) if arguments.music else walks()
        grown = parts.enter_context(Grown.open(folder, uri, tracks, max(arguments.sizes)))
        rows = []
        for size in sorted(arguments.sizes):
            pid = server.server_proc.pid if server else None
            for row in measured(grown, size, arguments.nprobe, lite=size <= arguments.lite_to, server=pid):
                rows.append(row | {"server MB": milvus_server.memory(pid) if pid else np.nan})
                print(rows[-1], file=sys.stderr, flush=True)
        print(pandas.DataFrame(rows).set_index(["segments", "nprobe"]).T.round(4).to_string())
        print_slopes(pandas.DataFrame(rows))
        print(overfetched(grown).to_string())


@dataclass(kw_only=True)
class Grown:
    """One catalogue that grows: in Milvus, Zarr and ledger, in Milvus Lite, and in memory to search exactly."""

    references: References
    lite: Fingerprints
    tracks: Tracks
    pending: Iterator
    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    size: int = 0

    @classmethod
    def open(
        cls, folder: Path, uri: str, tracks: Tracks, largest: int, index: IndexSettings | None = None
    ) -> "Grown":  # fmt: skip
        """Nothing stored yet; room for ``largest`` segments and a track."""
        digest = uuid.uuid4().hex
        files = [
            folder / "audio" / f"{number}.wav" for number in range(3 * largest // SEGMENTS + 2)
        ]  # real tracks may be short
        files[0].parent.mkdir()
        for file in files:
            file.write_text(file.name)
        where = {"milvus_uri": uri, "alias": f"scale_{digest}", "index": index}
        references = References.open(folder / "server", Identity(digest=digest, **SHAPES), **where)
        lite = Fingerprints.open(str(folder / "lite.db"), references.identity, catalogue="lite")
        vectors = np.empty((largest + 100 * SEGMENTS, DIMENSIONS), np.float32)
        return cls(
            references=references,
            lite=lite,
            tracks=tracks,
            pending=iter(references.plan(files).pending),
            vectors=vectors,
            ids=np.empty(len(vectors), np.int64),
        )

    def __enter__(self) -> "Grown":
        return self

    def __exit__(self, *_exception) -> None:
        self.references._fingerprints.drop()
        self.references.close()
        self.lite.close()

    def add_track(self) -> None:
        """Store the next track on the server."""
        fingerprints, pending = next(self.tracks), next(self.pending)
        block = Encoding(
            segment_indices=np.arange(len(fingerprints)),
            fingerprints=fingerprints,
            node_matrices=np.ones((len(fingerprints), 1, 1), np.float16),
            hop=SHAPES["hop"],
            segment_duration=SHAPES["segment_duration"],
        )
        self.references.add(pending, [block], duration=210.0)
        here = slice(self.size, self.size + len(fingerprints))
        self.vectors[here], self.ids[here] = fingerprints, segment_id(pending.number, block.segment_indices)
        self.size = here.stop


def measured(
    grown: Grown, size: int, nprobes: Sequence[int], *, lite: bool, server: int | None = None
) -> Iterator[dict[str, float]]:
    """Grow the catalogue to this size, then a column of the table for each nprobe; `server` is who comes to rest."""
    before, began = grown.size, time.perf_counter()
    while grown.size < size:
        grown.add_track()
    added = (grown.size - before) / (time.perf_counter() - began)
    began = time.perf_counter()
    settle(grown.references)
    if server is not None:
        rest(server)
    row = {"segments": grown.size, "stored a second": round(added), "index built after s": time.perf_counter() - began}
    queries = asked(grown)
    exact = [nearest(grown, query) for query in queries]
    if lite:
        row |= with_lite(grown, before, queries)
    for nprobe in nprobes:
        index = grown.references._fingerprints._index
        grown.references._fingerprints._index = replace(index, nprobe=nprobe)
        yield row | {"nprobe": nprobe} | compared(grown, queries, exact)


def settle(references: References) -> None:
    """Wait until the server has indexed everything and searches those indexes."""
    client, collection = references._fingerprints._client, references._fingerprints._collection
    client.flush(collection, timeout=600)
    for _ in range(_SECONDS_TO_SETTLE):
        loaded = client.list_loaded_segments(collection)
        # A segment that is still growing, or that has no index yet, has index 0; small ones never get another.
        searched = sum(one.num_rows for one in loaded if one.index_id or one.num_rows < _LEAST_INDEXED)
        if searched >= references.counts().segments:
            return
        time.sleep(1)
    raise TimeoutError(f"Milvus has not indexed everything within {_SECONDS_TO_SETTLE} s")


def rest(server: int, *, share: float = 0.1, seconds: float = 10.0) -> None:
    """Wait until the server's process uses less than a tenth of a core: it merges and indexes long after it answers."""
    process, ends = psutil.Process(server), time.monotonic() + _SECONDS_TO_SETTLE
    while process.cpu_percent(seconds) > 100 * share:
        if time.monotonic() > ends:
            raise TimeoutError(f"Milvus has not come to rest within {_SECONDS_TO_SETTLE} s")


def asked(grown: Grown, seed: int = 1) -> list[NDArray[np.float32]]:
    """Queries: noisy copies of consecutive stored segments."""
    random = np.random.default_rng(seed)
    starts = random.integers(0, grown.size - QUERY_SEGMENTS, QUERIES)
    return [noisy(grown.vectors[start : start + QUERY_SEGMENTS], NOISY, random) for start in starts]


def exactly(grown: Grown, query: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ids (segments, LIMIT) of the nearest by comparing with all."""
    return nearest(grown, query)[0]


def nearest(grown: Grown, query: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The same with their similarities."""
    ids, similarities = np.empty((len(query), 0), np.int64), np.empty((len(query), 0), np.float32)
    for start in range(0, grown.size, 50_000):
        block = slice(start, min(start + 50_000, grown.size))
        similarities = np.concatenate([similarities, query @ grown.vectors[block].T], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(grown.ids[block], (len(query), block.stop - start))], axis=1)
        best = np.argpartition(-similarities, LIMIT, axis=1)[:, :LIMIT]
        ids, similarities = np.take_along_axis(ids, best, 1), np.take_along_axis(similarities, best, 1)
    return ids, similarities


def compared(
    grown: Grown, queries: list[NDArray], exact: list[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> dict[str, float]:
    """Recall and milliseconds of the bare search and of ours, in turn."""
    fingerprints = grown.references._fingerprints
    bare_ms, our_ms, bare_recall, our_recall, our_near = [], [], [], [], []
    for _ in range(ROUNDS):
        for query, (best, similarities) in zip(queries, exact):
            ms, hits = timed(lambda q=query: bare(fingerprints, q))
            bare_ms.append(ms)
            bare_recall.append(np.mean([np.isin(b, h.ids).mean() for b, h in zip(best, hits)]))
            ms, found = timed(lambda q=query: grown.references.candidates(q, limit=LIMIT))
            our_ms.append(ms)
            our_recall.append(recall(found, best))
            our_near.append(as_near(found, similarities))
    middle, ours = np.median(bare_ms), np.median(our_ms)
    return {
        "recall, bare": np.mean(bare_recall),
        "recall, ours": np.mean(our_recall),
        "as near, ours": np.mean(our_near),
        "ms, bare": middle,
        "ms, ours": ours,
        "ratio": ours / middle,
    }


def bare(fingerprints: Fingerprints, query: NDArray[np.float32]) -> list:
    """What pymilvus alone takes for the same question."""
    params = {"metric_type": "IP", "params": fingerprints._index.search()}
    return fingerprints._client.search(fingerprints._collection, data=query, limit=LIMIT, search_params=params)


def with_lite(grown: Grown, before: int, queries: list[NDArray]) -> dict[str, float]:
    """Milvus Lite with the same segments, which searches exactly."""
    new = slice(before, grown.size)
    began = time.perf_counter()
    grown.lite.upsert(grown.ids[new], grown.vectors[new])
    grown.lite.flush()
    written = time.perf_counter() - began
    ms = [timed(lambda q=query: grown.lite.search(q, limit=LIMIT))[0] for query in queries]
    return {"Lite: stored a second": (new.stop - new.start) / written, "Lite: ms": np.median(ms)}


def overfetched(grown: Grown) -> pandas.DataFrame:
    """Recall and milliseconds by the number of candidates asked for, at the largest size."""
    fingerprints, queries = grown.references._fingerprints, asked(grown)
    exact, rows = [exactly(grown, query) for query in queries], []
    for factor in (1, 2, 3, 5, 8, 12):
        ms, again, found = [], [], []
        for query in queries:
            spent, wide = timed(lambda q=query, f=factor: fingerprints.search(q, limit=LIMIT * f))
            ms.append(spent)
            spent, best = timed(
                lambda q=query, w=wide: rescore(w, q, grown.references._nodes.fingerprints_of, limit=LIMIT)
            )
            again.append(spent)
            found.append(best)
        shares = [recall(f, best) for f, best in zip(found, exact)]
        rows.append(
            {"overfetch": factor, "recall": np.mean(shares), "ms, search": np.median(ms), "ms, again": np.median(again)}
        )
    return pandas.DataFrame(rows).set_index("overfetch").round(4)


def recall(found: Candidates, best: NDArray[np.int64]) -> float:
    """Share of the exactly nearest that were found."""
    return float(
        np.mean([np.isin(ids, found.segment_ids[found.query_rows == row]).mean() for row, ids in enumerate(best)])
    )


def as_near(found: Candidates, similarities: NDArray[np.float32]) -> float:
    """Share of the candidates that are as near as the last of the exactly nearest, to 0.001."""
    last = similarities.min(axis=1)[found.query_rows]
    return float((found.similarities >= last - _TIE).sum() / similarities.size)


def print_slopes(rows: pandas.DataFrame) -> None:
    """Cost ~ size ** slope, fitted over the sizes, at the first nprobe."""
    rows = rows[rows["nprobe"] == rows["nprobe"].iloc[0]]
    for name in ("ms, bare", "ms, ours", "Lite: ms"):
        kept = rows[["segments", name]].dropna() if name in rows else rows[:0]
        if len(kept) > 1:
            slope = np.polyfit(np.log(kept["segments"].astype(float)), np.log(kept[name].astype(float)), 1)[0]
            print(f"{name} grows as segments ** {slope:.2f}")


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Milliseconds of wall time, and the result."""
    began = time.perf_counter()
    found = call()
    return 1e3 * (time.perf_counter() - began), found


if __name__ == "__main__":
    main()

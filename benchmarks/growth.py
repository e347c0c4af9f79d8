"""How many right references a growing catalogue keeps off the candidates: their recall over catalogue size.

    python -m benchmarks.growth CACHE/own-...      a benchmark that `asid evaluate own --cache CACHE` has rendered

A query is right while its reference is among the best candidates of one of the segments that ask for them
(Ranking.every, Ranking.listing), whose patches are then compared (reranker/patches.py): an upper bound of what is
found, where a catalogue is not correlated whole. Distractors are the fingerprints of the benchmark's own ones
and of the tracks of a stem cache (--pool, of other artists), first as they are, then again and again under noise
(benchmarks/walks.py). How far such tiles act like music not heard before is put to the test: a tenth of the real
distractors, tiled up to the number of all, beside all of them. Intervals are bootstrap 95 % over queries.

The physical limit of this measurement is its matrix products, 2 x query segments x segments x dimensions operations.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas
import torch
from numpy.typing import NDArray

from benchmarks.walks import COPY, noisy
from encoder import allocator
from encoder.encode import Encoder
from encoder.training.stem_cache import StemCache
from evaluation.benchmark import Benchmark
from evaluation.own import own_files
from reranker.rank import Ranking

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)  # segments
_DRAWS = 2000
_AT_ONCE = 50_000  # segments compared with all queries, 1 GB of similarities

Fingerprints = NDArray[np.float32]  # (segments, dimensions) of a track


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query and how similar it is to what it samples."""

    fingerprints: Fingerprints  # of the segments that ask for candidates
    best: NDArray[np.float32]  # (segments,), highest similarity to a segment of its reference
    limit: int  # candidates of each


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("benchmark", type=Path)
    arguments.add_argument("--pool", type=Path, help="stem cache of further distractors")
    arguments.add_argument("--largest", type=int, default=SIZES[-1], help="segments")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    allocator.keep_memory()
    began, random = time.perf_counter(), np.random.default_rng(given.seed)
    queries, real = encoded(given.benchmark)
    real += pooled(given.pool) if given.pool else []
    random.shuffle(real)
    segments = sum(map(len, real))
    print(f"{len(queries)} queries, {len(real)} distractors of {segments} segments; seed {given.seed}")
    for name, tracks in (("real", iter(real)), ("a tenth, tiled", tiled(real[::10], random))):
        print(
            f"{name:>14}: {table(listed(queries, tracks, [segments]), given.seed).to_string(index=False, header=False)}"
        )
    sizes = [size for size in SIZES if size <= given.largest]
    found = table(listed(queries, tiled(real, random), sizes), given.seed)
    print(found.to_string(index=False))
    slope = np.polyfit(np.log10(found["segments"]), found["recall"], 1)[0]
    print(f"slope: {slope:+.3f} for each factor of ten; {time.perf_counter() - began:.0f} s")


def encoded(folder: Path) -> tuple[list[Query], list[Fingerprints]]:
    """The queries that sample something, and the distractors' fingerprints."""
    benchmark, encoder = own_files.load(folder), Encoder()
    if benchmark is None:
        raise SystemExit(f"{folder}: no rendered benchmark; give a folder own-... below the --cache of `evaluate own`")
    return list(_queries(benchmark, encoder)), [encoder.encode(p).fingerprints for p in benchmark.distractors.values()]


def pooled(folder: Path) -> list[Fingerprints]:
    """Fingerprints of the training tracks of a stem cache, all stems together."""
    cache, encoder = StemCache.open(folder), Encoder()
    tracks = [track for track in cache.tracks if track.split == "train"]
    return [encoder.encode_waveform(cache.read(track, 0, track.length).sum(axis=0)).fingerprints for track in tracks]


def _queries(benchmark: Benchmark, encoder: Encoder) -> Iterator[Query]:
    references = {name: encoder.encode(path).fingerprints for name, path in benchmark.references.items()}
    for query in benchmark.queries:
        if query.sampled:
            asked = encoder.encode(query.path)
            own = np.concatenate([references[name] for name in sorted(query.relevant)])
            asking = asked.fingerprints[:: Ranking.every]
            yield Query(fingerprints=asking, best=(asking @ own.T).max(axis=1), limit=Ranking().limit(len(asking)))


def tiled(tracks: Sequence[Fingerprints], random: np.random.Generator) -> Iterator[Fingerprints]:
    """The tracks, then the tracks under noise, each round under noise of its own, without end."""
    return chain(tracks, (noisy(track, COPY, random).astype(np.float32) for _ in count() for track in tracks))


def listed(
    queries: Sequence[Query], distractors: Iterator[Fingerprints], sizes: Sequence[int]
) -> dict[int, NDArray[np.bool_]]:
    """Catalogue size in segments -> which queries have their reference among the candidates."""
    asked, best = (np.concatenate([getattr(q, name) for q in queries]) for name in ("fingerprints", "best"))
    starts = np.cumsum([0, *(len(query.best) for query in queries)])[:-1]
    limits = np.repeat([query.limit for query in queries], [len(query.best) for query in queries])
    above = np.zeros(len(best), np.int64)
    reached, found = 0, {}
    for size in sizes:
        while reached < size:
            block = _taken(distractors, min(_AT_ONCE, size - reached))
            similarities = asked @ np.concatenate(block).T
            above += (similarities > best[:, None]).sum(axis=1)
            reached += sum(map(len, block))
        found[reached] = np.logical_or.reduceat(above < limits, starts)
    return found


def _taken(tracks: Iterator[Fingerprints], segments: int) -> list[Fingerprints]:
    """Tracks of together so many segments, or the next few more."""
    block: list[Fingerprints] = []
    while sum(map(len, block)) < segments and (track := next(tracks, None)) is not None:
        block += [track] if len(track) else []
    return block


def table(found: dict[int, NDArray[np.bool_]], seed: int) -> pandas.DataFrame:
    """A row per size: share of queries with interval."""
    return pandas.DataFrame([{"segments": size, **_share(right, seed)} for size, right in found.items()])


def _share(right: NDArray[np.bool_], seed: int) -> dict[str, float]:
    drawn = np.random.default_rng(seed).integers(len(right), size=(_DRAWS, len(right)))
    low, high = np.percentile(right[drawn].mean(axis=1), [2.5, 97.5])
    return {"recall": round(right.mean(), 3), "low": round(low, 3), "high": round(high, 3)}


if __name__ == "__main__":
    main()

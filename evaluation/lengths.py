"""Lengths: queries -> the same queries shorter and longer, so that a calibration holds for all lengths.

Shorter: an excerpt from the longest occurrence of the sample on, of a sample-free query its middle. Longer: several
queries joined into one file, of which the first counts; what the others sample is left out of the catalogue (as
`aliases`), so that they are other music. Both are mono flac of 22.05 kHz.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from encoder import audio
from evaluation import cuts
from evaluation.benchmark import Benchmark, Query
from evaluation.cuts import Cut

Progress = Callable[[str, int, int], None]  # what was done last, how many are done, of how many
_SEED = 0  # of the order in which queries are joined


def blocks(benchmark: Benchmark, *, joined: int) -> list[tuple[Query, ...]]:
    """The queries in a random order, in groups of `joined` (the last may be smaller): what is joined in `longer`."""
    if joined < 1:
        raise ValueError(f"{joined} queries joined, expected 1 or more")
    order = np.random.default_rng(_SEED).permutation(len(benchmark.queries))
    mixed = [benchmark.queries[number] for number in order]
    return [tuple(mixed[first : first + joined]) for first in range(0, len(mixed), joined)]


def shorter(
    benchmark: Benchmark, directory: Path, *, lengths: Sequence[float], progress: Progress | None = None
) -> tuple[Query, ...]:
    """An excerpt of each length of every query that is longer, written into `directory` unless they are there."""
    return cuts.write([cut for query in benchmark.queries for cut in _excerpts(query, lengths)], directory,
                      progress=progress)  # fmt: skip


def longer(
    groups: Sequence[Sequence[Query]], directory: Path, *, progress: Progress | None = None
) -> tuple[Query, ...]:
    """Each group of two or more as one query, whose `excerpt` is its length; written unless it is there."""
    directory.mkdir(parents=True, exist_ok=True)
    groups = [group for group in groups if len(group) > 1]
    made = []
    for number, group in enumerate(groups, start=1):
        made.append(_joined(group, directory))
        if progress is not None:
            progress(made[-1].id, number, len(groups))
    return tuple(made)


def _excerpts(query: Query, lengths: Sequence[float]) -> Iterator[Cut]:
    duration = audio.info(query.path).duration
    longest = max(
        ((o.query_span[1] - o.query_span[0], -o.query_span[0], s.sample_id) for s in query.sampled
         for o in s.occurrences), default=None,
    )  # fmt: skip
    for seconds in lengths:
        if duration <= seconds:
            continue
        if longest is None:
            middle = (duration - seconds) / 2
            yield Cut(id=f"{query.id}-{seconds:g}s", query=query, start=middle, seconds=seconds, sampled=())
        else:
            sampled = next(s for s in query.sampled if s.sample_id == longest[2])
            yield cuts.cut(query, sampled, min(-longest[1], duration - seconds), seconds, number=1)


def _joined(group: Sequence[Query], directory: Path) -> Query:
    first, others = group[0], group[1:]
    stamps = [(str(q.path), q.path.stat().st_size, q.path.stat().st_mtime_ns) for q in group]
    digest = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]
    path = directory / f"joined-{digest}.flac"
    if not path.is_file():
        waves = [audio.read(query.path, sample_rate=cuts.SAMPLE_RATE) for query in group]
        unfinished = path.with_suffix(".unfinished")
        soundfile.write(unfinished, np.concatenate(waves), cuts.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        os.replace(unfinished, path)
    elsewhere = frozenset(reference for query in others for reference in query.relevant) - first.relevant
    return replace(
        first,
        id=f"{first.id}-joined-{len(group)}",
        path=path,
        excerpt=audio.info(path).duration,
        aliases=first.aliases | elsewhere,
    )

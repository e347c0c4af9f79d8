"""Lengths: queries -> the same queries shorter, so that a calibration holds for all lengths.

An excerpt begins with the longest occurrence of the sample; of a sample-free query it is the middle. Queries that are
longer are searched in windows (reranker/windows.py), each as one of the usual length.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from encoder import audio
from evaluation import cuts
from evaluation.benchmark import Benchmark, Query
from evaluation.cuts import Cut

Progress = Callable[[str, int, int], None]  # what was done last, how many are done, of how many


def shorter(
    benchmark: Benchmark, directory: Path, *, lengths: Sequence[float], progress: Progress | None = None
) -> tuple[Query, ...]:
    """An excerpt of each length of every query that is longer, written into `directory` unless they are there."""
    return cuts.write([cut for query in benchmark.queries for cut in _excerpts(query, lengths)], directory,
                      progress=progress)  # fmt: skip


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

"""Cuts: queries -> excerpts of a given length in which a sample sounds, as files, for hit rates by query length.

A peer is given an excerpt as it is given any query, as an audio file; nothing around it is known. Excerpts are mono
flac of 22.05 kHz: all that fingerprinters and networks of the field use. What an excerpt samples is what sounds in it,
in the time of the excerpt.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
from numpy.typing import NDArray

from encoder import audio
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.dataset.relations import merged
from reranker.rank import Occurrence

LENGTHS = (5.0, 7.0, 10.0, 15.0, 20.0)  # seconds (NeuralSampleID, hit rates by query length)
SAMPLE_RATE = 22_050  # Hz
_GAP = 0.25  # seconds between occurrences up to which they are one run; annotations are as exact as that
_SOUNDS = 1.0  # seconds of another sample that make it one of the excerpt's
_LACK = 1.0  # seconds by which a file may end before the excerpt does
_LOOPED = 1.5  # query span over its reference span (at one tempo) beyond which the reference is taken to be looped
_MANIFEST = "cuts.json"

Progress = Callable[[str, int, int], None]  # what was done last, how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One excerpt to be written."""

    id: str
    query: Query  # it is cut from
    start: float  # seconds in the query
    seconds: float  # its length
    sampled: tuple[Sampled, ...]  # what is true of it; the one it was cut for comes first

    def __post_init__(self) -> None:
        if self.start < 0 or self.seconds < audio.SHORTEST:
            raise ValueError(
                f"cut {self.id}: {self.seconds} s from {self.start} s on, expected a start from 0 on "
                f"and at least {audio.SHORTEST} s"
            )


def excerpts(
    benchmark: Benchmark, directory: Path, *, lengths: Sequence[float] = LENGTHS, progress: Progress | None = None
) -> tuple[Query, ...]:
    """Excerpts of all queries, from the start of every run of occurrences at least as long as the excerpt.

    Occurrences of one sample less than 0.25 s apart are one run. Written into `directory` unless they are there.
    """
    cuts = [cut for length in lengths for query in benchmark.queries for cut in _from_runs(query, length)]
    return write(cuts, directory, progress=progress)


def _from_runs(query: Query, length: float) -> list[Cut]:
    cuts = []
    for sampled in query.sampled:
        runs = merged([o.query_span for o in sampled.occurrences], gap=_GAP)
        for number, (start, end) in enumerate(runs, start=1):
            if end - start >= length:
                cuts.append(cut(query, sampled, start, length, number=number))
    return cuts


def cut(query: Query, sampled: Sampled, start: float, seconds: float, *, number: int) -> Cut:
    """The excerpt in which one of the query's samples sounds; others that sound in it for 1 s are true of it too."""
    others = [s for s in query.sampled if s is not sampled and _sounds(s, start, start + seconds)]
    return Cut(
        id=f"{query.id}-{sampled.sample_id}-{number:03d}-{seconds:g}s",
        query=query,
        start=start,
        seconds=seconds,
        sampled=tuple(shifted(s, start, seconds) for s in [sampled, *others]),
    )


def _sounds(sampled: Sampled, start: float, end: float) -> bool:
    runs = merged([o.query_span for o in sampled.occurrences], gap=_GAP)
    return any(min(end, high) - max(start, low) >= _SOUNDS for low, high in runs)


def shifted(sampled: Sampled, start: float, seconds: float) -> Sampled:
    """The sample in the time of an excerpt: occurrences moved and trimmed to it, others left out."""
    trimmed = [_trimmed(o, start, start + seconds) for o in sampled.occurrences]
    return replace(sampled, occurrences=tuple(o for o in trimmed if o is not None))


def _trimmed(occurrence: Occurrence, start: float, end: float) -> Occurrence | None:
    (low, high), (first, last) = occurrence.query_span, occurrence.reference_span
    inside = max(low, start), min(high, end)
    if inside[0] >= inside[1]:
        return None
    # Where the reference is looped, any part of it may sound; else the same part as of the query.
    looped = (high - low) * (occurrence.tempo_ratio or 1.0) > _LOOPED * (last - first)
    if not looped:
        scale = (last - first) / (high - low)
        first, last = first + (inside[0] - low) * scale, last - (high - inside[1]) * scale
    span = inside[0] - start, inside[1] - start
    return replace(occurrence, query_span=span, reference_span=(first, last))


def write(cuts: Sequence[Cut], directory: Path, *, progress: Progress | None = None) -> tuple[Query, ...]:
    """The excerpts as queries, in the order given, in a folder of their own; one that holds them is used as it is.

    Raises AudioError where a query cannot be read, ValueError where its file ends before the excerpt, OSError where
    the folder cannot be written.
    """
    if not cuts:
        return ()
    directory = directory / _digest(cuts)  # so that excerpts of other lengths leave these, and answers to them, alone
    paths = {cut.id: directory / f"{cut.seconds:g}s" / f"{quote(cut.id, safe=' ')}.flac" for cut in cuts}
    if len(paths) != len(cuts):
        raise ValueError(f"{len(cuts)} cuts have {len(paths)} different ids, expected one each")
    manifest = _manifest(cuts)
    if not _complete(directory, manifest, paths.values()):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _MANIFEST).unlink(missing_ok=True)
        _write_all(cuts, paths, progress)
        unfinished = directory / f"{_MANIFEST}.unfinished"
        unfinished.write_text(json.dumps(manifest))
        os.replace(unfinished, directory / _MANIFEST)
    return tuple(
        Query(id=c.id, path=paths[c.id], sampled=c.sampled, excerpt=c.seconds, aliases=c.query.aliases) for c in cuts
    )


def _digest(cuts: Sequence[Cut]) -> str:
    listed = [(cut.id, str(cut.query.path), cut.start, cut.seconds) for cut in cuts]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]


def _manifest(cuts: Sequence[Cut]) -> dict[str, Any]:
    """What determines the files: a changed source or place is cut again."""
    sources = {str(path): path.stat() for path in {cut.query.path for cut in cuts}}
    return {
        "sample_rate": SAMPLE_RATE,
        "sources": {path: [stat.st_size, stat.st_mtime_ns] for path, stat in sorted(sources.items())},
        "cuts": [[cut.id, str(cut.query.path), cut.start, cut.seconds] for cut in cuts],
    }


def _complete(directory: Path, manifest: dict[str, Any], paths: Iterable[Path]) -> bool:
    try:
        found = json.loads((directory / _MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return False
    return found == manifest and all(path.is_file() and path.stat().st_size for path in paths)


def _write_all(cuts: Sequence[Cut], paths: dict[str, Path], progress: Progress | None) -> None:
    """Each query is decoded once."""
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    sources = list(dict.fromkeys(cut.query.path for cut in cuts))
    for number, source in enumerate(sources, start=1):
        wave = audio.read(source, sample_rate=SAMPLE_RATE)
        for one in (cut for cut in cuts if cut.query.path == source):
            soundfile.write(paths[one.id], _part(wave, one), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        if progress is not None:
            progress(source.stem, number, len(sources))


def _part(wave: NDArray[np.float32], one: Cut) -> NDArray[np.float32]:
    start = round(one.start * SAMPLE_RATE)
    part = wave[start : start + round(one.seconds * SAMPLE_RATE)]
    if len(part) < (one.seconds - _LACK) * SAMPLE_RATE:
        raise ValueError(
            f"{one.query.path}: lasts {len(wave) / SAMPLE_RATE:.1f} s, but {one.id} goes from {one.start:.1f} to "
            f"{one.start + one.seconds:.1f} s; expected the edition of the recording that was annotated"
        )
    return part

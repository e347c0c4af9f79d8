"""Sample100-ext: its annotations and the user's audio -> a Benchmark, its excerpts, and a description without audio.

106 relations of 75 queries and 68 references among 320 noise tracks (Van Balen 2011; Bhattacharjee et al., ISMIR 2025).
The recordings are not distributed; the user names the folder that holds them. Any benchmark written in the same format
(evaluation/dataset/annotations.py) is read as well.

    description = sample100.describe(annotations_dir)
    benchmark = sample100.load(annotations_dir, audio_dir)
    excerpts = sample100.excerpts(benchmark, cache, annotations_dir=annotations_dir)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluation import cuts
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.dataset import annotations as files
from evaluation.dataset import dataset_audio, query_index
from evaluation.dataset.annotations import Annotations
from evaluation.dataset.dataset_audio import IncompleteDataset, Inventory
from evaluation.dataset.query_index import LENGTHS, Entry
from evaluation.dataset.relations import Relation, longest_occurrence, paired


def load(annotations_dir: Path, audio_dir: Path, *, allow_missing: bool = False) -> Benchmark:
    """The benchmark; raises AnnotationError, and IncompleteDataset where audio is missing or another edition.

    With `allow_missing` what is there is used and `facts` say what is not: a relation needs both recordings, and a
    query whose references are all missing is left out, because it is not sample-free.
    """
    annotations = files.read(annotations_dir)
    inventory = dataset_audio.take(annotations, audio_dir)
    if not (inventory.complete or allow_missing):
        raise IncompleteDataset(f"{inventory.message()}; add them, or allow missing audio", inventory)
    queries = _queries(annotations, inventory)
    if not queries:
        raise IncompleteDataset(f"{inventory.message()}; not one query with its reference is there", inventory)
    return Benchmark(
        name="sample100",
        references=inventory.usable(annotations.references),
        distractors=inventory.usable(inventory.distractors),
        queries=queries,
        facts=_facts(annotations, inventory, queries),
    )


def _queries(annotations: Annotations, inventory: Inventory) -> tuple[Query, ...]:
    sampled: dict[str, list[Sampled]] = {}
    for relation in annotations.relations:
        if relation.query in inventory.files and relation.reference in inventory.files:
            one = _sampled(relation, inventory.durations[relation.query])
            sampled.setdefault(relation.query, []).append(one)
    free = inventory.usable(annotations.sample_free)
    stored = {*annotations.references, *inventory.distractors}
    return tuple(
        Query(
            id=track,
            path=inventory.files[track],
            sampled=tuple(sampled.get(track, ())),
            aliases=frozenset({track} & stored),  # a query that others sample in turn
        )
        for track in sorted({*sampled, *free})
    )


def _sampled(relation: Relation, duration: float) -> Sampled:
    return Sampled(
        sample_id=relation.sample_id,
        reference=relation.reference,
        occurrences=paired(relation, duration=duration),
        tempo_ratio=relation.tempo_ratio,
        transposition=relation.transposition,
        sample_type=relation.sample_type,
        length=longest_occurrence(relation),
        level=relation.level,
    )


def _facts(annotations: Annotations, inventory: Inventory, queries: Sequence[Query]) -> dict[str, Any]:
    return {
        **inventory.facts(),
        "queries": len(queries),
        "relations": sum(len(query.sampled) for query in queries),
        "relations_annotated": len(annotations.relations),
        "published_counts": _is_published(query_index.build(annotations.relations)),
        "digest": _digest(annotations, inventory, queries),
    }


def _digest(annotations: Annotations, inventory: Inventory, queries: Sequence[Query]) -> str:
    """Tells one dataset from another that counts as many: over what samples what, when, and how long all tracks are."""
    named = [repr(relation) for relation in annotations.relations], [query.id for query in queries]
    lengths = sorted((track, round(seconds, 3)) for track, seconds in inventory.durations.items())
    return hashlib.sha256(json.dumps([*named, lengths]).encode()).hexdigest()[:16]


def excerpts(
    benchmark: Benchmark,
    directory: Path,
    *,
    annotations_dir: Path,
    lengths: Sequence[float] = LENGTHS,
    truth: Literal["excerpt", "track"] = "excerpt",
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Query, ...]:
    """The queries of the hit rates: the first seconds of every entry of the query index that is long enough.

    Entries of relations that the benchmark lacks are left out. True of an excerpt is what sounds in it, or with
    "track", as the published hit rates count it, everything that its track samples. Cut once into `directory`.
    """
    entries = query_index.build(files.read(annotations_dir).relations)
    chosen = [cut for length in lengths for cut in _cuts(benchmark, entries, length)]
    found = cuts.write(chosen, directory, progress=progress)
    if truth == "excerpt":
        return found
    return tuple(
        replace(query, sampled=(*query.sampled, *_elsewhere(cut.query, query)))
        for cut, query in zip(chosen, found, strict=True)
    )


def _cuts(benchmark: Benchmark, entries: Iterable[Entry], length: float) -> list[cuts.Cut]:
    owners = {sampled.sample_id: (query, sampled) for query in benchmark.queries for sampled in query.sampled}
    numbers: Counter[str] = Counter()
    chosen = []
    for entry in query_index.long_enough(entries, length):
        numbers[entry.sample_id] += 1
        if entry.sample_id in owners:
            query, sampled = owners[entry.sample_id]
            chosen.append(cuts.cut(query, sampled, entry.start, length, number=numbers[entry.sample_id]))
    return chosen


def _elsewhere(track: Query, excerpt: Query) -> list[Sampled]:
    here = {sampled.sample_id for sampled in excerpt.sampled}
    return [replace(sampled, occurrences=()) for sampled in track.sampled if sampled.sample_id not in here]


def describe(annotations_dir: Path) -> dict[str, Any]:
    """Counts of the annotations, JSON-safe; needs no audio. `published` tells whether they are the paper's."""
    annotations = files.read(annotations_dir)
    relations = annotations.relations
    entries = query_index.build(relations)
    stretched = sum(relation.stretched for relation in relations)
    return {
        "index_rows": len(entries),
        "index_samples": len({entry.sample_id for entry in entries}),
        "index_queries": len({entry.query for entry in entries}),
        "index_references": len({entry.reference for entry in entries}),
        "segments_by_query_length": _by_length(entries, len),
        "queries_by_query_length": _by_length(entries, lambda long: len({entry.query for entry in long})),
        "index_by_class": _by_class(entries, relations, released=False),
        "index_by_class_released": _by_class(entries, relations, released=True),
        "time_stretch": {"above_5": stretched, "below_5": len(relations) - stretched},
        "tempo_ratio": _spread([relation.tempo_ratio for relation in relations]),
        "sample_types": dict(Counter(relation.sample_type for relation in relations)),
        "interpolation": dict(Counter(relation.interpolation for relation in relations)),
        **_sizes(annotations),
        **_lengths(relations, entries),
        "published": _is_published(entries),
    }


def _is_published(entries: Sequence[Entry]) -> bool:
    return {n: len(query_index.long_enough(entries, n)) for n in LENGTHS} == query_index.PUBLISHED


def _by_length(entries: Sequence[Entry], count: Callable[[Sequence[Entry]], int]) -> dict[str, int]:
    return {f"{length:g}": count(query_index.long_enough(entries, length)) for length in LENGTHS}


def _by_class(
    entries: Sequence[Entry], relations: Sequence[Relation], *, released: bool
) -> dict[str, Mapping[str, int]]:
    classes = query_index.by_class(entries, relations, released=released)
    return {
        name: {"rows": len(members), "samples": len({e.sample_id for e in members})}
        for name, members in classes.items()
    }


def _sizes(annotations: Annotations) -> dict[str, Any]:
    relations = annotations.relations
    pairs = {(relation.query, relation.reference) for relation in relations}
    per_query = Counter(query for query, _ in pairs)
    return {
        "relations": len(relations),
        "relations_annotated": sum(bool(relation.in_query) for relation in relations),
        "unique_pairs": len(pairs),
        "queries": len(annotations.queries),
        "queries_with_several_references": sum(count > 1 for count in per_query.values()),
        "sample_free_queries": len(annotations.sample_free),
        "references": len(annotations.references),
        "tracks": len(annotations.tracks),
        "noise_tracks_listed": len(annotations.noise),
    }


def _lengths(relations: Sequence[Relation], entries: Sequence[Entry]) -> dict[str, Any]:
    """Lengths in seconds: of single occurrences, of what they reuse in the reference, of the index entries."""
    marked = [span for relation in relations for span in relation.in_query]
    return {
        "annotations_in_query": dict(Counter(span.kind or "unsaid" for span in marked)),
        "occurrence_seconds": _spread([span.seconds for span in marked if "occurrence" in span.kind]),
        "reference_seconds": _spread([span.seconds for relation in relations for span in relation.in_reference]),
        "index_seconds": _spread([entry.end - entry.start for entry in entries]),
        "longest_occurrence_seconds": _spread(
            [seconds for relation in relations if (seconds := longest_occurrence(relation)) is not None]
        ),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int]:
    """Count, smallest, quartiles and largest; only the count where there are none."""
    if not values:
        return {"count": 0}
    names = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
    return {"count": len(values)} | dict(zip(names, np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).round(3).tolist()))

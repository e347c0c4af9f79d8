"""Own files: what is kept of a benchmark made of one's own music, and how it is read, completed and exported.

A query's flac is there before its truth, the truth of all before `benchmark.json`, each in one step: what a killed run
left behind is used by the next one as far as it is whole.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from encoder import audio
from encoder.audio import AudioError
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.dataset import annotations
from evaluation.dataset.annotations import Annotation, Relation
from evaluation.dataset.relations import longest_occurrence, paired
from evaluation.own import material, producer
from evaluation.own.material import Material
from evaluation.own.producer import Produced

RECORD = "benchmark.json"
_RATE = 44_100  # Hz, of what FFmpeg has to read for an export

Progress = Callable[[str, int, int], None]  # what was done last, how many are done, of how many


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One query before it is rendered."""

    id: str
    number: int  # of its random generator
    sampled: Material | None
    other: Material
    reference: str = ""  # track id; empty where the sampled track is in no catalogue, or nothing is sampled
    sample_id: str = ""

    @property
    def request(self) -> dict[str, Any]:
        """What determines it, beside the folder's digest."""
        tracks = [part.track.id if part else None for part in (self.sampled, self.other)]
        return {"number": self.number, "tracks": tracks, "reference": self.reference, "sample_id": self.sample_id}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One query with its truth."""

    id: str
    relation: Relation | None  # None: sample-free
    how: str


# -- one query --------------------------------------------------------------------------------------------------


def render_query(planned: Planned, folder: Path, *, seed: int, sample_rate: int) -> Rendered:
    """Render a query into folder/audio unless it is there; raises material.Unusable where a track is of no use."""
    record = folder / "audio" / f"{planned.id}.json"
    kept = _read_json(record)
    if kept is None or kept["request"] != planned.request or not record.with_suffix(".flac").is_file():
        record.unlink(missing_ok=True)
        rng = np.random.default_rng([seed, planned.number])
        try:
            produced = producer.produce(planned.sampled, planned.other, sample_rate=sample_rate, rng=rng)
        except AudioError as error:
            raise _unusable(planned, error) from error
        material.write_flac(record.with_suffix(".flac"), produced.wave, sample_rate=sample_rate)
        kept = {"request": planned.request, "how": produced.how, "relation": None}
        if planned.reference:
            kept["relation"] = asdict(_relation(planned, produced))
        _write_json(record, kept)
        kept = _read_json(record)  # what later runs will read
    return Rendered(id=planned.id, relation=_as_relation(kept["relation"]), how=kept["how"])


def _unusable(planned: Planned, error: AudioError) -> ValueError:
    """Damaged where nobody had looked: whose file it is, and why; the error itself where it is nobody's."""
    parts = [part for part in (planned.sampled, planned.other) if part is not None]
    owners = [part.track for part in parts if error.path in (part.mix, *part.stems.values())]
    return material.Unusable(owners[0], error.reason) if owners else error


def _relation(planned: Planned, produced: Produced) -> Relation:
    chopped = len({sounding.piece for sounding in produced.soundings}) > 1
    kind = "partial occurrence" if chopped else "occurrence"
    places = {sounding.piece: sounding.reference_span for sounding in produced.soundings}
    in_query = [_annotation(sounding.query_span, sounding.piece, kind) for sounding in produced.soundings]
    in_reference = [_annotation(span, piece, kind) for piece, span in sorted(places.items())]
    return Relation(
        sample_id=planned.sample_id,
        query=planned.id,
        reference=planned.reference,
        query_start=in_query[0].start,
        reference_start=in_reference[0].start,
        repetitions=len(in_query),
        tempo_ratio=produced.tempo_ratio,
        sample_type=produced.sample_type,
        comment=produced.how,
        in_query=tuple(in_query),
        in_reference=tuple(in_reference),
        transposition=produced.transposition,
        level=produced.level,
        sample_stems=produced.stems,
    )


def _annotation(span: tuple[float, float], piece: int, kind: str) -> Annotation:
    return Annotation(start=span[0], end=span[1], label=piece, kind=kind)


def _as_relation(content: dict[str, Any] | None) -> Relation | None:
    if content is None:
        return None
    spans = {side: tuple(Annotation(**span) for span in content[side]) for side in ("in_query", "in_reference")}
    stems = {name: tuple(content[name]) for name in ("reference_stems", "interfering_stems", "sample_stems")}
    return Relation(**{**content, **spans, **stems})


# -- the benchmark ----------------------------------------------------------------------------------------------


def write(
    folder: Path,
    *,
    references: Mapping[str, Material],
    distractors: Mapping[str, Material],
    queries: Sequence[Rendered],
    facts: Mapping[str, Any],
) -> None:
    """The annotations of all queries, then the record of the whole."""
    relations = [query.relation for query in queries if query.relation]
    annotations.write(folder, relations, tracks=_tracks(references, distractors, queries), noise=list(distractors))
    content = {
        "references": {track: _placed(m.mix, folder) for track, m in references.items()},
        "distractors": {track: _placed(m.mix, folder) for track, m in distractors.items()},
        "queries": [query.id for query in queries],
        "facts": facts,
    }
    _write_json(folder / RECORD, content)


def _tracks(
    references: Mapping[str, Material], distractors: Mapping[str, Material], queries: Sequence[Rendered]
) -> list[annotations.Track]:
    return [
        *(_track(track, m, "reference") for track, m in references.items()),
        *(annotations.Track(id=query.id, title=query.how, role="query") for query in queries),
        *(_track(track, m, "distractor") for track, m in distractors.items()),
    ]


def _track(track: str, used: Material, role: str) -> annotations.Track:
    return annotations.Track(id=track, artist=used.track.artist, title=used.track.title, role=role)


def _placed(path: Path, folder: Path) -> str:
    """Relative inside the cache, so that it can be moved; absolute for the user's own music."""
    inside = path.is_relative_to(folder.parent)
    return Path(os.path.relpath(path, folder)).as_posix() if inside else str(path.absolute())


def load(folder: Path) -> Benchmark | None:
    """The benchmark in a folder; None where it is not complete or files it speaks of are gone."""
    content = _read_json(folder / RECORD)
    if content is None:
        return None
    catalogue = {
        role: {track: Path(os.path.normpath(folder / place)) for track, place in content[role].items()}
        for role in ("references", "distractors")
    }
    paths = {query: folder / "audio" / f"{query}.flac" for query in content["queries"]}
    files = [*paths.values(), *(path for tracks in catalogue.values() for path in tracks.values())]
    if not all(file.is_file() for file in files):
        return None
    kept = annotations.read(folder)
    sampled = {relation.query: (_sampled(relation),) for relation in kept.relations}
    queries = tuple(Query(id=query, path=path, sampled=sampled.get(query, ())) for query, path in paths.items())
    artists = {track.id: track.artist for track in kept.tracks if track.artist}
    return Benchmark(name="own", queries=queries, facts=content["facts"], artists=artists, **catalogue)


def _sampled(relation: Relation) -> Sampled:
    return Sampled(
        sample_id=relation.sample_id,
        reference=relation.reference,
        occurrences=paired(relation),
        tempo_ratio=relation.tempo_ratio,
        transposition=relation.transposition,
        sample_type=relation.sample_type,
        length=longest_occurrence(relation),
        level=relation.level,
    )


# -- export -----------------------------------------------------------------------------------------------------


def export(benchmark: Benchmark, directory: Path, *, progress: Progress | None = None) -> None:
    """A benchmark that `load` gave, as a dataset of its own: annotations and directory/audio/<id>.flac of every track.

    Flacs are copied, anything else is decoded to 16 bits at its own rate and channels. Raises OSError where the folder
    cannot be written, AnnotationError where it holds another benchmark.
    """
    kept = annotations.read(benchmark.queries[0].path.parents[1])
    annotations.write(directory, kept.relations, tracks=kept.tracks, noise=kept.noise)
    folder = directory / "audio"
    folder.mkdir(exist_ok=True)
    files = benchmark.catalogue | {query.id: query.path for query in benchmark.queries}
    for number, (track, path) in enumerate(files.items(), start=1):
        _export_file(path, folder / f"{track}.flac")
        if progress:
            progress(track, number, len(files))


def _export_file(path: Path, target: Path) -> None:
    if path.suffix.lower() == ".flac":
        unfinished = target.with_suffix(".unfinished")
        shutil.copyfile(path, unfinished)
        unfinished.replace(target)
        return
    try:
        wave, rate = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError:
        wave, rate = audio.read(path, sample_rate=_RATE), _RATE
    material.write_flac(target, wave, sample_rate=rate)


# -- JSON -------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)

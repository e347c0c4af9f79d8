"""Planted: a catalogue of composed pieces, queries that reuse them, and the truth of each query.

The audio is the same for the same seed, byte for byte on one machine. A finished folder carries a record of what
it holds (`catalogue.json`, `planted.json`, written last); a folder whose record fits is not rendered again.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from evaluation.pieces.sampling import TREATMENTS, Laid, Sample, Treatment, lay, sample
from evaluation.pieces.synthesis import Piece, compose, mix, render

VERSION = 4  # of the audio; raise it whenever a change here or in what it imports changes a sample
SAMPLE_RATE = 22050  # Hz
_SEEDS = 100_000  # pieces a seed may use: catalogue from 0, new material from 50 000, unknown sources from 75 000
_OTHER, _UNKNOWN = 50_000, 75_000
# Ogg is left out: libsndfile draws the stream's number from the clock, so two runs would differ.
_LOSSLESS = ({"format": "FLAC", "subtype": "PCM_16"}, {"format": "WAV", "subtype": "PCM_16"})
_ANY = (*_LOSSLESS, {"format": "MP3"})  # of queries; libsndfile's longer mp3s make its own decoder complain on stderr
_BLOCK = 1 << 16  # samples written at once


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One sounding of a sample."""

    query_span: tuple[float, float]  # seconds
    reference_span: tuple[float, float]  # seconds
    tempo_ratio: float  # query tempo / reference tempo
    transposition: float  # semitones, query above reference


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a query really contains; a query that samples nothing in the catalogue has no reference."""

    query: Path
    reference: Path | None
    occurrences: tuple[Occurrence, ...]
    level: float | None  # dB RMS of the sample over the other material while it sounds
    how: str


def render_catalogue(directory: Path, *, seed: int = 0, references: int = 20, workers: int = 2) -> tuple[Path, ...]:
    """Compose and write the references (flac and wav, with title and artist); returns their paths in order."""
    if references < 1:
        raise ValueError(f"references must be 1 or more, got {references}")
    pieces = [compose(seed * _SEEDS + number) for number in range(references)]
    paths = tuple(directory / _reference_name(piece, number) for number, piece in enumerate(pieces))
    request = {"version": VERSION, "seed": seed, "references": references}
    record = directory / "catalogue.json"
    if _is_complete(record, request):
        return paths
    _clear(record)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_write_reference, paths, pieces))
    _write_record(record, request, paths)
    return paths


def render_queries(
    directory: Path,
    references: Sequence[Path],
    *,
    seed: int = 0,
    queries: int = 10,
    sample_free: int = 3,
    workers: int = 2,
) -> tuple[Planted, ...]:
    """Write queries that sample `references` (what `render_catalogue` gave for the same seed) and some that sample
    pieces outside the catalogue; returns their truth, which is also written to `directory/planted.json`."""
    pieces = [compose(seed * _SEEDS + number) for number in range(len(references))]
    expected = [_reference_name(piece, number) for number, piece in enumerate(pieces)]
    if [path.name for path in references] != expected:
        raise ValueError(f"the references are not the catalogue of seed {seed}; pass what render_catalogue returned")
    request = {
        "version": VERSION,
        "seed": seed,
        "references": _relative(references, directory),
        "counts": [queries, sample_free],
    }
    record = directory / "planted.json"
    if _is_complete(record, request):
        return read_truth(record)
    _clear(record)
    order = np.resize(np.random.default_rng([seed, 30]).permutation(len(references)), queries).tolist()
    unknown = [compose(seed * _SEEDS + _UNKNOWN + number) for number in range(sample_free)]
    sources = [pieces[place] for place in order] + unknown
    sampled = [references[place] for place in order] + [None] * sample_free
    with ThreadPoolExecutor(workers) as pool:
        numbers = range(len(sources))
        truth = tuple(pool.map(partial(_plant, directory, seed), numbers, sources, sampled))
    _write_record(record, request, [planted.query for planted in truth], truth)
    return truth


def write_truth(path: Path, truth: Sequence[Planted]) -> None:
    """Write truth as JSON beside the audio; paths are stored relative to the file."""
    _write_json(path, {"planted": [_as_json(planted, path.parent) for planted in truth]})


def read_truth(path: Path) -> tuple[Planted, ...]:
    """Read what `write_truth` or `render_queries` wrote; raises ValueError where the file holds something else."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "planted" not in content:
        raise ValueError(f"{path} holds no planted truth; render the queries again")
    return tuple(_from_json(planted, path.parent) for planted in content["planted"])


# -- one query --------------------------------------------------------------------------------------------------


def _plant(directory: Path, seed: int, number: int, source: Piece, reference: Path | None) -> Planted:
    """Render one query from a source piece; without a reference the source is unknown to the catalogue."""
    treatment = TREATMENTS[number % len(TREATMENTS)]
    rng = np.random.default_rng([seed, 31, number])
    taken = sample(source, render(source, sample_rate=SAMPLE_RATE), treatment, sample_rate=SAMPLE_RATE, rng=rng)
    other = _other_material(source, treatment, seed * _SEEDS + _OTHER + number)
    laid = lay(taken, other, treatment, sample_rate=SAMPLE_RATE, rng=rng)
    path = directory / f"query-{number + 1:02d}{_suffix(number, _ANY)}"
    _write_audio(path, laid.wave)
    if reference is None:
        return Planted(
            query=path, reference=None, occurrences=(), level=None, how="samples a piece outside the catalogue"
        )
    return Planted(
        query=path, reference=reference, occurrences=_occurrences(laid, taken, treatment), level=treatment.level,
        how=treatment.describe(),
    )  # fmt: skip


def _other_material(source: Piece, treatment: Treatment, seed: int) -> NDArray[np.float32]:
    """A new piece in the tempo and key that the sample has after its treatment, without its first phrase."""
    tempo = source.tempo * treatment.tempo_ratio
    tempo = tempo / 2 if tempo > 165 else tempo * 2 if tempo < 62 else tempo
    piece = compose(seed, tempo=tempo, tonic=source.tonic + round(treatment.semitones), duration=36.0)
    stems = render(piece, sample_rate=SAMPLE_RATE)
    return mix(stems, treatment.other)[round(4 * piece.bar * SAMPLE_RATE) :]


def _occurrences(laid: Laid, taken: Sample, treatment: Treatment) -> tuple[Occurrence, ...]:
    return tuple(
        Occurrence(
            query_span=span,
            reference_span=taken.reference_span,
            tempo_ratio=treatment.tempo_ratio,
            transposition=round(treatment.semitones, 3),
        )
        for span in laid.spans
    )


# -- files ------------------------------------------------------------------------------------------------------


def _suffix(number: int, formats: Sequence[dict[str, str]]) -> str:
    return "." + formats[number % len(formats)]["format"].lower()


def _reference_name(piece: Piece, number: int) -> str:
    return f"{number + 1:02d}-{piece.title.lower().replace(' ', '-')}{_suffix(number, _LOSSLESS)}"


def _write_reference(path: Path, piece: Piece) -> None:
    _write_audio(path, mix(render(piece, sample_rate=SAMPLE_RATE)), piece)


def _write_audio(path: Path, wave: NDArray[np.float32], piece: Piece | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = next(f for f in _ANY if f["format"].lower() == path.suffix[1:])
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, **options) as file:
        if piece:
            file.title, file.artist = piece.title, piece.artist
        for start in range(0, len(wave), _BLOCK):
            file.write(wave[start : start + _BLOCK])


def _is_complete(record: Path, request: dict[str, Any]) -> bool:
    """Whether the folder holds what is asked for: its record fits and every file has the size written there."""
    if not record.is_file():
        return False
    content = json.loads(record.read_text(encoding="utf-8"))
    files = {record.parent / name: size for name, size in content.get("files", {}).items()}
    fits = content.get("request") == request
    return fits and all(file.is_file() and file.stat().st_size == size for file, size in files.items())


def _clear(record: Path) -> None:
    """Remove an earlier rendering, so that its files are not taken for part of the new one."""
    if not record.is_file():
        return
    for name in json.loads(record.read_text(encoding="utf-8")).get("files", {}):
        (record.parent / name).unlink(missing_ok=True)
    record.unlink()


def _write_record(
    record: Path, request: dict[str, Any], files: Sequence[Path], truth: Sequence[Planted] | None = None
) -> None:
    content = {"request": request, "files": {file.name: file.stat().st_size for file in files}}
    if truth is not None:
        content["planted"] = [_as_json(planted, record.parent) for planted in truth]
    _write_json(record, content)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    # written beside and then renamed: a record that exists is a whole one
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _relative(paths: Sequence[Path], directory: Path) -> list[str]:
    return [Path(os.path.relpath(path, directory)).as_posix() for path in paths]


def _as_json(planted: Planted, directory: Path) -> dict[str, Any]:
    query, *reference = _relative([path for path in (planted.query, planted.reference) if path], directory)
    return asdict(planted) | {"query": query, "reference": reference[0] if reference else None}


def _from_json(content: dict[str, Any], directory: Path) -> Planted:
    occurrences = (
        Occurrence(**item | {name: tuple(item[name]) for name in ("query_span", "reference_span")})
        for item in content["occurrences"]
    )
    reference = content["reference"]
    return Planted(
        query=directory / content["query"],
        reference=Path(os.path.normpath(directory / reference)) if reference else None,
        occurrences=tuple(occurrences),
        level=content["level"],
        how=content["how"],
    )

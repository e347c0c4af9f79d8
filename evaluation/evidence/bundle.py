"""Bundle: a folder from which somebody else repeats a result, or sees that it is no longer what it was.

    result.json        what was found (the JSON of exports.py; queries by their original paths)
    provenance.json    program, versions, digests, settings, size of the catalogue; which file holds which query
    catalogue.csv      number, content hash, path of every stored reference
    calibration.json   what confidences and the bar were taken from; only where there was one
    queries/           the files asked about, unchanged
    excerpts/          of every match's longest place: query, reference, reference fitted to the query, both in stereo
    SHA256SUMS         of all of these; `sha256sum --check SHA256SUMS` reads it too

`verify` checks the sums, compares encoder and catalogue, asks the same queries again in the same way and says what
differs, a line each.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile
from numpy.typing import NDArray

from encoder.audio import AudioError
from evaluation.evidence import comparison, exports, listen, provenance
from evaluation.evidence.provenance import Provenance
from evaluation.evidence.replies import Reply, answer
from reranker import confidence
from reranker.rank import Match
from reranker.search import Searcher
from store.catalogue import Track

SUMS = "SHA256SUMS"
CALIBRATION = "calibration.json"
_LONGEST = 30.0  # seconds of an excerpt
_COLUMNS = ("number", "content_hash", "path")


class BundleError(ValueError):
    """A folder is no bundle, or one cannot be written there."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the repetition of a result showed."""

    differences: tuple[str, ...]  # of the files, the encoder or the result; none: it is repeated
    notes: tuple[str, ...]  # what is not the same and did not have to matter


def write(directory: Path, replies: Sequence[Reply], made: Provenance, searcher: Searcher) -> Path:
    """Write the bundle of a result into a new or empty folder, with the references and calibration of the searcher.

    BundleError where the folder holds anything. An excerpt whose recording is gone is left out, with its reason in
    provenance.json.
    """
    require_new(directory)
    directory.mkdir(parents=True, exist_ok=True)
    queries = _copy_queries(directory / "queries", replies)
    missing = _write_excerpts(directory / "excerpts", replies)
    _write_json(directory / "result.json", exports.document(replies))
    _write_json(directory / "provenance.json", asdict(made) | {"queries": queries, "missing_excerpts": missing})
    _write_catalogue(directory / "catalogue.csv", searcher.references.catalogue.tracks("stored"))
    if searcher.calibration is not None:
        confidence.save(directory / CALIBRATION, searcher.calibration)
    sums = {path.relative_to(directory).as_posix(): _sha256(path) for path in sorted(_files(directory))}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (directory / SUMS).write_bytes(os.fsencode(lines))  # names as the file system has them
    return directory


def require_new(directory: Path) -> None:
    """BundleError where a bundle would be mixed with what is there."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BundleError(f"bundle {directory}: is not empty, expected a new folder; name another one")


def read_provenance(directory: Path) -> Mapping[str, Any]:
    """What provenance.json says, `ranking` and `include_self` among it; BundleError where it is no bundle."""
    told = _read_json(directory, "provenance.json")
    if missing := {"ranking", "include_self", "queries"} - set(told):
        raise BundleError(f"{directory}: provenance.json lacks {sorted(missing)[0]!r}; the bundle is damaged")
    return told


def verify(directory: Path, searcher: Searcher) -> Verified:
    """Repeat the result of a bundle with a searcher that ranks as its provenance says.

    BundleError where the folder is no bundle, or its searcher ranks otherwise.
    """
    told, result = read_provenance(directory), _read_json(directory, "result.json")
    now = asdict(provenance.of(searcher, command="", include_self=told["include_self"]))
    if now["ranking"] != told["ranking"]:
        raise BundleError(f"bundle {directory}: ranked by {told['ranking']}, the searcher ranks by {now['ranking']}")
    replies = [
        answer(searcher, directory / "queries" / file, include_self=told["include_self"]) for file in told["queries"]
    ]
    again = exports.document(replies)
    catalogue = _catalogue_notes(directory, searcher.references.catalogue.tracks("stored"))
    return Verified(
        differences=(
            *_changed_files(directory),
            *(
                f"{name}: {told[name]} then, {now[name]} now"
                for name in ("encoder", "reranker", "verifier")
                if told.get(name) != now[name]
            ),
            *comparison.differences(result, again),
        ),
        notes=(*_version_notes(told["versions"], now["versions"]), *catalogue),
    )


def _copy_queries(folder: Path, replies: Sequence[Reply]) -> list[str]:
    """Names of the copies, in the order of the replies; a query that was no file has none to copy."""
    folder.mkdir()
    names = []
    for number, reply in enumerate(replies, start=1):
        names.append(f"{number}-{reply.query.name}")
        if reply.query.is_file():
            shutil.copyfile(reply.query, folder / names[-1])
    return names


def _write_excerpts(folder: Path, replies: Sequence[Reply]) -> list[str]:
    """The excerpts of all matches; a line for each that could not be cut."""
    folder.mkdir()
    missing = []
    for number, reply in enumerate(replies, start=1):
        for rank, match in enumerate(reply.matches, start=1):
            try:
                _write_excerpt(folder, f"query-{number}-match-{rank}", reply, match)
            except AudioError as error:
                missing.append(f"query-{number}-match-{rank}: {error}")
    return missing


def _write_excerpt(folder: Path, name: str, reply: Reply, match: Match) -> None:
    best = match.longest
    if best is None:
        return
    excerpt = listen.choose(best, seconds=_LONGEST, duration=reply.answer.duration)
    heard = listen.hear(reply.query, match.reference.path, excerpt)
    sounds: dict[str, NDArray] = {
        "query": heard.query,
        "reference": heard.reference,
        "reference-fitted": heard.warped,
        "both": heard.left_and_right(),
    }
    for which, wave in sounds.items():
        soundfile.write(folder / f"{name}-{which}.flac", wave, listen.RATE, format="FLAC", subtype="PCM_16")


def _write_catalogue(path: Path, tracks: Iterable[Track]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows([getattr(track, name) for name in _COLUMNS] for track in tracks)


def _catalogue_notes(directory: Path, tracks: Iterable[Track]) -> list[str]:
    """What has become of the catalogue: other references compete, so scores may move."""
    if not (directory / "catalogue.csv").is_file():
        return []  # told among the missing files
    with (directory / "catalogue.csv").open(newline="", encoding="utf-8") as file:
        then = {row["content_hash"]: row["path"] for row in csv.DictReader(file)}
    now = {track.content_hash: str(track.path) for track in tracks}
    gone, added = [p for h, p in then.items() if h not in now], [p for h, p in now.items() if h not in then]
    return [
        f"catalogue: {what} since: {len(paths)}, {paths[0]}{' ...' if paths[1:] else ''}"
        for what, paths in (("references gone", gone), ("references added", added))
        if paths
    ]


def _version_notes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    names = sorted({*then, *now})
    return [f"{n}: {then.get(n)} then, {now.get(n)} now" for n in names if then.get(n) != now.get(n)]


def _changed_files(directory: Path) -> list[str]:
    """A line for each file that is missing, changed, or not in the list of sums."""
    sums = _read_sums(directory)
    there = {path.relative_to(directory).as_posix(): path for path in _files(directory)}
    return [
        *(f"{name}: is missing" for name in sums if name not in there),
        *(
            f"{name}: was changed (SHA-256)"
            for name, path in there.items()
            if name in sums and _sha256(path) != sums[name]
        ),
        *(f"{name}: was added" for name in there if name not in sums),
    ]


def _read_sums(directory: Path) -> dict[str, str]:
    if not (directory / SUMS).is_file():
        raise BundleError(f"{directory}: no {SUMS}, expected a folder written by asid find --bundle")
    lines = os.fsdecode((directory / SUMS).read_bytes()).splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / SUMS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    path.write_text(content, encoding="utf-8", errors="backslashreplace")  # bytes of a name that are no text


def _read_json(directory: Path, name: str) -> Mapping[str, Any]:
    path = directory / name
    if not path.is_file():
        raise BundleError(f"{directory}: no {name}, expected a folder written by asid find --bundle")
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); the bundle is damaged, get it again") from error
    if not isinstance(read, Mapping):
        raise BundleError(f"{path}: holds {type(read).__name__}, expected an object; the bundle is damaged")
    return read

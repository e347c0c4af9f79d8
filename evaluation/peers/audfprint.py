"""Audfprint: a landmark fingerprinter as a peer, through its own command line, where the user has it installed.

Its code (github.com/dpwe/audfprint, MIT) is not part of asid. It is found as `audfprint` on the PATH, or by the command
line in ASID_AUDFPRINT: `ASID_AUDFPRINT="python /opt/audfprint/audfprint.py"`, with full paths; it decodes with FFmpeg.

Setting: dense, 70 hashes a second with a fan-out of 8, as short samples under other music need it; everything else as
the program has it. All alignments that it reports are read, not only the first one. A reference scores as many hashes
as its best alignment has in common with the query (the program's own order), and its alignments with at least half as
many are its occurrences. The query is answered where the program reports a match, 5 common hashes, which at this
density chance often reaches. It looks for unchanged speed and says nothing of tempo and transposition.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.benchmark import Query
from evaluation.peers.interface import Found, Progress, Response
from reranker.rank import Occurrence

VARIABLE = "ASID_AUDFPRINT"
DENSE = ("--density", "70", "--fanout", "8")
_LONG = ("--maxtimebits", "16")  # times up to 25 minutes; by default those of tracks over 6 minutes are wrong
_ALL = "1000000"  # matches to report
_MATCHED = re.compile(
    r"Matched +(?P<length>\S+) s starting at +(?P<start>\S+) s in .* to time +(?P<at>\S+) s in (?P<name>\S+) "
    r"with +(?P<hashes>\d+) of +\d+ common hashes"
)
_INGESTING = re.compile(r".* ingesting #(?P<place>\d+): (?P<name>\S+) \.\.\.$")
_UNREADABLE = re.compile(r"wavfile2peaks: Error reading (?P<name>\S+) skipping$")


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One line of the program: a stretch of the query set against a stretch of a reference."""

    name: str  # of the reference's file
    hashes: int  # that agree
    occurrence: Occurrence


class Audfprint:
    """The installed program with a table of the catalogue's hashes."""

    about = "landmarks of spectral peaks (Ellis), dense: 70 hashes a second, fan-out 8"

    def __init__(self, folder: Path, *, name: str = "audfprint", command: Sequence[str] | None = None) -> None:
        """FileNotFoundError where the program is not installed."""
        self.name, self._folder = name, folder
        self._home: Path | None = None  # where the table of this catalogue lies
        self._command = tuple(command or installed())
        version = self._run("--version").strip()
        self.facts: dict[str, Any] = {
            "digest": f"audfprint {version} {' '.join((*DENSE, *_LONG))}",
            "version": version,
            "options": [*DENSE, *_LONG],
        }
        self._names: dict[str, str] = {}  # file name in the table -> track id

    def prepare(self, catalogue: Mapping[str, Path], progress: Progress) -> None:
        """Make the table in one go, as the program does; one that is there for the same files is used."""
        self._names = {f"tracks/{place:06d}": name for place, name in enumerate(catalogue)}
        self._home = self._folder / f"audfprint-{_key(catalogue, self.facts['digest'])}"
        record = self._home / "failed.json"  # written last
        if not record.is_file():
            _link(self._home, dict(zip(self._names, catalogue.values())))
            failed = self._make(progress)
            record.with_suffix(".unfinished").write_text(json.dumps(failed))
            record.with_suffix(".unfinished").replace(record)
        self.facts["failed"] = json.loads(record.read_text())

    def ask(self, query: Query) -> Response:
        """ValueError, with the program's last line, where it cannot use the query."""
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / "query"  # no character in it that the program or a pattern would take for its own
            link.symlink_to(query.path.absolute())
            depth = ("--search-depth", str(max(1, len(self._names))))
            asked = ("--find-time-range", "--max-matches", _ALL, *depth, str(link))
            printed = self._run("match", "--dbase", "table.pklz", *DENSE, *_LONG, *asked, about=query.path)
        found = ranked(read(printed), self._names, without=query.aliases)
        return Response(found=found, candidates=None, answered=bool(found), seconds=time.perf_counter() - began)

    @property
    def names(self) -> dict[str, str]:
        """Track ids by file name in the table."""
        return dict(self._names)

    def printed(self, queries: Sequence[Path]) -> str:
        """What the program prints of many queries in one go; ValueError where it fails. Names must have no spaces."""
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "queries.txt"
            listed.write_text("".join(f"{path.absolute()}\n" for path in queries))
            depth = ("--search-depth", str(max(1, len(self._names))))
            asked = ("--find-time-range", "--max-matches", "1", *depth, "--list", str(listed))
            return self._run("match", "--dbase", "table.pklz", *DENSE, *_LONG, *asked)

    def _make(self, progress: Progress) -> dict[str, str]:
        """Track id -> reason of those that the program could not read."""
        listed = ("--continue-on-error", "--list", "list.txt")
        failed = {}
        for line in self._lines("new", "--dbase", "table.pklz", *DENSE, *_LONG, *listed):
            if begun := _INGESTING.match(line):
                progress(self._names[begun["name"]], int(begun["place"]) + 1, len(self._names))
            elif unreadable := _UNREADABLE.match(line):
                failed[self._names[unreadable["name"]]] = "audfprint cannot read it"
        return failed

    def _lines(self, *arguments: str) -> Iterator[str]:
        """What the program prints, line by line as it comes; ValueError where it fails."""
        command = [*self._command, *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, cwd=self._home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            line = ""
            for line in process.stdout:
                yield line.rstrip("\n")
        if process.returncode:
            raise ValueError(f"audfprint failed: {line.strip() or f'status {process.returncode}'}")

    def _run(self, *arguments: str, about: Path | None = None) -> str:
        """All that the program prints; ValueError where it fails."""
        done = subprocess.run([*self._command, *arguments], cwd=self._home, text=True, capture_output=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
            raise ValueError(f"{f'{about}: ' if about else ''}audfprint failed: {last}")
        return done.stdout


def installed() -> list[str]:
    """The program's command line; FileNotFoundError where there is none."""
    command = shlex.split(os.environ.get(VARIABLE, "")) or ["audfprint"]
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(
            f"{command[0]}: no such program; install audfprint and put it on the PATH, or set {VARIABLE} to its "
            'command line ("python /full/path/to/audfprint.py")'
        )
    return command


def read(printed: str) -> list[Alignment]:
    """The alignments in what `match --find-time-range` printed; ValueError where it is neither these nor NOMATCH."""
    lines = printed.splitlines()
    alignments = [_alignment(found) for line in lines if (found := _MATCHED.match(line))]
    if not alignments and not any(line.startswith("NOMATCH ") for line in lines):
        last = lines[-1] if lines else ""
        raise ValueError(
            f"audfprint printed {last!r}, expected lines that begin with Matched or NOMATCH; see {VARIABLE}"
        )
    return alignments


def ranked(alignments: Iterable[Alignment], names: Mapping[str, str], *, without: Iterable[str]) -> tuple[Found, ...]:
    """References by the hashes of their best alignment; in order of the program where equal."""
    by_name: dict[str, list[Alignment]] = {}
    for alignment in sorted(alignments, key=lambda a: -a.hashes):
        by_name.setdefault(alignment.name, []).append(alignment)
    dropped = set(without)
    return tuple(
        Found(
            reference=names[name],
            score=float(mine[0].hashes),
            occurrences=tuple(a.occurrence for a in mine if 2 * a.hashes >= mine[0].hashes),
        )
        for name, mine in by_name.items()
        if names[name] not in dropped
    )


def _alignment(found: re.Match[str]) -> Alignment:
    length, start, at = (float(found[part]) for part in ("length", "start", "at"))
    occurrence = Occurrence(query_span=(start, start + length), reference_span=(at, at + length))
    return Alignment(name=found["name"], hashes=int(found["hashes"]), occurrence=occurrence)


def _key(catalogue: Mapping[str, Path], digest: str) -> str:
    """Names the files as they are: another catalogue, or a file that changed, has another key."""
    files = [(name, str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else name
             for name, path in catalogue.items()]  # fmt: skip
    return hashlib.sha256(json.dumps([digest, files]).encode()).hexdigest()[:16]


def _link(home: Path, tracks: Mapping[str, Path]) -> None:
    """A folder of links, so that no name of a user's file can be mistaken for a part of the program's lines."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "tracks").mkdir(parents=True)
    for name, path in tracks.items():
        (home / name).symlink_to(path.absolute())
    (home / "list.txt").write_text("".join(f"{name}\n" for name in tracks))

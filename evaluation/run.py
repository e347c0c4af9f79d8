"""Run: a benchmark and peers -> a row for each peer and query; every answer is kept, so a killed run goes on.

    DIR/answers/<peer>.jsonl    a line that says whose answers to what these are, then one line for each answer

Answers are used again where peer (its facts' digest), protocol and benchmark (ids, sizes and times of all files) are
the same; otherwise the peer is asked anew. A query that fails counts as "nothing found, not answered" and is named with
its reason in the facts that go into the summary; the next run asks it again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation import results
from evaluation.benchmark import Benchmark, Query
from evaluation.peers.interface import Found, Peer, Response
from evaluation.protocols import Protocol
from reranker.rank import Occurrence

# What a peer may raise over one query; anything else (a TypeError, say) is a mistake in its code and ends the run.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing done, for a progress bar."""

    system: str
    doing: str  # storing or asking
    what: str  # track or query id
    done: int
    total: int


Report = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A peer's response to one query; a failed one is an empty response with the reason."""

    query: str
    excerpt: float | None
    response: Response
    failure: str = ""


def run(
    benchmark: Benchmark,
    peers: Sequence[Peer],
    protocol: Protocol,
    directory: Path,
    *,
    progress: Report | None = None,
) -> pd.DataFrame:
    """Ask every peer everything; returns the columns of `results.COLUMNS`, by peer in the order given.

    `frame.attrs["peers"]` holds each peer's facts, its sentence and `failed_queries` (id -> reason), for
    `results.summary`. ValueError where two peers have one name.
    """
    names = [peer.name for peer in peers]
    if len(set(names)) != len(names):
        raise ValueError(f"systems are called {', '.join(names)}; give each a name of its own (NAME=...)")
    report = progress or _silent
    kept = identity(benchmark)
    rows, facts = [], {}
    for peer in peers:
        with closing(peer) if hasattr(peer, "close") else nullcontext():
            peer.prepare(
                benchmark.catalogue,
                lambda what, done, total, name=peer.name: report(
                    Step(system=name, doing="storing", what=what, done=done, total=total)
                ),
            )
            answers = ask(peer, benchmark, protocol, _file(directory, peer.name), benchmark_id=kept, progress=report)
        rows += _rows(answers, peer.name, benchmark, protocol)
        facts[peer.name] = {**peer.facts, "about": peer.about, "failed_queries": _failures(answers)}
    frame = results.table(rows)
    frame.attrs["peers"] = facts
    return frame


def ask(
    peer: Peer, benchmark: Benchmark, protocol: Protocol, file: Path, *, benchmark_id: str, progress: Report
) -> list[Answer]:
    """The peer's answers to all queries and excerpts, those kept in `file` or asked now, in the benchmark's order."""
    if "digest" not in peer.facts:
        raise ValueError(f"{peer.name}: facts have no 'digest', expected a text that changes whenever answers may")
    header = {
        "peer": peer.name, "digest": peer.facts["digest"], "protocol": protocol.name, "benchmark": benchmark_id
    }  # fmt: skip
    known = _opened(file, header)
    queries = [*benchmark.queries, *benchmark.excerpts]
    with file.open("a", encoding="utf-8") as kept:
        for done, query in enumerate(queries, 1):
            key = (query.id, query.excerpt)
            if key not in known or known[key].failure:
                known[key] = answer(peer, query, benchmark)
                kept.write(json.dumps(_to_plain(known[key]), default=_number) + "\n")
                kept.flush()
            progress(Step(system=peer.name, doing="asking", what=query.id, done=done, total=len(queries)))
    return [known[query.id, query.excerpt] for query in queries]


def answer(peer: Peer, query: Query, benchmark: Benchmark) -> Answer:
    """Ask one query; what the peer raises over it, or an impossible response, becomes a failure with its reason."""
    began = time.perf_counter()
    try:
        response, failure = _checked(peer.ask(query), query, benchmark), ""
    except _FAILURES as error:
        response, failure = Response(found=(), candidates=None, answered=False), f"{type(error).__name__}: {error}"
    if response.seconds is None:
        response = replace(response, seconds=time.perf_counter() - began)
    return Answer(query=query.id, excerpt=query.excerpt, response=response, failure=failure)


def identity(benchmark: Benchmark) -> str:
    """Hexadecimal digest over the ids of catalogue and queries and the size and time of change of their files."""
    catalogue = [(name, path) for name, path in benchmark.catalogue.items()]
    queries = [(f"{q.id} {q.excerpt} {sorted(q.aliases)}", q.path) for q in (*benchmark.queries, *benchmark.excerpts)]
    listed = [(name, str(path), *_stamp(path)) for name, path in (*catalogue, *queries)]
    return hashlib.sha256(json.dumps([benchmark.name, listed]).encode()).hexdigest()


def _silent(step: Step) -> None:
    pass


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change; nothing for a missing file, which its peer will report."""
    status = path.stat() if path.is_file() else None
    return (status.st_size, status.st_mtime_ns) if status else (-1, -1)


def _checked(response: Response, query: Query, benchmark: Benchmark) -> Response:
    named = {found.reference for found in response.found} | (response.candidates or frozenset())
    if own := named & query.aliases:
        raise ValueError(f"found {min(own)!r}, which is the query itself; leave query.aliases out")
    if unknown := named - benchmark.catalogue.keys():
        raise ValueError(f"found {min(unknown)!r}, which is no id of the catalogue it was given")
    return response


def _rows(answers: Sequence[Answer], system: str, benchmark: Benchmark, protocol: Protocol) -> Iterator[dict]:
    for query, given in zip((*benchmark.queries, *benchmark.excerpts), answers, strict=True):
        yield results.row(query, given.response, system=system, benchmark=benchmark, protocol=protocol)


def _failures(answers: Sequence[Answer]) -> dict[str, str]:
    return {a.query if a.excerpt is None else f"{a.query} ({a.excerpt:g} s)": a.failure for a in answers if a.failure}


# The file of answers


def _file(directory: Path, system: str) -> Path:
    """A file name for a peer; two peers whose names differ have two files."""
    readable = re.sub(r"[^\w.-]", "_", system)
    different = "" if readable == system else "-" + hashlib.sha256(system.encode()).hexdigest()[:8]
    return directory / "answers" / f"{readable}{different}.jsonl"


def _opened(file: Path, header: Mapping[str, str]) -> dict[tuple[str, float | None], Answer]:
    """The answers in the file, which is left ready to be appended to; made anew where the header is another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines, whole = _whole_lines(file)
    if not lines or lines[0] != header:
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(header) + "\n", encoding="utf-8")
        unfinished.replace(file)
        return {}
    os.truncate(file, whole)  # a line that was torn when the run was killed would spoil the next one
    answers = [_from_plain(line) for line in lines[1:]]
    return {(a.query, a.excerpt): a for a in answers}  # of a query asked twice, the later answer


def _whole_lines(file: Path) -> tuple[list[Any], int]:
    """The JSON lines up to the first torn one, and how many bytes they are."""
    lines, whole = [], 0
    for line in file.read_bytes().splitlines(keepends=True) if file.is_file() else ():
        try:
            lines.append(json.loads(line if line.endswith(b"\n") else b""))
        except ValueError:
            break
        whole += len(line)
    return lines, whole


def _to_plain(given: Answer) -> dict[str, Any]:
    plain = asdict(given)
    if given.response.candidates is not None:
        plain["response"]["candidates"] = sorted(given.response.candidates)
    return plain


def _number(value: Any) -> Any:
    """A scalar of numpy, such as a peer may give, as a plain one."""
    return value.item()


def _from_plain(plain: Mapping[str, Any]) -> Answer:
    response = plain["response"]
    candidates = response["candidates"]
    return Answer(**plain | {"response": Response(**response | {
        "found": tuple(_found(found) for found in response["found"]),
        "candidates": None if candidates is None else frozenset(candidates),
    })})  # fmt: skip


def _found(plain: Mapping[str, Any]) -> Found:
    return Found(**plain | {"occurrences": tuple(_occurrence(place) for place in plain["occurrences"])})


def _occurrence(plain: Mapping[str, Any]) -> Occurrence:
    spans = {name: tuple(plain[name]) for name in ("query_span", "reference_span")}
    return Occurrence(**plain | spans)

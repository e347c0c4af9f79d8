"""The query flow: a batch of tracks -> one answer each. The command line calls `answer` without the flow."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from evaluation.evidence.replies import name
from flows import assembly, evidence, logs, metrics
from flows.answers import Reply, answer, clock
from flows.inbox import free
from flows.installation import installed
from flows.settings import Settings
from reranker.rank import Match, Span
from reranker.search import Searcher


@flow(name="find-samples")
def find_samples(
    queries: list[Path], settings: Settings | None = None, *, include_self: bool = False, reports: Path | None = None
) -> list[Reply]:
    """Answer every query; an unusable one has its error in place of an answer.

    Without settings, those of the installation. `reports` is a folder for QUERY.json and QUERY.html of each query,
    numbered where an answer of that name is there: song-2.wav.json.
    """
    settings = settings or installed()
    encoder = assembly.encoder(settings)
    replies, pages, seconds = [], [], []
    with assembly.references(settings, encoder, read_only=True) as references:
        searcher = assembly.searcher(settings, references, encoder)
        for query in queries:
            began = time.perf_counter()
            replies.append(find_one(searcher, query, include_self))
            seconds.append(time.perf_counter() - began)
            logs.tell("answered", path=query, state=_state(replies[-1]), reason=replies[-1].error)
            if reports is not None:
                pages += report(replies[-1], searcher, reports, include_self)
    metrics.count_queries(settings.data, seconds, failed=sum(1 for reply in replies if reply.error))
    publish(replies, seconds, pages)
    return replies


@task(name="find-one", cache_policy=NO_CACHE, persist_result=False)
def find_one(searcher: Searcher, query: Path, include_self: bool) -> Reply:
    """One query against the catalogue."""
    return answer(searcher, query, include_self=include_self)


def report(reply: Reply, searcher: Searcher, folder: Path, include_self: bool = False) -> tuple[Path, ...]:
    """Write QUERY.html, where there is an answer, and QUERY.json into the folder; the paths written.

    The JSON comes last and whole: where it is, the query is answered. Beside a query that lies in that folder they bear
    its name; elsewhere one that is free, since songs of two folders may be called the same.
    """
    lies_there = reply.query.parent.resolve() == folder.resolve()
    called = reply.query.name if lies_there else free(folder, reply.query.name).name
    wanted = evidence.Wanted(report=folder / f"{called}.html" if reply.answer else None)
    pages = evidence.keep(wanted, [reply], searcher, command="flow find-samples", include_self=include_self)
    told = evidence.Wanted(exports=(folder / f"{called}.json",))
    return (*pages, *evidence.keep(told, [reply], searcher, command=""))


def publish(replies: Sequence[Reply], seconds: Sequence[float], pages: Sequence[Path] = ()) -> None:
    """Matches, unusable queries and links to reports in the Prefect UI."""
    matches = [_row(reply, match) for reply in replies for match in reply.matches]
    failures = [{"query": str(reply.query), "reason": reply.error} for reply in replies if reply.error]
    found = len({reply.query for reply in replies if reply.matches})
    pace = f", {sum(seconds) / len(seconds):.1f} s each" if seconds else ""
    about = f"{len(replies)} queries{pace}: {found} with matches, {len(failures)} failed"
    create_table_artifact(key="matches", table=matches or [{"result": "no sample found"}], description=about)
    if failures:
        create_table_artifact(key="failed-queries", table=failures, description=about)
    for page in pages:
        if page.suffix == ".html":
            create_link_artifact(key="query-report", link=page.absolute().as_uri(), link_text=page.name)


def _row(reply: Reply, match: Match) -> dict[str, Any]:
    """One match, with its strongest occurrence."""
    place = match.occurrences[0] if match.occurrences else None
    return {
        "query": str(reply.query),
        "reference": name(match.reference),
        "file": str(match.reference.path),
        "confidence": None if match.confidence is None else round(match.confidence, 3),
        "score": round(match.score, 3),
        "in the query": _span(place.query_span) if place else "",
        "in the reference": _span(place.reference_span) if place else "",
        "tempo ratio": None if place is None or place.tempo_ratio is None else round(place.tempo_ratio, 3),
        "semitones": None if place is None or place.transposition is None else round(place.transposition, 1),
    }


def _span(span: Span) -> str:
    return f"{clock(span[0])}-{clock(span[1])}"


def _state(reply: Reply) -> str:
    if reply.answer is None:
        return "failed"
    return "found" if reply.found else "nothing found"

"""The query flow: a batch of tracks -> one answer each. The command line calls `answer` without the flow."""

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import assembly
from flows.answers import Reply, answer
from flows.settings import Settings
from reranker.search import Searcher


@flow(name="find-samples")
def find_samples(queries: list[Path], settings: Settings, *, include_self: bool = False) -> list[Reply]:
    """Answer every query; an unusable one has its error in place of an answer."""
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder, read_only=True) as references:
        searcher = assembly.searcher(settings, references, encoder)
        replies = [find_one(searcher, query, include_self) for query in queries]
    publish(replies)
    return replies


@task(name="find-one", cache_policy=NO_CACHE, persist_result=False)
def find_one(searcher: Searcher, query: Path, include_self: bool) -> Reply:
    """One query against the catalogue."""
    return answer(searcher, query, include_self=include_self)


def publish(replies: list[Reply]) -> None:
    """The matches as a table in the Prefect UI."""
    rows = [
        {"query": str(r.query), "reference": m.reference.title, "score": round(m.score, 3)}
        for r in replies
        for m in (r.answer.matches if r.answer else ())
    ]
    create_table_artifact(key="matches", table=rows or [{"result": "no sample found"}])

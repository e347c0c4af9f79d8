"""The excerpts flow: warped excerpts of stored recordings are asked for, with and without the reranker."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from evaluation import excerpts, results
from evaluation.excerpts import ExcerptSettings
from flows import assembly
from flows.discover import discover
from flows.settings import Settings
from reranker import checkpoint as reranker_checkpoint
from reranker.search import Searcher
from store.references import References


@flow(name="evaluate-excerpts")
def evaluate_excerpts(paths: list[Path], out: Path, settings: Settings, *, how: ExcerptSettings) -> dict[str, Any]:
    """Share of warped excerpts whose recording stands first; the recordings must be stored."""
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder, read_only=True) as references:
        rendered = list(excerpts.render(_stored(references, paths), out / "queries", how))
        shares, ranked = {}, {}
        for by in ("correlation", "reranker", "similarity"):
            ranking = replace(settings.ranking, by=by)
            searcher = assembly.searcher(replace(settings, ranking=ranking), references, encoder)
            ranked[by] = _told(searcher)
            shares[by] = excerpts.share_first(rendered, lambda query, s=searcher: _first(s, query))
    create_table_artifact(key="excerpts", table=[{"system": n, **asdict(s)} for n, s in shares.items()])
    return {
        "first": {name: asdict(share) for name, share in shares.items()},
        "protocol": asdict(how),
        "encoder_digest": encoder.digest,
        "reranker_digest": reranker_checkpoint.digest(settings.reranker),
        "ranked": ranked,
        "versions": results.versions(),
    }


def _told(searcher: Searcher) -> dict[str, str | None]:
    """What answers depend on beside the encoder."""
    return {
        "ranking": repr(searcher.ranking),
        "correlation": repr(searcher.correlator.correlation) if searcher.correlator else None,  # with the verifier
        "calibration": searcher.calibration.digest if searcher.calibration else None,
    }


def _stored(references: References, paths: list[Path]) -> list[Path]:
    files = [f.absolute() for f in discover(paths).files]
    stored = {t.path for t in references.catalogue.by_paths(files) if t.state == "stored"}
    return [f for f in files if f in stored]


def _first(searcher: Searcher, query: Path) -> Path | None:
    matches = searcher(query, include_self=True).matches  # an excerpt that is hardly warped is the same recording
    return matches[0].reference.path if matches else None

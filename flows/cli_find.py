"""`asid find` and `asid verify`: ask the catalogue, keep the evidence, repeat it."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encoder.limits import printable
from flows.options import PATH, catalogue_options, read_settings

if TYPE_CHECKING:  # imported late, so that --help stays quick
    from encoder.separation import Separator
    from flows.settings import Settings


def _no_file(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The value of --stems; a file there is a query that was taken for it."""
    if value is not None and Path(value).is_file():
        raise click.BadParameter(f"{value} is a file, expected a model's name or a folder; put --stems last")
    return value


@click.command()
@click.argument("queries", nargs=-1, required=True, type=PATH)
@click.option("--top", type=click.IntRange(1), help="Matches shown per query.  [default: 5 for each window of it]")
@click.option("--false-alarms", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Share of sample-free queries that may be answered.  [default: 0.01]")  # fmt: skip
@click.option("--min-score", type=float, help="Show matches from this score on, however sure.")
@click.option(
    "--rank-by",
    type=click.Choice(["correlation", "reranker", "similarity", "own"]),
    help="Correlate references with the query (finds most), rank by candidates, or as the system does of its own.  "
    "[default: what suits the system]",
)
@click.option(
    "--quality",
    type=click.Choice(["fast", "best"]),
    help="best: finds more in queries of minutes, in two to three times the time.  [default: fast]",
)
@click.option("--include-self", is_flag=True, help="Keep a reference that is the very file asked about.")
@click.option(
    "--reranker",
    type=PATH,
    help="Rank by this reranker checkpoint.  [default with --rank-by reranker: the shipped one]",
)
@click.option("--report", type=PATH, help="Write a page of evidence: timeline, pictures, players; one file, offline.")
@click.option(
    "--export",
    "exports",
    type=PATH,
    multiple=True,
    help="Write the result as FILE.json, .csv, .parquet, .txt (Audacity), .jams, or, without suffix, a folder of "
    "Sonic Visualiser layers (may be repeated).",
)
@click.option("--bundle", type=PATH, help="Write result, excerpts, settings and checksums to a new folder.")
@click.option(
    "--stems",
    is_flag=False,
    flag_value="htdemucs",
    callback=_no_file,
    metavar="[MODEL]",
    help="Separate queries that have matches, and tell the stem that carries each; a demucs model by name, or a folder "
    "of trusted weights.  [htdemucs where no model is given]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its form: README, Output).")
@catalogue_options
def find(
    queries: tuple[Path, ...],
    top: int | None,
    false_alarms: float | None,
    min_score: float | None,
    rank_by: str | None,
    quality: str | None,
    include_self: bool,
    report: Path | None,
    exports: tuple[Path, ...],
    bundle: Path | None,
    stems: str | None,
    as_json: bool,
    **given,
) -> None:
    """Find which references each QUERY samples, and where; exit 1 if a query could not be read."""
    _refuse_unread(rank_by, reranker=given["reranker"], false_alarms=false_alarms, quality=quality)
    rank_by = rank_by or ("reranker" if given["reranker"] else None)
    scores = {"minimum": min_score, "surplus": min_score, "false_alarms": false_alarms}
    settings = read_settings(**given, ranking={"by": rank_by, "top": top, "quality": quality, **scores})
    from flows import answers, assembly, evidence
    from reranker.carried import StemFinder

    wanted = evidence.Wanted(report=report, exports=exports, bundle=bundle)
    separate = _separator(stems, settings)
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder, read_only=True) as references:
        searcher = assembly.searcher(settings, references, encoder)
        find_stems = StemFinder(separate, encoder, references) if separate else None
        replies = []
        for query in queries:
            reply = answers.with_stems(answers.answer(searcher, query, include_self=include_self), find_stems)
            replies.append(reply)
            if reply.error:
                click.echo(printable(f"asid: {reply.query}: {reply.error}"), err=True)
            if reply.answer and not as_json:
                click.echo(answers.to_text(reply))
        if as_json:  # before what is kept: a full disk there costs no answer
            click.echo(json.dumps(answers.to_json(replies), indent=2))
        for path in evidence.keep(wanted, replies, searcher, command=_command(), include_self=include_self):
            click.echo(f"wrote {path}", err=True)
    if any(reply.error for reply in replies):
        raise SystemExit(1)


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--reranker", type=PATH, help="Reranker checkpoint, where the bundle needs one.  [default: the shipped one]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalogue_options
def verify(bundle: Path, as_json: bool, **given) -> None:
    """Repeat the result in BUNDLE, a folder of `asid find --bundle`; exit 1 where anything differs."""
    from evaluation.evidence.bundle import read_provenance
    from flows.settings import ranking

    ranked = ranking(read_provenance(bundle)["ranking"], f"ranking of {bundle}")
    settings = replace(read_settings(**given), ranking=ranked)
    from flows import evidence

    verified = evidence.verify(bundle, settings)
    click.echo(json.dumps(evidence.to_json(verified), indent=2) if as_json else evidence.to_text(verified))
    if verified.differences:
        raise SystemExit(1)


def _refuse_unread(rank_by: str | None, **given: object) -> None:
    """UsageError for an option that another way to rank reads than the one asked for."""
    for name, value in given.items():
        reader = "reranker" if name == "reranker" else "correlation"
        if value is not None and rank_by not in (None, reader):
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option}: --rank-by {rank_by} does not read it, {reader} does; leave one out")


def _separator(model: str | None, settings: "Settings") -> "Separator | None":
    """What separates queries; refused before anything is searched where it could not.

    ValueError where matches are not aligned, SeparationError where the model cannot be loaded.
    """
    if model is None:
        return None
    if settings.ranking.by not in ("auto", "correlation"):
        raise ValueError(f"--stems: references are ranked by {settings.ranking.by}, which aligns none; leave one out")
    from encoder.separation import Separator  # demucs takes seconds to import

    return Separator(model, device=settings.device)


def _command() -> str:
    return shlex.join(["asid", *sys.argv[1:]])

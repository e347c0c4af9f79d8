"""The evaluation commands: `asid evaluate ...` and `asid dashboard`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli_compare import evaluate_compare
from flows.cli_noise import evaluate_noise
from flows.cli_sounds import evaluate_sounds
from flows.cli_versions import evaluate_versions
from flows.options import PATH, catalogue_options, comparison_options, prepare_prefect, read_settings

if TYPE_CHECKING:  # imported late, so that --help stays quick
    from flows.evaluate import Comparison


@click.group()
def evaluate() -> None:
    """Measure how much is found."""


for _command in (evaluate_compare, evaluate_noise, evaluate_sounds, evaluate_versions):
    evaluate.add_command(_command)


@evaluate.command()
@click.argument("music", type=PATH)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only tracks that a manifest describes so.")
@click.option("--further", type=PATH, help="More music, for distractors only.")
@click.option("--further-where", multiple=True, metavar="COLUMN=VALUE", help="The same for --further.")
@click.option("--references", type=click.IntRange(1), help="Tracks that are sampled.  [default: 60]")
@click.option("--queries", type=click.IntRange(1), help="Queries with a sample.  [default: 60]")
@click.option("--sample-free", type=click.IntRange(0), help="Queries without one.  [default: 20]")
@click.option("--distractors", type=click.IntRange(0), help="Tracks sampled by none.  [default: all that are left]")
@click.option("--interference", type=click.IntRange(1), help="Tracks laid over the samples.  [default: 20]")
@click.option("--soundfont", type=PATH, help="For MIDI files.  [default: Debian's General MIDI soundfont]")
@click.option("--seed", type=click.IntRange(0), help="Another seed, another benchmark.  [default: 0]")
@click.option("--export", type=PATH, help="Write audio and annotations here, to be read by `asid evaluate sample100`.")
@comparison_options
def own(
    music: Path, where: tuple[str, ...], further: Path | None, further_where: tuple[str, ...], export: Path | None,
    as_json: bool, compared: dict[str, Any], **sizes: int | Path | None,
) -> None:  # fmt: skip
    """Make a benchmark out of MUSIC (a folder, a list of files, or a manifest) and compare systems on it.

    Tracks become references, distractors or interference; queries are made of them as producers make them. The
    rendering is cached: the same seed and music give the same benchmark.
    """
    how = _comparison(compared)
    from evaluation.own.listing import Music
    from evaluation.own.own import OwnSettings, OwnSources
    from flows import show
    from flows.evaluate import evaluate_own

    settings = OwnSettings(**{name: value for name, value in sizes.items() if value is not None})
    sources = OwnSources(
        music=Music(path=music, where=where), further=Music(path=further, where=further_where) if further else None
    )
    with show.evaluation() as progress:
        summary = evaluate_own(settings, sources, how, export=export, progress=progress)
    _print(summary, how, as_json)


@evaluate.command()
@click.option("--annotations", type=PATH, required=True, help="Folder with samples.csv, tracks.csv and annotations/.")
@click.option("--audio", type=PATH, help="Folder with T001.*, N001.* ...")
@click.option("--describe", is_flag=True, help="Only print what the annotations hold; no audio is needed.")
@click.option("--allow-missing", is_flag=True, help="Go on without the audio files that are missing.")
@click.option("--rejection", type=click.IntRange(0), default=0, help="Pairs of the rejection study.  [paper: 300]")
@comparison_options
def sample100(
    annotations: Path, audio: Path | None, describe: bool, allow_missing: bool, rejection: int, as_json: bool,
    compared: dict[str, Any],
) -> None:  # fmt: skip
    """Compare systems on Sample100-ext, or on a benchmark exported in its format."""
    if describe:
        from evaluation.dataset import sample100

        facts = sample100.describe(annotations)
        click.echo(json.dumps(facts, indent=2) if as_json else _facts(facts))
        return
    if audio is None:
        raise click.UsageError("--audio is needed, the folder with the recordings (or --describe, which needs none)")
    how = _comparison(compared)
    from flows import show
    from flows.evaluate import evaluate_sample100

    with show.evaluation() as progress:
        summary = evaluate_sample100(
            annotations, audio, how, allow_missing=allow_missing, rejection_pairs=rejection, progress=progress
        )
    _print(summary, how, as_json)


@evaluate.command()
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for the rendered queries and result.json.")
@click.option("--count", type=click.IntRange(1), default=50, show_default=True, help="Excerpts, one a recording.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another seed, other excerpts.")
@click.option("--reranker", type=PATH, help="Reranker checkpoint.  [default: the shipped one]")
@catalogue_options
def excerpts(paths: tuple[Path, ...], out: Path, count: int, seed: int, **given) -> None:
    """Pitch and stretch excerpts of stored recordings (files or folders PATHS) and count which are found first."""
    settings = read_settings(**given)
    prepare_prefect(settings.data)
    from evaluation.excerpts import ExcerptSettings
    from flows.excerpts import evaluate_excerpts

    result = evaluate_excerpts(list(paths), out, settings, how=ExcerptSettings(count=count, seed=seed))
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result, indent=2))


@evaluate.command("joined")
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the joined run: results and report.")
@click.option("--baseline", help="The system that the others are compared with.  [default: the first]")
@click.option("--bootstrap-seed", "seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of the resampling behind the intervals.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print summary.json.")
def joined(runs: tuple[Path, ...], out: Path, baseline: str | None, seed: int, as_json: bool) -> None:
    """Sum up finished RUNS of the same systems, on several seeds say, as one run over all their queries."""
    prepare_prefect(out)
    from flows import show
    from flows.evaluate import join

    summary = join(runs, out, baseline=baseline, seed=seed, command=" ".join(["asid", *sys.argv[1:]]))
    click.echo(json.dumps(summary, indent=2) if as_json else show.evaluation_text(summary, out))


@click.command()
@click.argument("results", type=PATH)
@click.option("--out", type=PATH, help="The page to write.  [default: dashboard.html in RESULTS]")
@click.option("--open", "show", is_flag=True, help="Open it in a browser.")
def dashboard(results: Path, out: Path | None, show: bool) -> None:
    """Lay all evaluation runs below RESULTS side by side on one page."""
    from evaluation.pages import dashboard

    page = dashboard.write(results, out or results / "dashboard.html")
    click.echo(page)
    if show:
        click.launch(str(page))


def _comparison(compared: dict[str, Any]) -> "Comparison":
    if compared["out"] is None:
        raise click.UsageError("--out is needed, a folder for results, report and kept answers")
    prepare_prefect(compared["cache"])  # before prefect is imported, which reads these settings then
    from flows.evaluate import Comparison

    return Comparison(command=" ".join(["asid", *sys.argv[1:]]), **compared)


def _print(summary: dict[str, Any], how: "Comparison", as_json: bool) -> None:
    from flows import show

    click.echo(json.dumps(summary, indent=2) if as_json else show.evaluation_text(summary, how.out))


def _facts(facts: dict[str, Any]) -> str:
    from flows import show

    return show.facts_text(facts)

"""The command line: translates to flows and domain calls, nothing else. Heavy imports happen inside the commands.

stdout carries results, stderr progress and errors; exit 2 for misuse, 1 for a domain error told in one line.
"""

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import click

from flows.cli_calibrate import calibrate
from flows.cli_deploy import accept, deploy, serve, show_metrics
from flows.cli_evaluate import dashboard, evaluate
from flows.cli_find import find, verify
from flows.cli_prepare import prepare
from flows.cli_train import train
from flows.options import (
    PATH,
    OneLineErrors,
    catalogue_options,
    prepare_prefect,
    read_settings,
)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("asid"), prog_name="asid")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Automatic sample identification: which recordings does a track sample, and where."""


for command in (
    find, verify, calibrate, evaluate, dashboard, prepare, train, serve, deploy, accept, show_metrics
):  # fmt: skip
    main.add_command(command)


@main.command()
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--retry", is_flag=True, help="Take unchanged files again that failed or were removed.")
@click.option("--checkpoint", type=PATH, help="Another encoder: store all with it beside the one in use, then switch.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@catalogue_options
def ingest(paths: tuple[Path, ...], retry: bool, checkpoint: Path | None, as_json: bool, **given) -> None:
    """Store recordings as references: files, or folders searched through. Goes on where it stopped.

    Exit 1 where a file given by name cannot be used, or none at all. With --checkpoint what is stored already is
    stored anew with that encoder, and PATHS may be left away; the old model stays until `asid drop`.
    """
    if not (paths or checkpoint):
        raise click.UsageError("Missing argument 'PATHS...'.")
    settings = read_settings(**given)
    prepare_prefect(settings.data)
    from flows import show
    from flows.beside import ingest_beside
    from flows.discover import discover
    from flows.ingest import ingest_catalogue
    from store.catalogue import spelling

    discover(paths)  # once more in the flow, but a wrong path is told before a Prefect server has started
    with show.ingestion() as progress:
        if checkpoint is None:
            summary = ingest_catalogue(list(paths), settings, retry=retry, progress=progress)
        else:
            summary = ingest_beside(list(paths), settings, checkpoint, retry=retry, progress=progress)
    click.echo(json.dumps(show.summary_json(summary), indent=2) if as_json else show.summary_text(summary))
    failed = {spelling(outcome.path) for outcome in summary.having("failed")}
    if len(failed) == len(summary.outcomes) or failed.intersection(map(spelling, paths)):
        raise SystemExit(1)


@main.command()
@click.argument("tracks", nargs=-1, required=True)
@catalogue_options
def remove(tracks: tuple[str, ...], **given) -> None:
    """Take TRACKS (numbers, paths or titles) out of the catalogue."""
    settings = read_settings(**given)
    from flows import assembly

    with assembly.references(settings, assembly.encoder(settings)) as references:
        for track in [assembly.the_track(references, wanted) for wanted in tracks]:
            references.remove(track.number)
            click.echo(f"removed {track.number}  {track.path}")


@main.command()
@catalogue_options
def reindex(**given) -> None:
    """Fill Milvus anew from what Zarr keeps; no audio is decoded."""
    settings = read_settings(**given)
    from flows import assembly

    with assembly.references(settings, assembly.encoder(settings), verify=False, alone=True) as references:
        click.echo(f"{references.rebuild()} segments in Milvus")


@main.command()
@click.argument("model")
@catalogue_options
def drop(model: str, **given) -> None:
    """Delete what MODEL, an encoder's digest or the beginning of one, keeps beside the one in use."""
    settings = read_settings(**given)
    from flows import assembly
    from store import models

    click.echo(f"dropped {models.drop(assembly.place(settings), model)}")


@main.command()
@click.option("--systems", is_flag=True, help="List the named recipes instead.")
@click.option("--health", is_flag=True, help="Look at every part instead; exit 1 where one is not well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalogue_options
def info(systems: bool, health: bool, as_json: bool, **given) -> None:
    """Show versions, the encoder's digest, counts and sizes on disk."""
    if health:
        from flows.health import check

        checks = check(read_settings(**given))
        click.echo(json.dumps([asdict(c) for c in checks], indent=2) if as_json else "\n".join(map(str, checks)))
        raise SystemExit(not all(c.well for c in checks))
    from flows import show

    facts = show.systems() if systems else show.info(read_settings(**given))
    click.echo(json.dumps(facts, indent=2) if as_json else show.facts_text(facts))


@main.command()
@click.option("--tracks", type=click.IntRange(1), required=True, help="Recordings in the catalogue.")
@click.option("--minutes", type=float, default=3.5, show_default=True, help="Of one, on average.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalogue_options
def plan(tracks: int, minutes: float, as_json: bool, **given) -> None:
    """Say what a catalogue of that size needs: memory, disk, hours, machines, and what it costs in recall."""
    settings = read_settings(**given)
    from flows import assembly, show
    from store import capacity

    identity = assembly.identity(settings, assembly.encoder(settings))
    need = capacity.plan(identity, tracks=tracks, minutes=minutes, m=settings.index.m)
    click.echo(json.dumps(asdict(need), indent=2) if as_json else show.need_text(need))


@main.command("import-published")
@click.argument("model", type=PATH)
@click.argument("classifier", type=PATH, required=False)
@click.option("--out", type=PATH, required=True, help="Folder for encoder.safetensors and reranker.safetensors.")
@click.option(
    "--system",
    type=click.Choice(["neuralsampleid-published", "clews"]),
    default="neuralsampleid-published",
    show_default=True,
    help="Whose files they are; clews has MODEL.ckpt alone.",
)
@click.option(
    "--graph-blocks",
    type=click.Choice(["bypassed", "active"]),
    default="bypassed",
    show_default=True,
    help="As the released code runs the network, or with its stored graph blocks at work.",
)
def import_published(model: Path, classifier: Path | None, out: Path, system: str, graph_blocks: str) -> None:
    """Turn released files into checkpoints of ours: NeuralSampleID's MODEL.pth and CLF.pth, or CLEWS' MODEL.ckpt."""
    from flows import published

    if (classifier is None) != (system == "clews"):
        needed = "is not taken with --system clews" if classifier else "is missing"
        raise click.UsageError(f"CLASSIFIER {needed}")
    if system == "clews":
        click.echo(published.import_released_clews(model, out))
        return
    for path in published.import_released(model, classifier, out, graph_blocks=graph_blocks):
        click.echo(path)


@main.command()
@click.option("--out", type=PATH, default=Path("demo"), show_default=True, help="Folder for audio and catalogue.")
@click.option("--seed", type=click.IntRange(0, 799), default=0, show_default=True, help="Another seed, other music.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Render a small catalogue and queries that sample it, ingest it, find what was planted."""
    prepare_prefect(out)
    from flows import show
    from flows.demo import DemoSize, run_demo

    with show.ingestion() as progress:
        report = run_demo(out, size=DemoSize(seed=seed), progress=progress)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report.to_text())

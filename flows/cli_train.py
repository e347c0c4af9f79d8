"""The commands that train: `asid train ...`."""

from pathlib import Path
from typing import Any

import click

from flows.cli_sounds import train_sounds
from flows.cli_versions import train_versions
from flows.options import PATH, changed, further_training_options, prepare_prefect, training_options, tuned


@click.group()
def train() -> None:
    """Train an encoder, its contrast network, a verifier, or a reranker."""


for _command in (train_versions, train_sounds):
    train.add_command(_command)


@train.command("encoder")
@click.argument("cache", type=PATH)
@click.option("--system", default="asid", show_default=True, help="Recipe, one of `asid info --systems`.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change a value of the schedule, or, as pairing.KEY=VALUE, of how pairs are made.")  # fmt: skip
@click.option("--from", "start", type=PATH, help="Begin with the weights of this checkpoint.")
@training_options
def train_encoder(
    cache: Path, system: str, changes: tuple[str, ...], start: Path | None, out: Path, **run: Any
) -> None:
    """Train an encoder on the stem cache CACHE; one line per epoch, the best one kept."""
    prepare_prefect(out)
    from encoder import systems
    from flows import show
    from flows.train import train_encoder

    recipe = tuned(systems.named(system), changes)
    click.echo(train_encoder(cache, recipe, out, start=start, progress=show.epoch, **run))


@train.command("contrast")
@click.argument("cache", type=PATH)
@further_training_options
def train_contrast(cache: Path, encoder: Path | None, changes: tuple[str, ...], out: Path, **run: Any) -> None:
    """Train what correlation looks at: the contrast network of an encoder, which stays as it is otherwise."""
    prepare_prefect(out)
    from encoder.training.contrast import SCHEDULE
    from flows import show
    from flows.train import train_contrast

    schedule = changed(SCHEDULE, changes)
    click.echo(train_contrast(cache, encoder, out, schedule=schedule, progress=show.epoch, **run))


@train.command("verifier")
@click.argument("cache", type=PATH)
@click.option("--from", "start", type=PATH, help="Begin with the weights of this verifier, of other features.")
@further_training_options
def train_verifier(cache: Path, encoder: Path | None, changes: tuple[str, ...], out: Path, **run: Any) -> None:
    """Train what tells samples from what is merely like them, for verifier in the settings; then calibrate."""
    prepare_prefect(out)
    from flows import show
    from flows.train import train_verifier
    from reranker.verify_training import SCHEDULE

    schedule = changed(SCHEDULE, changes)
    click.echo(train_verifier(cache, encoder, out, schedule=schedule, progress=show.epoch, **run))


@train.command("reranker")
@click.argument("cache", type=PATH)
@further_training_options
def train_reranker(cache: Path, encoder: Path | None, changes: tuple[str, ...], out: Path, **run: Any) -> None:
    """Train a reranker on the node matrices of a frozen encoder."""
    prepare_prefect(out)
    from flows import show
    from flows.train import train_reranker
    from reranker.train import RerankerSchedule

    schedule = changed(RerankerSchedule(), changes)
    click.echo(train_reranker(cache, encoder, out, schedule=schedule, progress=show.epoch, **run))


@train.command("compact")
@click.argument("cache", type=PATH)
@click.option("--encoder", type=PATH, help="Encoder checkpoint.  [default: the shipped one]")
@click.option("--reranker", type=PATH, help="Reranker to measure the cost with.  [default: the shipped one]")
@click.option("--out", type=PATH, required=True, help="File to write, for node_form in the settings.")
def train_compact(cache: Path, encoder: Path | None, reranker: Path | None, out: Path) -> None:
    """Fit the compact form of node matrices (2 KiB a segment); prints what it costs on validation pairs."""
    prepare_prefect(out.parent)
    from flows import show
    from flows.train import train_compact

    for cost in train_compact(cache, encoder, reranker, out):
        show.epoch(cost)
    click.echo(out)

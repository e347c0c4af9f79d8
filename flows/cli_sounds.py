"""The commands of similar sounds: `asid prepare notes`, `asid train sounds`, `asid evaluate sounds`."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from flows.options import PATH, changed, prepare_prefect, training_options


def _recipe(system: str, feature: str | None, network: str | None, changes: tuple[str, ...]) -> Any:
    from dataclasses import replace

    from encoder import systems
    from flows.sounds import with_features

    recipe = with_features(systems.named(system), feature, {"variant": network})
    return replace(recipe, schedule=changed(recipe.schedule, changes))


def _sound_options(command: Any) -> Any:
    """Of both commands that train."""
    for option in (
        click.option("--split", help="Only sounds of this split of the folder's table."),
        click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value of the schedule."),
        click.option("--features", "feature", type=click.Choice(["mfcc", "scattering", "openl3"]),
                     help="What a sound is described by.  [default: the recipe's]"),
        click.option("--system", default="an-gnn", show_default=True, help="Recipe, one of `asid info --systems`."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("notes")
@click.argument("directory", type=PATH)
@click.option("--soundfont", type=PATH, help="Another one adds to what is there.  [default: Debian's General MIDI]")
@click.option(
    "--program", "programs", type=click.IntRange(0, 119), multiple=True, help="Only these (repeatable), and no drums."
)
def prepare_notes(directory: Path, soundfont: Path | None, programs: tuple[int, ...]) -> None:
    """Render notes of General MIDI instruments into DIRECTORY, labelled by how their tone is made."""
    from evaluation.sounds import notes

    given = {"programs": programs, "kits": ()} if programs else {}
    settings = notes.NoteSettings(soundfont=soundfont, **given)
    made, count = notes.write(directory, settings), len(settings.voices)
    with click.progressbar(made, count, label="render", file=sys.stderr) as bar:
        for _ in bar:
            pass
    click.echo(directory)


@click.command("sounds")
@click.argument("directory", type=PATH)
@_sound_options
@click.option("--network", help="weighted, published, knn, mlp or linear.  [default: the recipe's]")
@training_options
def train_sounds(
    directory: Path, system: str, feature: str | None, network: str | None, changes: tuple[str, ...],
    split: str | None, out: Path, device: str, resume: bool,
) -> None:  # fmt: skip
    """Train a network of similar sounds on the labelled sounds in DIRECTORY; one line per epoch."""
    prepare_prefect(out)
    from flows import show
    from flows.sounds import train_sounds

    recipe = _recipe(system, feature, network, changes)
    click.echo(train_sounds(directory, recipe, out, split=split, device=device, resume=resume, progress=show.epoch))


@click.command("sounds")
@click.argument("directory", type=PATH)
@_sound_options
@click.option(
    "--encoder",
    "encoders",
    type=PATH,
    multiple=True,
    help="Measure this checkpoint, which must not have learned from these sounds (repeatable); no folds.",
)
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(["honest", "published"]),
    multiple=True,
    default=("honest", "published"),
    show_default=True,
    help="docs/sounds.md (repeatable).",
)
@click.option(
    "--network", "networks", multiple=True, help="weighted, published, knn, mlp, linear (repeatable).  [default: all]"
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Parts; each is asked about once.")
@click.option(
    "--bootstrap-seed",
    "seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of the resampling behind the intervals.",
)
@click.option("--json", "as_json", is_flag=True, help="Print result.json.")
@click.option("--out", type=PATH, required=True, help="Folder for features, states of training and result.json.")
def evaluate_sounds(
    directory: Path, system: str, feature: str | None, changes: tuple[str, ...], split: str | None,
    encoders: tuple[Path, ...], protocols: tuple[str, ...], networks: tuple[str, ...], folds: int, seed: int,
    as_json: bool, out: Path,
) -> None:  # fmt: skip
    """How often the nearest sounds have the label of the one asked about: P@5 and ii-P@5, by network.

    DIRECTORY holds sounds.csv (`asid prepare notes`), one-shots with manifest.csv, folders label/technique/sound.wav,
    or Studio-on-Line with the public judgement tables.
    """
    prepare_prefect(out)
    from evaluation.sounds import study
    from flows import sounds

    asked = dict(split=split, seed=seed, command=" ".join(["asid", *sys.argv[1:]]))
    if encoders:
        result = sounds.evaluate_sound_encoders(directory, encoders, out, **asked)
    else:
        recipe = _recipe(system, feature, None, changes)
        chosen = networks or study.VARIANTS
        how = dict(protocols=protocols, networks=chosen, folds=folds, progress=lambda line: click.echo(line, err=True))
        result = sounds.evaluate_sounds(directory, recipe, out, **how, **asked)
    click.echo(json.dumps(result, indent=2) if as_json else _text(result))


def _text(result: dict[str, Any]) -> str:
    from evaluation.sounds import study

    sounds = result["sounds"]
    head = f"{sounds['about']}: {sounds['count']} sounds, {len(sounds['left_out'])} left out, {result['features']}"
    tables = (study.text(rows, protocol=protocol) for protocol, rows in result["protocols"].items())
    return "\n\n".join([head, *tables])

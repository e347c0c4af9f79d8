"""The commands of version identification: `asid prepare versions`, `asid train versions`, `asid evaluate versions`."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from flows.options import PATH, changed, prepare_prefect, training_options


@click.command("versions")
@click.argument("directory", type=PATH)
@click.option("--midi", "scores", type=PATH, help="Folder of MIDI files with manifest.csv; without, works of our own.")
@click.option("--train", type=click.IntRange(0), help="Works to train on.  [default: 60]")
@click.option("--validation", type=click.IntRange(0), help="Works to choose by.  [default: 12]")
@click.option("--test", type=click.IntRange(0), help="Works to measure with.  [default: 40]")
@click.option("--versions", type=click.IntRange(2), help="Of each work.  [default: 4]")
@click.option("--seconds", type=float, help="Length of a work.  [default: 60]")
@click.option("--seed", type=click.IntRange(0), help="Another seed, other works.  [default: 0]")
def prepare_versions(directory: Path, scores: Path | None, **given: Any) -> None:
    """Render works with other bands, keys, tempi and forms into DIRECTORY, a version set; goes on where it stopped."""
    from evaluation.versions import synthetic

    settings = synthetic.SyntheticSettings(**{name: value for name, value in given.items() if value is not None})
    for version in synthetic.write(directory, settings, scores=scores, left_out=_shown):
        click.echo(version.track, err=True)
    click.echo(directory)


@click.command("versions")
@click.argument("source", metavar="SET", type=PATH)
@click.option("--system", default="clews-small", show_default=True, help="Recipe, one of `asid info --systems`.")
@click.option("--audio", type=PATH, help="Folder of the recordings.  [default: audio in SET, or SET]")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value of the schedule.")
@training_options
def train_versions(
    source: Path, system: str, audio: Path | None, changes: tuple[str, ...], out: Path, device: str, resume: bool
) -> None:
    """Train an encoder on the version set SET; one line per epoch, the best one kept."""
    prepare_prefect(out)
    from dataclasses import replace

    from encoder import systems
    from flows import show
    from flows.versions import train_versions

    recipe = systems.named(system)
    recipe = replace(recipe, schedule=changed(recipe.schedule, changes))
    path = train_versions(source, recipe, out, audio=audio, device=device, resume=resume, progress=show.epoch)
    click.echo(path)


@click.command("versions")
@click.argument("source", metavar="SET", type=PATH)
@click.option("--encoder", "encoders", type=PATH, multiple=True, help="Checkpoint (may be repeated).")
@click.option("--untrained", multiple=True, help="Also this recipe with random weights (may be repeated).")
@click.option("--audio", type=PATH, help="Folder of the recordings.  [default: audio in SET, or SET]")
@click.option("--split", default="test", show_default=True, help="train, validation or test.")
@click.option("--reduction", help="Of track-level distances.  [default: bpwr-10]")
@click.option("--length", "lengths", type=float, multiple=True, help="Seconds of segment-level queries (repeatable).")
@click.option("--no-segments", is_flag=True, help="Track level only.")
@click.option("--longest", type=float, help="Seconds taken of a recording.  [default: 600]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json.")
@click.option("--out", type=PATH, required=True, help="Folder for result.json.")
def evaluate_versions(
    source: Path, encoders: tuple[Path, ...], untrained: tuple[str, ...], audio: Path | None, split: str,
    lengths: tuple[float, ...], no_segments: bool, device: str, as_json: bool, out: Path, **protocol: Any,
) -> None:  # fmt: skip
    """Let every recording of the version set SET look for the other versions of its work: MAP, MR1, NAR.

    SET is a folder with versions.csv, with the field's metadata (*.pt), or with SHS100K's lists.
    """
    if not (encoders or untrained):
        raise click.UsageError("--encoder or --untrained is needed, what to measure")
    prepare_prefect(out)
    from encoder import systems
    from evaluation.versions.benchmark import LENGTHS, VersionProtocol
    from flows.versions import evaluate_versions

    given = {name: value for name, value in protocol.items() if value is not None}
    given["lengths"] = () if no_segments else lengths or LENGTHS
    result = evaluate_versions(
        source, out, VersionProtocol(**given), encoders=encoders, untrained=[systems.named(n) for n in untrained],
        audio=audio, split=split, device=device, command=" ".join(["asid", *sys.argv[1:]]), progress=_shown,
    )  # fmt: skip
    click.echo(json.dumps(result, indent=2) if as_json else _text(result))


def _shown(what: str) -> None:
    click.echo(what, err=True)


def _text(result: dict[str, Any]) -> str:
    lines = [f"{result['queries']} recordings of {result['works']} works, split {result['split']}"]
    for name, levels in result["measures"].items():
        lines += ["", name, *_rows(levels)]
    first = next(iter(result["measures"]))
    for name, levels in result[f"{first} less"].items():
        lines += ["", f"{first} less {name}", *_rows(levels)]
    return "\n".join(lines)


def _rows(levels: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    names = {"average_precision": "MAP", "first_rank": "MR1", "normalised_rank": "NAR %"}
    rows = []
    for level, values in levels.items():
        cells = (f"{shown} {values[key]['value']:.3f} {_range(values[key])}" for key, shown in names.items())
        rows.append(f"  {level:6}  " + "   ".join(cells))
    return rows


def _range(value: dict[str, float]) -> str:
    return f"[{value['low']:.3f}, {value['high']:.3f}]"

"""The commands that make training material: `asid prepare ...`."""

import sys
from pathlib import Path

import click

from flows.cli_sounds import prepare_notes
from flows.cli_versions import prepare_versions
from flows.options import PATH, prepare_prefect


@click.group()
def prepare() -> None:
    """Make training material."""


for _command in (prepare_versions, prepare_notes):
    prepare.add_command(_command)


@prepare.command()
@click.argument("directory", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the stem cache.")
@click.option("--manifest", type=PATH, help="CSV with title, artist, licence, group, stem, split of each file.")
@click.option("--split", "splits", multiple=True, help="Only these splits of the manifest (may be repeated).")
@click.option("--separate", help="Separate recordings with this demucs model (a name, or a folder that holds one).")
@click.option(
    "--min-beats", type=click.IntRange(0), help="Leave out tracks with fewer beats; 0 keeps all.  [default: 32]"
)
@click.option("--beat-checkpoint", type=PATH, help="beat_this checkpoint; without one, librosa's tracker is used.")
@click.option("--soundfont", type=PATH, help="For MIDI files.  [default: Debian's General MIDI soundfont]")
@click.option("--arrangement", type=click.IntRange(1), help="Only MIDI files, each with another band: a number each.")
@click.option("--workers", type=click.IntRange(1), help="Sources decoded or rendered at the same time.  [default: 2]")
@click.option("--device", default="cpu", show_default=True, help="For demucs and beat_this.")
def stems(directory: Path, out: Path, manifest: Path | None, splits: tuple[str, ...], **given) -> None:
    """Decode, render (MIDI) or separate (demucs) the music in DIRECTORY into a stem cache."""
    prepare_prefect(out)
    from encoder.training.stems import StemSettings
    from flows import show
    from flows.prepare import prepare_stems

    given["checkpoint_path"] = given.pop("beat_checkpoint")
    settings = StemSettings(**{key: value for key, value in given.items() if value is not None})
    with show.preparation() as progress:
        records = prepare_stems(
            directory, out, settings=settings, manifest=manifest, splits=set(splits) or None, progress=progress
        )
    click.echo(show.preparation_text(records))
    if all(record.status == "failed" for record in records):
        raise SystemExit(1)


@prepare.command()
@click.argument("directory", type=PATH)
@click.option("--count", type=click.IntRange(1), default=160, show_default=True, help="Pieces, about 50 s each.")
def multitracks(directory: Path, count: int) -> None:
    """Render pieces of our own into DIRECTORY, a folder of stems each: material for `asid prepare stems`."""
    from evaluation.pieces import multitracks

    with click.progressbar(multitracks.write(directory, count=count), count, label="render", file=sys.stderr) as bar:
        for _ in bar:
            pass
    click.echo(directory)

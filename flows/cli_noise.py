"""`asid evaluate noise`: exact identification under noise."""

import json
from pathlib import Path

import click

from flows.options import PATH, prepare_prefect, read_settings

_CACHE = Path("~/.cache/asid")


def _checkpoints(texts: tuple[str, ...]) -> dict[str, Path]:
    """NAME=checkpoint of each, or the shipped weights of a name; ValueError, FileNotFoundError."""
    from importlib import resources

    chosen = {}
    for text in texts:
        name, equals, given = text.partition("=")
        path = (
            Path(given).expanduser()
            if equals
            else Path(str(resources.files("encoder") / "weights")) / f"{name}.safetensors"
        )
        if not path.is_file():
            raise FileNotFoundError(
                f"{name}: {path} is no file; train it with `asid train encoder CACHE --system {name}-small --out RUN` "
                f"and give {name}=RUN/encoder.safetensors"
            )
        if name in chosen:
            raise ValueError(f"system {name!r} is given twice, expected a name of its own for each")
        chosen[name] = path
    return chosen


@click.command("noise")
@click.argument("music", type=PATH)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only tracks that a manifest describes so.")
@click.option("--system", "systems", multiple=True, default=("grafprint",), show_default=True,
              help="A shipped system, or NAME=encoder.safetensors (may be repeated).")  # fmt: skip
@click.option("--untrained", is_flag=True, help="Ask every system's untrained network as well.")
@click.option("--landmark/--no-landmark", default=True, help="Ask audfprint as well, where it is installed.")
@click.option("--count", type=click.IntRange(1), help="Excerpts.  [default: 50]")
@click.option("--length", "lengths", type=float, multiple=True, help="Seconds of a query.  [default: 1 2 3 5 10]")
@click.option("--snr", "snrs", type=float, multiple=True, help="dB over the background.  [default: -6 0 5 10 15 20]")
@click.option("--overlap", "overlaps", type=float, multiple=True, help="Of stored segments.  [default: 0.5 0.9]")
@click.option("--set-aside", type=click.IntRange(1), help="Recordings that serve as babble only.  [default: 8]")
@click.option("--noises", help="Folder of background noise.  [default: rendered]")
@click.option("--responses", help="Folder of impulse responses.  [default: rendered]")
@click.option("--seed", type=click.IntRange(0), help="Another seed, other excerpts.  [default: 1]")
@click.option("--out", type=PATH, required=True, help="Folder for answers.parquet, result.json and table.md.")
@click.option("--cache", type=PATH, default=_CACHE, show_default=True, help="What systems store.")
@click.option("--device", help="cpu or cuda.  [default: cpu]")
@click.option("--milvus-uri", help="A Milvus server; its index is that of the settings, IVF_PQ.  [default: Lite, FLAT]")
@click.option("--settings", "settings_file", type=PATH, help="TOML file with these and more settings.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json.")
def evaluate_noise(
    music: Path, where: tuple[str, ...], systems: tuple[str, ...], untrained: bool, landmark: bool, out: Path,
    cache: Path, device: str | None, milvus_uri: str | None, settings_file: Path | None, as_json: bool, **asked,
) -> None:  # fmt: skip
    """Find noisy excerpts of MUSIC (a folder, a list of files, or a manifest) again: which recording, and where."""
    settings = read_settings(settings_file=settings_file, device=device, milvus_uri=milvus_uri)
    chosen, cache = _checkpoints(systems), cache.expanduser()
    prepare_prefect(cache)
    from evaluation.noise.queries import NoiseSettings
    from evaluation.own.listing import Music
    from flows.noise import Comparison
    from flows.noise import evaluate_noise as measured

    result = measured(
        Music(path=music, where=where),
        NoiseSettings(**{name: value for name, value in asked.items() if value not in (None, ())}),
        Comparison(
            systems=chosen, out=out, cache=cache, untrained=untrained, landmark=landmark, settings=settings,
        ),
        progress=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    table = result.pop("table")
    click.echo(json.dumps(result, indent=2) if as_json else table)

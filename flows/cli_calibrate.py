"""The calibration command: `asid calibrate`."""

import json
import sys
from pathlib import Path

import click

from flows.options import PATH, catalogue_options, prepare_prefect, read_settings


@click.command()
@click.argument("music", type=PATH)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only tracks that a manifest describes so.")
@click.option("--further", type=PATH, help="More music, for distractors only.")
@click.option("--further-where", multiple=True, metavar="COLUMN=VALUE", help="The same for --further.")
@click.option("--references", type=click.IntRange(1), default=40, show_default=True, help="Tracks that are sampled.")
@click.option("--queries", type=click.IntRange(1), default=280, show_default=True, help="Queries with a sample.")
@click.option("--sample-free", type=click.IntRange(0), default=20, show_default=True, help="Queries without one.")
@click.option("--distractors", type=click.IntRange(0), multiple=True,
              help="Tracks sampled by none, of all seeds or each.  [default: all that are left]")  # fmt: skip
@click.option("--interference", type=click.IntRange(1), default=20, show_default=True,
              help="Tracks laid over the samples.")  # fmt: skip
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, default=(0,), show_default=True,
              help="Another seed, other queries; may be repeated, for more of them.")  # fmt: skip
@click.option("--length", "lengths", type=click.FloatRange(1), multiple=True, default=(5, 10), show_default=True,
              help="Seconds of excerpts that are asked too (may be repeated).")  # fmt: skip
@click.option("--long", type=click.FloatRange(1), default=180.0, show_default=True,
              help="Seconds of a query whose windows are calibrated too.")  # fmt: skip
@click.option("--sampled-share", "sampled", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.75,
              show_default=True,
              help="Of the queries to come, how many sample something in the catalogue.")  # fmt: skip
@click.option("--cache", type=PATH, default=Path("~/.cache/asid"), show_default=True,
              help="Rendered audio, stored tracks, answers.")  # fmt: skip
@click.option("--out", type=PATH, help="The calibration file.  [default: calibration.json in the data directory]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalogue_options
def calibrate(
    music: Path, where: tuple[str, ...], further: Path | None, further_where: tuple[str, ...], references: int,
    queries: int, sample_free: int, distractors: tuple[int, ...], interference: int, seeds: tuple[int, ...],
    lengths: tuple[float, ...], long: float, sampled: float, cache: Path, out: Path | None, as_json: bool, **given,
) -> None:  # fmt: skip
    """Fit confidences and false-alarm rates on MUSIC (a folder, a list of files, or a manifest).

    Queries are made of it as `asid evaluate own` makes them. A rate of 1 % takes 300 queries. Goes on where it stopped.
    """
    settings = read_settings(**given)
    cache = cache.expanduser()
    prepare_prefect(cache)
    from evaluation.own.listing import Music
    from evaluation.own.own import OwnSettings, OwnSources
    from flows import show
    from flows.calibrate import Calibrating, calibrate_own, to_json, to_text

    if len(distractors) not in (0, 1, len(seeds)):
        raise click.UsageError(f"--distractors is given {len(distractors)} times, expected once or {len(seeds)} times")
    each = distractors if len(distractors) == len(seeds) else (distractors or (None,)) * len(seeds)
    sizes = {"references": references, "queries": queries, "sample_free": sample_free, "interference": interference}
    how = Calibrating(
        settings=settings,
        benchmarks=tuple(OwnSettings(**sizes, seed=s, distractors=n) for s, n in zip(seeds, each, strict=True)),
        out=out or settings.calibration or settings.data / "calibration.json",
        cache=cache,
        lengths=lengths,
        long=long,
        sampled=sampled,
        command=" ".join(["asid", *sys.argv[1:]]),
    )
    sources = OwnSources(
        music=Music(path=music, where=where), further=Music(path=further, where=further_where) if further else None
    )
    with show.evaluation() as progress:
        made = calibrate_own(sources, how, progress=progress)
    click.echo(json.dumps(to_json(made, how.out), indent=2) if as_json else to_text(made, how.out))

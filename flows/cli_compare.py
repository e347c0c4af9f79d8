"""`asid evaluate compare`: all systems in one table."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from flows.options import PATH, prepare_prefect

_CACHE = Path("~/.cache/asid")


@click.command("compare")
@click.argument("music", type=PATH)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only tracks that a manifest describes so.")
@click.option("--task", "tasks", multiple=True, help="samples, noise, versions, sounds (repeatable).  [default: all]")
@click.option("--references", type=click.IntRange(1), help="Tracks that are sampled.  [default: 60]")
@click.option("--queries", type=click.IntRange(1), help="Queries with a sample.  [default: 60]")
@click.option("--sample-free", type=click.IntRange(0), help="Queries without one.  [default: 20]")
@click.option("--distractors", type=click.IntRange(0), help="Tracks sampled by none.  [default: all that are left]")
@click.option("--interference", type=click.IntRange(1), help="Tracks laid over the samples.  [default: 20]")
@click.option("--excerpts", type=click.IntRange(1), help="Of the task noise.  [default: 50]")
@click.option("--seed", type=click.IntRange(0), help="Of the benchmark of samples.  [default: 0]")
@click.option("--bootstrap-seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of the resampling behind the intervals.")  # fmt: skip
@click.option("--cache", type=PATH, default=_CACHE, show_default=True, help="Rendered audio, stored tracks.")
@click.option("--out", type=PATH, required=True, help="Folder of the run: a folder a task, and compare.json.")
@click.option("--json", "as_json", is_flag=True, help="Print compare.json.")
def evaluate_compare(
    music: Path, where: tuple[str, ...], tasks: tuple[str, ...], bootstrap_seed: int, cache: Path, out: Path,
    as_json: bool, excerpts: int | None, **sizes: int | None,
) -> None:  # fmt: skip
    """Every system on its own task, and all that can on sample identification, with intervals and cost.

    MUSIC (a folder, a list of files, or a manifest) is that of samples and noise; versions and notes are rendered.
    """
    cache = cache.expanduser()
    prepare_prefect(cache)
    from dataclasses import replace

    from evaluation.own.listing import Music
    from evaluation.own.own import OwnSettings
    from flows.compare import TASKS, Compared, compare

    samples = OwnSettings(**{name: value for name, value in sizes.items() if value is not None})
    noise = Compared.noise if excerpts is None else replace(Compared.noise, count=excerpts)
    how = Compared(
        music=Music(path=music, where=where), out=out, cache=cache, tasks=tasks or TASKS, samples=samples,
        noise=noise, seed=bootstrap_seed, command=" ".join(["asid", *sys.argv[1:]]),
    )  # fmt: skip
    result = compare(how, progress=lambda line: click.echo(line, err=True))
    click.echo(json.dumps(result, indent=2) if as_json else text(result))


def text(result: dict[str, Any]) -> str:
    """The table of figures, that of costs, and who has no weights."""
    lines = [f"{'task':9} {'system':36} {'measure':28} value  95 % interval    queries"]
    for row in result["rows"]:
        found = f"{row['value']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]  {row['queries']:6}"
        lines.append(f"{row['task']:9} {row['system']:36} {row['measure']:28} {found}")
    lines += ["", f"{'system':36} parameters  CPU ms a segment  CPU ms a minute of audio"]
    for name, one in result["costs"].items():
        segment, minute = one["CPU ms a segment"], one["CPU ms a minute"]
        lines.append(f"{name:36} {one['parameters']:10,}  {segment:16.1f}  {minute:24.0f}")
    return "\n".join([*lines, "", *result["without_weights"].values()])

"""Options that commands share, and how a domain error becomes one line."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # imported late, so that --help stays quick
    from flows.settings import Settings

PATH = click.Path(path_type=Path)
_CACHE = Path("~/.cache/asid")
_SYSTEMS = ("asid", "neuralsampleid-published")
# What a wrong file, address, device or setting surfaces as; RuntimeError is PyTorch's, libsndfile's and Prefect's.
_TOLD = (ValueError, LookupError, OSError, ArithmeticError, RuntimeError, ImportError)


def catalogue_options(command: Callable) -> Callable:
    """--data, --settings, --milvus-uri, --encoder, --device: which catalogue, seen by which encoder."""
    for option in (
        click.option("--device", help="cpu or cuda.  [default: cpu]"),
        click.option("--encoder", type=PATH, help="Encoder checkpoint.  [default: the shipped one]"),
        click.option("--system", help="Another shipped system, with a catalogue of its own.  [default: asid]"),
        click.option("--milvus-uri", help="A Milvus server.  [default: Milvus Lite in the data directory]"),
        click.option("--settings", "settings_file", type=PATH, help="TOML file with these and more settings."),
        click.option("--data", type=PATH, help="Data directory.  [default: ~/.local/share/asid]"),
    ):
        command = option(command)
    return command


def training_options(command: Callable) -> Callable:
    """--out, --device, --resume: of every training command."""
    for option in (
        click.option("--resume/--restart", default=True, help="Go on from what is in --out, or begin anew."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--out", type=PATH, required=True, help="Folder of the run: state and checkpoint."),
    ):
        command = option(command)
    return command


def further_training_options(command: Callable) -> Callable:
    """Of every training command that starts from an encoder and has a schedule of its own: the same, and two more."""
    changes = click.option(
        "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value of the schedule."
    )
    encoder = click.option("--encoder", type=PATH, help="Encoder checkpoint.  [default: the shipped one]")
    return encoder(changes(training_options(command)))


def comparison_options(command: Callable) -> Callable:
    """Of every evaluation that compares systems; all but --json arrive as the keyword `compared`."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="Print summary.json."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--cache", type=PATH, default=_CACHE, show_default=True, help="Rendered audio, stored tracks."),
        click.option("--bootstrap-seed", "bootstrap", type=click.IntRange(0), default=1, show_default=True,
                     help="Of the resampling behind the intervals."),
        click.option("--length", "lengths", type=float, multiple=True, default=(5, 7, 10, 15, 20), show_default=True,
                     help="Seconds of the excerpts for hit rates (may be repeated)."),
        click.option("--no-excerpts", is_flag=True, help="Full queries only."),
        click.option("--protocol", default="strict", show_default=True,
                     help="strict, or published (as the released code)."),
        click.option("--baseline", help="The system that the others are compared with.  [default: the first]"),
        click.option("--system", "systems", multiple=True, default=_SYSTEMS, show_default=True,
                     help="A name, NAME=encoder.safetensors[+reranker.safetensors], SYSTEM=untrained, or mine.py; "
                     "docs/peers.md."),
        click.option("--out", type=PATH, help="Folder of the run: results, report, kept answers."),
    )  # fmt: skip

    @wraps(command)
    def gathered(*, out, systems, baseline, protocol, no_excerpts, lengths, bootstrap, cache, device, **others):
        compared = dict(out=out, systems=systems, baseline=baseline, protocol=protocol, device=device)
        compared |= dict(lengths=() if no_excerpts else lengths, seed=bootstrap, cache=cache.expanduser())
        return command(compared=compared, **others)

    for option in options:
        gathered = option(gathered)
    return gathered


def read_settings(*, settings_file: Path | None, **given: Any) -> "Settings":
    """Settings of a command: from its file, the environment and its options."""
    from flows import settings

    return settings.load(settings_file, **given)


def changed(schedule: Any, changes: Sequence[str]) -> Any:
    """A schedule with some values changed by KEY=VALUE; ValueError for an unknown key or a value of another type."""
    kinds = {f.name: type(getattr(schedule, f.name)) for f in fields(schedule)}
    values = {}
    for change in changes:
        key, _, text = change.partition("=")
        if key not in kinds:
            raise ValueError(f"--set {change}: unknown key, expected one of {', '.join(kinds)}")
        try:
            values[key] = tuple(map(float, text.split(","))) if kinds[key] is tuple else kinds[key](text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"--set {change}: expected {key} as {kinds[key].__name__}") from error
    return replace(schedule, **values)


def tuned(system: Any, changes: Sequence[str]) -> Any:
    """A system with values of its schedule, or as pairing.KEY=VALUE of its pairing, changed; ValueError as above."""
    of_pairs = [change.removeprefix("pairing.") for change in changes if change.startswith("pairing.")]
    others = [change for change in changes if not change.startswith("pairing.")]
    return replace(system, schedule=changed(system.schedule, others), pairing=changed(system.pairing, of_pairs))


def prepare_prefect(home: Path | None = None) -> None:
    """Quiet, offline defaults for flows run from the command line; whatever the user has set stays."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",  # a failed flow would log the traceback of what is told in one line
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    if "PREFECT_API_URL" not in os.environ:
        defaults["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    if home is not None:
        folder = home.absolute() / "prefect"
        folder.mkdir(parents=True, exist_ok=True)  # prefect's server fails to start in a home that is not there
        defaults["PREFECT_HOME"] = str(folder)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # A logger of Prefect outside of its own level, which warns of a slow machine.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)


class OneLineErrors(click.Group):
    """Domain errors end a command with one line and exit 1; --debug lets them rise."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own business, though a RuntimeError or an OSError
        except _TOLD as error:
            if context.params.get("debug"):
                raise
            lines = (line.strip() for line in str(error).splitlines())
            click.echo(f"asid: {next(filter(None, lines), type(error).__name__)}", err=True)
            sys.exit(1)

"""Options that commands share, and how a domain error becomes one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

EXISTING = click.Path(path_type=Path)


def catalogue_options(command: Callable) -> Callable:
    """--data, --settings, --milvus-uri, --encoder, --device: which catalogue, seen by which encoder."""
    for option in (
        click.option("--device", help="cpu or cuda.  [default: cpu]"),
        click.option("--encoder", type=EXISTING, help="Encoder checkpoint.  [default: the shipped one]"),
        click.option("--milvus-uri", help="A Milvus server.  [default: Milvus Lite in the data directory]"),
        click.option("--settings", "settings_file", type=EXISTING, help="TOML file with these and more settings."),
        click.option("--data", type=EXISTING, help="Data directory.  [default: ~/.local/share/asid]"),
    ):
        command = option(command)
    return command


def training_options(command: Callable) -> Callable:
    """--out, --device, --resume: of every training command."""
    for option in (
        click.option("--resume/--restart", default=True, help="Go on from what is in --out, or begin anew."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--out", type=EXISTING, required=True, help="Folder of the run: state and checkpoint."),
    ):
        command = option(command)
    return command


def read_settings(*, settings_file: Path | None, **given):
    """Settings of a command; imports late, so that --help stays quick."""
    from flows import settings

    return settings.load(settings_file, **given)


def prepare_prefect(home: Path | None = None) -> None:
    """Quiet, offline defaults for flows run from the command line; whatever the user has set stays."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
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


class OneLineErrors(click.Group):
    """Domain errors end a command with one line and exit 1; --debug lets them rise."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except (ValueError, LookupError, OSError, ArithmeticError) as error:
            if context.params.get("debug"):
                raise
            click.echo(f"asid: {' '.join(str(error).split())}", err=True)
            sys.exit(1)

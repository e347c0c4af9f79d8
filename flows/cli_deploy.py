"""The commands of operators: `asid serve`, `asid deploy`, `asid accept`, `asid metrics`."""

import os
import time
from pathlib import Path
from typing import Any

import click

from flows.options import PATH, read_settings


def place_options(command: Any) -> Any:
    """--data, --settings, --milvus-uri; flow runs read everything else from the settings file."""
    for option in (
        click.option("--milvus-uri", help="A Milvus server.  [default: Milvus Lite in the data directory]"),
        click.option("--settings", "settings_file", type=PATH, help="TOML file with these and more settings."),
        click.option("--data", type=PATH, help="Data directory.  [default: ~/.local/share/asid]"),
    ):
        command = option(command)
    return command


def folder_options(command: Any) -> Any:
    """--watch, --inbox, --music, --file: which deployments, over which folders."""
    for option in (
        click.option("--file", type=PATH, help="Other deployments.  [default: deploy/prefect.yaml]"),
        click.option("--music", type=PATH, help="Music of the nightly evaluation; without, there is none."),
        click.option("--inbox", type=PATH, help="Folder of queries.  [default: inbox/ in the data directory]"),
        click.option(
            "--watch", help="Folder of references, or s3://BUCKET/PREFIX.  [default: watch/ in the data directory]"
        ),
    ):
        command = option(command)
    return command


@click.command()
@folder_options
def deploy(file: Path | None, **folders: Path | str | None) -> None:
    """Register the deployments with the Prefect server that PREFECT_API_URL names."""
    if "PREFECT_API_URL" not in os.environ:
        raise ValueError("PREFECT_API_URL is not set; give the server's address, or use `asid serve` on one machine")
    from flows import deployments

    described = deployments.fitted(deployments.read(file or deployments.FILE), **folders)
    for name in deployments.register(described):
        click.echo(name)


@click.command()
@folder_options
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True, help="Of Prefect's server.")
@click.option("--milvus-port", type=click.IntRange(1, 65535), default=19530, show_default=True, help="Of Milvus Lite.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), default=9464, show_default=True, help="Of /metrics.")
@place_options
def serve(
    file: Path | None, port: int, milvus_port: int, metrics_port: int, watch: str | None, inbox: Path | None,
    music: Path | None, **given,
) -> None:  # fmt: skip
    """Run everything on this machine: schedules, queries, the Prefect UI, Milvus Lite; on loopback only."""
    settings = read_settings(**given)
    from flows import deployments
    from flows import serve as serving

    described = deployments.fitted(deployments.read(file or deployments.FILE), watch=watch, inbox=inbox, music=music)
    ports = serving.Ports(prefect=port, milvus=milvus_port, metrics=metrics_port)
    serving.serve(
        settings,
        described=described,
        settings_file=given["settings_file"],
        ports=ports,
        tell=lambda line: click.echo(line, err=True),
    )


@click.command()
@click.argument("run", type=PATH)
def accept(run: Path) -> None:
    """Measure later nightly evaluations beside RUN, the folder of a finished one."""
    from evaluation import accepted

    accepted.accept(run.absolute())
    click.echo(f"{run.absolute().name} accepted")


@click.command("metrics")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve them until stopped, instead of printing them.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@place_options
def show_metrics(port: int | None, host: str, **given) -> None:
    """Print metrics for Prometheus: tracks by state, segments, bytes, query times."""
    settings = read_settings(**given)
    from flows import metrics

    if port is None:
        click.echo(metrics.text(settings), nl=False)
        return
    metrics.serve(settings, port=port, host=host)
    click.echo(f"http://{host}:{port}/metrics", err=True)
    while True:
        time.sleep(3600)

"""Deployments: deploy/prefect.yaml -> registered with a Prefect server, with the folders that the user names.

The file is the only place that says what is deployed; Prefect's own command line registers it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from store import objects

FILE = Path(__file__).parents[1] / "deploy" / "prefect.yaml"
POOL = "asid"
_SHOWN = 400  # characters of what Prefect said


def read(file: Path = FILE) -> dict[str, Any]:
    """The file as Prefect reads it; FileNotFoundError where there is none, as in an installation without checkout."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give deploy/prefect.yaml of the checkout with --file")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def fitted(
    described: dict[str, Any], *, watch: str | None = None, inbox: Path | None = None, music: Path | None = None
) -> dict[str, Any]:
    """The same with these folders (`watch` may be a prefix of an object store).

    The nightly evaluation is scheduled only where there is music.
    """
    given = {"watch": ("folder", watch), "inbox": ("folder", inbox), "evaluate": ("music", music)}
    for deployment in described["deployments"]:
        name, folder = given.get(deployment["name"], ("", None))
        if folder is not None:
            place = folder if objects.is_url(str(folder)) else Path(folder).expanduser().absolute()
            deployment["parameters"][name] = str(place)
        if deployment["name"] == "evaluate":
            for schedule in deployment["schedules"]:
                schedule["active"] = music is not None
    return described


def register(described: dict[str, Any]) -> list[str]:
    """Register all with the server of PREFECT_API_URL; returns their names. ConnectionError with what Prefect said."""
    made = _prefect("work-pool", "create", POOL, "--type", "process")
    if "already exists" not in made.stdout + made.stderr:
        _require(made, "create the work pool")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(described), encoding="utf-8")
        _require(_prefect("deploy", "--all", "--prefect-file", str(file)), "register the deployments")
    return [deployment["name"] for deployment in described["deployments"]]


def _prefect(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _require(done: subprocess.CompletedProcess, purpose: str) -> None:
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
        raise ConnectionError(f"Prefect could not {purpose}: {said[-1][:_SHOWN] if said else 'no reason given'}")

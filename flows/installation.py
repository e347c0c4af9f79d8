"""Installation: what a machine that runs deployments is set to, told by its environment.

A run that Prefect starts gets its settings from the TOML file that ASID_SETTINGS names and from the addresses and
secrets of flows/settings.py, so that one set of deployments suits a laptop and a cluster.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import logs, settings
from flows.settings import Settings


def installed() -> Settings:
    """The settings of this machine; from here on, logs are written as ASID_LOG says."""
    logs.configure()
    file = os.environ.get("ASID_SETTINGS")
    return settings.load(Path(file) if file else None)


def made(folder: Path) -> Path:
    """A folder of the data directory, which is made where it is missing: nobody has named it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def taking_turns(data: Path, work: str) -> Iterator[bool]:
    """Whether this run is the only one at that work on this data directory; if so, it is until the block ends.

    A lock of the system, freed however the process ends: slots of Prefect's server stay taken for good where a run dies
    together with the server.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / f"{work}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True

"""State of a training run on disk: written in one step after every epoch, so that a killed run goes on from there."""

import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

FILE = "state.pt"
# What a file with wrong bytes in it surfaces as, from the archive down to the pickle.
_DAMAGE = (zipfile.BadZipFile, UnpicklingError, EOFError, RuntimeError, ArithmeticError, LookupError)
_DAMAGE += (TypeError, ValueError, AttributeError)


def save(directory: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Keep `state` (tensors and plain values) of a run with these settings.

    OSError where it cannot be written; the state that was there before stays.
    """
    directory.mkdir(parents=True, exist_ok=True)
    unfinished, made = directory / f"{FILE}.unfinished", BytesIO()
    torch.save({"config": config, **state}, made)  # which does not say why a file could not be written
    try:
        with unfinished.open("wb") as file:
            file.write(made.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, directory / FILE)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        told = f"{directory / FILE}: cannot be written ({error}), the one before stays"
        raise OSError(f"{told}; make room, then run the same command again") from error


def load(directory: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The state kept there, tensors on the CPU; None where there is none.

    ValueError where it is damaged or belongs to other settings.
    """
    if not (directory / FILE).exists():
        return None
    state = _read(directory / FILE)
    kept = state.pop("config")
    if others := [name for name in sorted(config | kept) if kept.get(name, ...) != config.get(name, ...)]:
        told = f"{directory / FILE} belongs to other settings ({', '.join(others)} changed)"
        raise ValueError(f"{told}; choose another --out, or remove it to start over")
    return state


def _read(path: Path) -> dict[str, Any]:
    """What was kept in the file; ValueError where it is no longer what was written."""
    kept = path.read_bytes()
    try:
        if (damaged := zipfile.ZipFile(BytesIO(kept)).testzip()) is not None:  # torch reads past wrong checksums
            raise zipfile.BadZipFile(damaged)
        state = torch.load(BytesIO(kept), weights_only=True, map_location="cpu")
        return state | {"config": state["config"]}
    except _DAMAGE as error:
        raise ValueError(f"{path}: is damaged, expected the state of a training; remove it to start over") from error


def ahead(make: Callable[[int], Any], first: int, count: int) -> Iterator[tuple[int, Any]]:
    """Numbers first .. first + count - 1 with what `make` makes of them, the next always in the making."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, first)
        for number in range(first, first + count):
            item = coming.result()
            if number + 1 < first + count:
                coming = pool.submit(make, number + 1)
            yield number, item

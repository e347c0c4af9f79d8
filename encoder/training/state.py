"""State of a training run on disk: written in one step after every epoch, so that a killed run goes on from there."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

FILE = "state.pt"


def save(directory: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Keep `state` (tensors and plain values) of a run with these settings."""
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{FILE}.unfinished"
    torch.save({"config": config, **state}, unfinished)
    os.replace(unfinished, directory / FILE)


def load(directory: Path, config: dict[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The state kept there, None where there is none; ValueError where it belongs to other settings."""
    if not (directory / FILE).exists():
        return None
    state = torch.load(directory / FILE, weights_only=True, map_location=device)
    kept = state.pop("config")
    if others := [name for name in sorted(config | kept) if kept.get(name, ...) != config.get(name, ...)]:
        told = f"{directory / FILE} belongs to other settings ({', '.join(others)} changed)"
        raise ValueError(f"{told}; choose another --out, or remove it to start over")
    return state


def ahead(make: Callable[[int], Any], first: int, count: int) -> Iterator[tuple[int, Any]]:
    """Numbers first .. first + count - 1 with what `make` makes of them, the next always in the making."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, first)
        for number in range(first, first + count):
            item = coming.result()
            if number + 1 < first + count:
                coming = pool.submit(make, number + 1)
            yield number, item

"""Multitracks: pieces of our own as folders of stems, training material that needs no download.

The pieces are other than those of any demo: their seeds begin where a demo's cannot reach.
"""

from collections.abc import Iterator
from pathlib import Path

import soundfile

from evaluation.pieces.synthesis import compose, render

_FIRST_SEED = 90_000_000
_RATE = 16_000  # Hz


def write(directory: Path, *, count: int) -> Iterator[Path]:
    """Compose and render `count` pieces, each a folder of flac stems; folders that are there are left as they are."""
    for number in range(count):
        folder = directory / f"piece-{number:03d}"
        if not folder.exists():
            unfinished = directory / f".{folder.name}"
            unfinished.mkdir(parents=True, exist_ok=True)
            for stem, wave in render(compose(_FIRST_SEED + number), sample_rate=_RATE).items():
                soundfile.write(unfinished / f"{stem}.flac", wave, _RATE)
            unfinished.rename(folder)
        yield folder

"""What does training add? Hit rates among 1,024 held-out pairs, of a system and of the weights it began with.

    python -m benchmarks.untrained STEM_CACHE resnet18-ibn                       weights that come with the package
    python -m benchmarks.untrained STEM_CACHE runs/resnet/encoder.safetensors    or a checkpoint

Each query view of an artist that training never saw is asked which of the reference views it shows; chance is 0.001
and 0.01. Differences are paired, intervals are 95 % over pairs.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import held_out
from encoder import checkpoint, encode, initial
from encoder.systems import KINDS, SYSTEMS
from encoder.training.stem_cache import StemCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="stem cache of `asid prepare stems`")
    parser.add_argument("systems", nargs="+", help="name of a shipped system, or checkpoint")
    given = parser.parse_args()
    rows = [row for system in given.systems for row in compared(StemCache.open(given.cache), system)]
    print(pd.DataFrame(rows).to_string(index=False))


def compared(cache: StemCache, name: str) -> list[dict[str, float | str]]:
    """A row for each hit rate."""
    loaded = checkpoint.load(encode.shipped(name) if name in SYSTEMS else Path(name), *KINDS)
    views = held_out.views(cache, loaded.config)
    trained = held_out.ranks(loaded.restore(loaded.config.build()), views)
    untrained = held_out.ranks(initial.network(loaded.config), views)
    return [{"system": name, **row(trained <= most, untrained <= most), "hit rate at": most} for most in (1, 10)]


def row(trained: NDArray[np.bool_], untrained: NDArray[np.bool_]) -> dict[str, float]:
    """Both shares, and what the first has more."""
    more = trained.astype(float) - untrained
    low, high = held_out.interval(more[None])
    shares = {"trained": trained.mean(), "untrained": untrained.mean(), "more": more.mean(), "low": low, "high": high}
    return {name: round(float(share), 3) for name, share in shares.items()}


if __name__ == "__main__":
    main()

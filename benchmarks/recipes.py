"""What does each part of a training recipe give? One small network, trained with all of it and with each part left out.

    python -m benchmarks.recipes STEM_CACHE --out FOLDER              all recipes, two seeds: half an hour of one core
    python -m benchmarks.recipes STEM_CACHE --out FOLDER --seeds 1    one seed

The network is that of benchmarks/levers.py, with one fingerprint; every recipe shows it 6,144 pairs. Each is asked
which of 1,024 reference views of artists that training never saw a query view shows, made with all parts of the recipe.
Pairs are drawn anew in the bootstrap, seeds too: of one seed the interval knows nothing of what another training would
give. Runs that are done are kept in --out.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import held_out
from benchmarks.levers import COARSE, NETWORK
from encoder import allocator
from encoder.systems import ASID, System
from encoder.training.schedule import Schedule
from encoder.training.stem_cache import StemCache

PAIRS = 6144
BASE = replace(
    ASID,
    name="recipe-study",
    about="a small network, to compare how it is trained",
    front_end=COARSE,
    network=replace(NETWORK, aggregation="convolution"),
    contrast=None,
    # Easier than what `asid` learns from: so few pairs would tell nobody anything at -10 dB.
    pairing=replace(ASID.pairing, level=(-5.0, 10.0), level_start=None, level_steps=0),
    schedule=Schedule(
        epochs=1, steps=24, batch=256, learning_rate=2e-3, warmup=10, precision="bfloat16", validation_pairs=64
    ),
)


@dataclass(frozen=True)
class Recipe:
    """What is other than in BASE."""

    pairing: dict[str, Any] = field(default_factory=dict)
    batch: int = 256
    without: frozenset[str] = frozenset()  # kinds of tracks

    def system(self, seed: int) -> System:
        steps = PAIRS // self.batch
        made = dict(steps=steps, warmup=max(1, BASE.schedule.warmup * steps // BASE.schedule.steps))
        schedule = replace(BASE.schedule, batch=self.batch, chunk=self.batch, seed=seed, **made)
        return replace(BASE, pairing=replace(BASE.pairing, **self.pairing), schedule=schedule)

    def music(self, cache: StemCache) -> StemCache:
        kept = [track for track in cache.tracks if track.split != "train" or track.kind not in self.without]
        return StemCache(cache.directory, kept, cache._audio)


RECIPES = {
    "all": Recipe(),
    "no transposition": Recipe({"transposition": 0.0, "varispeed": 0.0}),
    "no change of tempo": Recipe({"tempo": (1.0, 1.0), "varispeed": 0.0}),
    "no varispeed": Recipe({"varispeed": 0.0}),
    "no interference of other tracks": Recipe({"foreign_interference": 0.0, "mixes": 1, "interferers": 0.0}),
    "one mix of each batch": Recipe({"mixes": 1, "interferers": 0.0}),
    "one interferer": Recipe({"interferers": 0.0}),
    "samples fill the segment": Recipe({"short": 0.0}),
    "no chops": Recipe({"chopped": 0.0}),
    "references hold the sample alone": Recipe({"whole_reference": 0.0}),
    "no drums alone": Recipe({"drums": 0.0}),
    "no colour": Recipe({"equaliser": 0.0}),
    "no saturation, rooms, band limits": Recipe({"saturation": 0.0, "reverb": 0.0, "band_limit": 0.0}),
    "easier levels first": Recipe({"level_start": (5.0, 15.0), "level_steps": 12}),
    "another moment as a negative": Recipe({"same_song": 0.5}),
    "batches of 64": Recipe(batch=64),
    "batches of 768": Recipe(batch=768),
    "no multitracks": Recipe(without=frozenset({"multitrack"})),
    "no MIDI": Recipe(without=frozenset({"midi"})),
    "no recordings": Recipe(without=frozenset({"song", "loop", "oneshot", "drum"})),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="stem cache of `asid prepare stems`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    allocator.keep_memory()
    cache = StemCache.open(given.cache)
    unseen = held_out.views(cache, BASE)
    rows = [row(cache, unseen, name, seed, given.out) for seed in given.seeds for name in RECIPES]
    table = summary(pd.DataFrame(rows))
    print(table.reset_index().to_json(orient="records", indent=2) if given.json else table.to_string())


def row(cache: StemCache, unseen: held_out.Sides, name: str, seed: int, out: Path) -> dict[str, Any]:
    """Ranks of the right reference views; says how long training took, where it was not done before."""
    recipe, began = RECIPES[name], time.process_time()
    network = held_out.trained(recipe.music(cache), recipe.system(seed), out / f"{name.replace(' ', '-')}-{seed}")
    spent = time.process_time() - began
    ranks = held_out.ranks(network, unseen)
    print(f"{name}, seed {seed}: HR@10 {(ranks <= 10).mean():.3f}, {spent:.0f} s", file=sys.stderr, flush=True)
    return {"recipe": name, "seed": seed, "ranks": ranks}


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and what each recipe has more than all of it, with a 95 % interval."""

    def hits(name: str) -> np.ndarray:
        """(seeds, pairs) whether the right reference view is among the first ten."""
        return (np.stack(runs[runs["recipe"] == name].sort_values("seed")["ranks"]) <= 10).astype(float)

    rows = []
    for name in RECIPES:
        more = hits(name) - hits("all")
        low, high = held_out.interval(more)
        rows.append({"recipe": name, "HR@10": hits(name).mean(), "more": more.mean(), "low": low, "high": high})
    return pd.DataFrame(rows).set_index("recipe").round(3)


if __name__ == "__main__":
    main()

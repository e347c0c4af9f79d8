"""Does the graph help? The same network with its graph, with every node alone, and with a convolution in its place.

    python -m benchmarks.graph STEM_CACHE --out FOLDER              three networks, three seeds: half an hour
    python -m benchmarks.graph STEM_CACHE --out FOLDER --seeds 1    one seed

The released NeuralSampleID bypasses its graph blocks, so that its paper leaves the question open. Here a compact form
of the paper's network (log-mel, overlapping patches, four blocks on 64 and 32 nodes) is trained three ways on the same
pairs: `graph` (max-relative to the nearest nodes), `alone` (the same parameters, each node sees itself), `convolution`
(the 5 x 5 cells around a node, about the cost of the graph). Each is asked which of 1,024 reference views of artists
that training never saw a query view shows. Pairs are drawn anew in the bootstrap, seeds too. Runs resume where they
stopped.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from benchmarks import held_out
from encoder.gnn import GraphNetwork, Stage
from encoder.systems import ASID, NEURALSAMPLEID, System
from encoder.training.schedule import Schedule
from encoder.training.stem_cache import StemCache

NETWORKS = ("graph", "alone", "convolution")

STUDY = replace(
    NEURALSAMPLEID,
    name="graph-study",
    about="a compact NeuralSampleID, to compare what its nodes see",
    network=GraphNetwork(
        input="patch",
        stages=(
            Stage(channels=32, kernel=(8, 16), stride=(4, 8)),
            Stage(channels=64, stride=(1, 2)),
            Stage(channels=128, stride=(2, 1), blocks=2),
            Stage(channels=160, stride=(1, 2), blocks=2),
        ),
        expansion=2,
        node_channels=160,
        hidden=512,
    ),
    # Easier than what `asid` learns from: so few pairs would tell nobody anything at -10 dB.
    pairing=replace(ASID.pairing, level=(0.0, 15.0), level_start=None, level_steps=0),
    schedule=Schedule(
        epochs=5, steps=12, batch=256, learning_rate=1e-3, patience=8, precision="bfloat16", validation_pairs=256
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="stem cache of `asid prepare stems`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    cache, rows = StemCache.open(arguments.cache), []
    for seed in arguments.seeds:
        for name in NETWORKS:
            network = held_out.trained(cache, system(name, seed), arguments.out / f"{name}-{seed}")
            rows.append({"network": name, "seed": seed, **asked(cache, network)})
            print({k: v for k, v in rows[-1].items() if k != "ranks"}, file=sys.stderr, flush=True)
    table = summary(pd.DataFrame(rows))
    print(table.reset_index().to_json(orient="records", indent=2) if arguments.json else table.to_string())


def system(name: str, seed: int) -> System:
    """The study's recipe with this aggregation and seed."""
    network = replace(STUDY.network, aggregation=name)
    return replace(STUDY, network=network, schedule=replace(STUDY.schedule, seed=seed))


def asked(cache: StemCache, network: nn.Module) -> dict:
    """Ranks of the right reference views, parameters, and CPU milliseconds a segment."""
    views = held_out.views(cache, STUDY)
    began = time.process_time()
    ranks = held_out.ranks(network, views)
    spent = time.process_time() - began
    return {
        "ranks": ranks,
        "HR@1": float((ranks <= 1).mean()),
        "HR@10": float((ranks <= 10).mean()),
        "parameters": sum(p.numel() for p in network.parameters()),
        "CPU ms a segment": 1000 * spent / (2 * len(ranks)),
    }


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and what each network has more than the graph, with a 95 % interval."""
    rows = []
    for name in NETWORKS:
        own = runs[runs["network"] == name]
        row = {"network": name} | own[["HR@1", "HR@10", "parameters", "CPU ms a segment"]].mean().to_dict()
        for most in (1, 10) if name != "graph" else ():
            hits = [np.stack(runs[runs["network"] == n].sort_values("seed")["ranks"]) <= most for n in (name, "graph")]
            low, high = held_out.interval(hits[0].astype(float) - hits[1])
            over = f"HR@{most} over graph"
            row |= {over: float(hits[0].mean() - hits[1].mean()), f"{over}, low": low, f"{over}, high": high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("network").round(4)


if __name__ == "__main__":
    main()

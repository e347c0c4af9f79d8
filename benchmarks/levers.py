"""What do further ideas for fingerprints give? One small network in six forms, trained on the same pairs.

    python -m benchmarks.levers STEM_CACHE --out FOLDER              six forms, three seeds: about an hour of one core
    python -m benchmarks.levers STEM_CACHE --out FOLDER --seeds 1    one seed

    one      the convolutions of `asid`, narrower; one fingerprint of a segment
    graph    its graph blocks in place of convolutions around each node
    slots    four fingerprints of a segment, each of what its own gate lets through; the best of 16 cosines counts
    windows  fingerprints of the segment and of both its halves; the best of 9 cosines counts
    cells    nodes weighted by how much of them is the sample, which a head learns from the truth about each query view
    fine     a second branch on frames of 16 ms with windows of 32 ms, for beats

Each is asked which of 1,024 reference views of artists that training never saw a query view shows, once for samples of
all kinds (`all`) and once with the drums alone wherever a track has drums beside other stems (`drums`). Pairs are drawn
anew in the bootstrap, seeds too. A seed that is done is kept in --out.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import held_out
from encoder.gnn import GraphNetwork, Stage
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogFrequency, LogMel
from encoder.systems import ASID
from encoder.training import augment, mixing, state
from encoder.training.contrast import may_be_alike
from encoder.training.pairs import PairBatch, PairMaker
from encoder.training.schedule import Schedule, rate
from encoder.training.stem_cache import STEMS, StemCache

FORMS = ("one", "graph", "slots", "windows", "cells", "fine")
SCHEDULE = Schedule(epochs=1, steps=48, batch=192, learning_rate=2e-3, warmup=10, clip=5.0)
# Easier than what `asid` learns from, as in benchmarks/graph.py; rooms and codecs are left out.
PAIRING = replace(
    ASID.pairing, level=(0.0, 15.0), level_start=None, level_steps=0, reverb=0.0, band_limit=0.0, drums=0.2
)
NETWORK = GraphNetwork(
    stages=(
        Stage(channels=16, kernel=(5, 5), instance_norm=True),
        Stage(channels=32, instance_norm=True),
        Stage(channels=64, instance_norm=True),
        Stage(channels=96),
        Stage(channels=128, stride=(1, 2), blocks=2),
    ),
    expansion=2,
    pooling="bands",
    node_channels=128,
    hidden=512,
)
COARSE, FINE = LogFrequency(), LogMel(n_fft=512, bins=32)
GRID = SegmentGrid()
FINE_GRID = replace(GRID, frame_hop=GRID.frame_hop // 2, frames=GRID.frames * 2)
SLOTS = 4
BANDS, TIMES = NETWORK.grid(COARSE.bins, GRID.frames)


class Sides(NamedTuple):
    """What the forms see of a batch of pairs."""

    references: Tensor  # (pairs, bins, frames) dB
    queries: Tensor
    fine_references: Tensor  # the same of FINE on FINE_GRID
    fine_queries: Tensor
    share: Tensor  # (pairs, nodes) of the power in each cell of a query view that is the sample's
    alike: Tensor  # (references, queries) may show the same


class Form(nn.Module):
    """Spectra -> fingerprints (batch, number, dimensions), and what the head for cells says (batch, nodes)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        network = replace(NETWORK, aggregation="graph" if name == "graph" else "convolution")
        self.trunk = network.build(bins=COARSE.bins, frames=GRID.frames)
        self.gates = nn.Linear(NETWORK.node_channels, SLOTS if name == "slots" else 1)
        self.fine = Fine(NETWORK.node_channels) if name == "fine" else None

    def forward(self, spectra: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
        nodes = self.trunk(spectra).node_matrices  # (batch, bands * times, channels)
        gates = self.gates(nodes)
        views = [nodes]
        if self.name == "slots":
            views = [nodes * gate.sigmoid().unsqueeze(2) for gate in gates.unbind(2)]
        elif self.name == "windows":
            halves = nodes.unflatten(1, (BANDS, TIMES)).split(TIMES // 2, dim=2)
            views = [nodes, *(half.flatten(1, 2) for half in halves)]
        elif self.name == "cells":
            weights = gates.sigmoid()
            views = [nodes * weights / weights.mean(1, keepdim=True)]
        elif self.fine is not None:
            views = [nodes + self.fine(fine)]
        return torch.stack([self.trunk.fingerprints(view) for view in views], dim=1), gates[..., 0]


class Fine(nn.Module):
    """(batch, bins, frames) of FINE -> what is added to the nodes of each time cell, (batch, nodes, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (1, 16, 32, 64, 96)
        layers = (
            nn.Sequential(nn.Conv2d(a, b, (3, 5), (2, 2), (1, 2), bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1))
            for a, b in zip(widths, widths[1:])
        )
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, TIMES)), nn.Conv2d(widths[-1], channels, 1))

    def forward(self, spectra: Tensor) -> Tensor:
        x = torch.maximum(spectra, spectra.amax((1, 2), keepdim=True) - 60)
        x = (x - x.mean((1, 2), keepdim=True)).unsqueeze(1) / 15
        return self.layers(x).expand(-1, -1, BANDS, -1).flatten(2).transpose(1, 2)


class Maker:
    """Pairs of one split -> sides."""

    def __init__(self, cache: StemCache, split: str, seed: int, **changes: object) -> None:
        self.pairs = PairMaker(cache, replace(PAIRING, **changes), GRID, COARSE.n_fft, split=split, seed=seed)
        self.coarse, self.fine = (
            end.build(sample_rate=GRID.sample_rate, frame_hop=grid.frame_hop)
            for end, grid in ((COARSE, GRID), (FINE, FINE_GRID))
        )

    @torch.no_grad()
    def sides(self, batch: PairBatch) -> Iterator[Sides]:
        """One mix after the other."""
        apart = augment.apart(batch, self.coarse, GRID)
        aside = (COARSE.n_fft - FINE.n_fft) // 2  # both windows have their middle at the same place
        names = ("references", "samples", "interferences")
        shorter = replace(batch, **{name: np.ascontiguousarray(getattr(batch, name)[:, aside:]) for name in names})
        finely = augment.apart(shorter, self.fine, FINE_GRID)
        finely = finely._replace(references=finely.references[..., : FINE_GRID.frames])
        for mix in batch.mixes:
            references, queries = mixing.mixed(apart, mix, floor=-100)
            alone = apart._replace(interferences=torch.zeros_like(apart.interferences))
            sample = mixing.mixed(alone, mix, floor=-100)[1]
            power = [F.adaptive_avg_pool2d(10 ** (x / 10), (BANDS, TIMES)) for x in (sample, queries)]
            shown = augment.Views(
                references, queries, *map(torch.from_numpy, (batch.tracks, batch.moments, mix.covers))
            )
            yield Sides(
                *(references, queries),
                *mixing.mixed(finely, mix, floor=-100),
                share=(power[0] / power[1]).clamp(0, 1).flatten(1),
                alike=may_be_alike(shown),
            )

    def held_out(self) -> list[Sides]:
        batches = (self.pairs.batch(n, held_out.BATCH) for n in range(held_out.PAIRS // held_out.BATCH))
        return [next(self.sides(batch)) for batch in batches]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="stem cache of `asid prepare stems`")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = [row for seed in arguments.seeds for row in done(StemCache.open(arguments.cache), seed, arguments.out)]
    table = summary(pd.DataFrame(rows))
    print(table.reset_index().to_json(orient="records", indent=2) if arguments.json else table.to_string())


def done(cache: StemCache, seed: int, out: Path) -> list[dict]:
    """What the forms of one seed have learned, trained where they are not."""
    file = out / f"seed-{seed}-{_digest(cache)}.json"
    if not file.exists():
        forms = trained(cache, seed)
        single = dict(mixes=1, interferers=0.0, same_song=0.0)
        sets = {"all": {}, "drums": {"drums": 1.0, "foreign_interference": 0.0, "whole_reference": 0.0}}
        unseen = {
            name: Maker(cache, "validation", held_out.SEED, **single, **changes).held_out()
            for name, changes in sets.items()
        }
        found = json.dumps([asked(form, unseen) | {"seed": seed} for form in forms])
        file.with_suffix(".unfinished").write_text(found)
        file.with_suffix(".unfinished").replace(file)
    return json.loads(file.read_text())


def _digest(cache: StemCache) -> str:
    with (cache.directory / STEMS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def trained(cache: StemCache, seed: int) -> list[Form]:
    """All forms, step by step on the same views."""
    schedule, maker, forms = replace(SCHEDULE, seed=seed), Maker(cache, "train", seed), []
    for name in FORMS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            forms.append(Form(name))
    optimisers = [torch.optim.Adam(form.parameters(), lr=schedule.learning_rate) for form in forms]
    batches = state.ahead(lambda n: maker.pairs.batch(n, schedule.batch), 0, schedule.steps // PAIRING.mixes)
    views = (sides for _, batch in batches for sides in maker.sides(batch))
    began = time.perf_counter()
    for step, sides in enumerate(views):
        losses = [_step(form, optimiser, sides, rate(schedule, step)) for form, optimiser in zip(forms, optimisers)]
        shown = " ".join(f"{form.name} {loss:.2f}" for form, loss in zip(forms, losses))
        at = f"seed {seed} step {step + 1} of {schedule.steps}, {time.perf_counter() - began:.0f} s"
        print(f"{at}: {shown}", file=sys.stderr, flush=True)
    return forms


def _step(form: Form, optimiser: torch.optim.Optimizer, sides: Sides, learning_rate: float) -> float:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    form.train()
    optimiser.zero_grad(set_to_none=True)
    references, queries, said = _both(form, sides)
    similarities = best(references, queries) / SCHEDULE.temperature
    own = torch.arange(len(similarities))
    alike = sides.alike.clone()
    alike[own, own] = False
    masked = similarities.masked_fill(alike, -torch.inf)
    loss = (F.cross_entropy(masked, own) + F.cross_entropy(masked.T, own)) / 2
    whole = loss + F.binary_cross_entropy_with_logits(said, sides.share) if form.name == "cells" else loss
    whole.backward()
    nn.utils.clip_grad_norm_(form.parameters(), SCHEDULE.clip)
    optimiser.step()
    return loss.item()


def _both(form: Form, sides: Sides) -> tuple[Tensor, Tensor, Tensor]:
    """Fingerprints of both sides, and what the head for cells says of the queries."""
    spectra, fine = (torch.cat(pair) for pair in (sides[:2], sides[2:4]))
    fingerprints, said = form(spectra, fine)
    return *fingerprints.chunk(2), said.chunk(2)[1]


def best(references: Tensor, queries: Tensor) -> Tensor:
    """(references, queries): the best cosine of any of their fingerprints."""
    return torch.einsum("rid,qjd->rqij", references, queries).amax((2, 3))


@torch.inference_mode()
def asked(form: Form, unseen: dict[str, list[Sides]]) -> dict:
    """Ranks of the right reference views of each set, parameters, and CPU milliseconds a segment."""
    form.eval()
    row, began = {"form": form.name}, time.process_time()
    for name, batches in unseen.items():
        found = [_both(form, sides)[:2] for sides in batches]
        references, queries = (torch.cat(side) for side in zip(*found, strict=True))
        similarities = best(references, queries).T
        row[name] = (similarities >= similarities.diagonal().unsqueeze(1)).sum(1).tolist()
    spent = (time.process_time() - began) / (2 * held_out.PAIRS * len(unseen))
    used = sum(p.numel() for p in form.parameters())
    return row | {"CPU ms a segment": 1000 * spent, "parameters": used}


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and what each form has more than one fingerprint, with a 95 % interval."""
    rows = []
    for form, own in runs.groupby("form", sort=False):
        row = {"form": form} | own[["parameters", "CPU ms a segment"]].mean().to_dict()
        for name in ("all", "drums"):
            hits, base = (_hits(runs[runs["form"] == f], name) for f in (form, "one"))
            low, high = held_out.interval(hits - base)
            row |= {f"HR@10, {name}": hits.mean(), f"over one, {name}": (hits - base).mean(), "low": low, "high": high}
            row = {f"{k}, {name}" if k in ("low", "high") else k: v for k, v in row.items()}
        rows.append(row)
    return pd.DataFrame(rows).set_index("form").round(4)


def _hits(runs: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """(seeds, pairs) whether the right reference view is among the first ten."""
    return (np.stack(runs.sort_values("seed")[name]) <= 10).astype(float)


if __name__ == "__main__":
    main()

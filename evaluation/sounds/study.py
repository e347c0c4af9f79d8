"""Study: which network makes similar sounds neighbours, each trained anew in every fold -> precision with intervals.

    published   folds by item; features standardised by all sounds, those asked about among them; the test part is
                embedded in batches of 64 in the order of the list, and asked among itself
    honest      folds by technique; standardised by the training part; the test part is asked among all sounds, all of
                them one graph, as a folder is in which one looks for what sounds alike

Rows are `euclid`, the standardised features themselves, and networks, each also as it was before it was trained. The
released code trains one network on through all folds, so that four of five have trained on their test sounds; here a
network never leaves its fold, in either protocol.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoder.adaptive_graph import SoundNetwork
from encoder.systems import System
from encoder.training.sounds import Epoch, Training
from evaluation import bootstrap
from evaluation.bootstrap import Estimate, Interval
from evaluation.sounds import precision
from evaluation.sounds.folds import Fold, folds
from evaluation.sounds.material import Gathered
from evaluation.sounds.precision import Precision

Protocol = Literal["published", "honest"]
EUCLID, UNTRAINED = "euclid", "untrained"
VARIANTS = ("linear", "mlp", "knn", "published", "weighted")
_BATCH = 64  # sounds embedded at a time, as published

Told = Callable[[str, int, Epoch], None]  # network, fold, its last epoch


class Measured(NamedTuple):
    """Of one row in one fold."""

    pruned: Precision
    unpruned: Precision


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network over all folds; queries of all folds one after the other."""

    name: str
    folds: tuple[Measured, ...]
    techniques: NDArray[np.int64]  # (queries,)

    def precision(self, *, pruned: bool) -> Precision:
        """All folds as one."""
        parts = [fold.pruned if pruned else fold.unpruned for fold in self.folds]
        return Precision(
            right=np.concatenate([p.right for p in parts]),
            counted=np.concatenate([p.counted for p in parts]),
            relevant=np.concatenate([p.relevant for p in parts]),
        )

    def deviation(self, *, pruned: bool) -> float:
        """Standard deviation over the folds (unbiased), as the paper states it."""
        return float(np.std([(f.pruned if pruned else f.unpruned).value for f in self.folds], ddof=1))


def study(
    gathered: Gathered, system: System, protocol: Protocol, *, variants: tuple[str, ...] = VARIANTS, count: int = 5,
    out: Path | None = None, told: Told | None = None,
) -> dict[str, Row]:  # fmt: skip
    """Rows by name: euclid, then each network untrained and trained.

    State is kept in `out`, where a killed run goes on. ValueError for a protocol or network that is not known.
    """
    if protocol not in ("published", "honest"):
        raise ValueError(f"protocol is {protocol!r}, expected published or honest")
    if unknown := set(variants) - set(VARIANTS):
        raise ValueError(f"network {sorted(unknown)[0]!r} is not known, expected some of {', '.join(VARIANTS)}")
    sounds, found, techniques = gathered.sounds, {}, []
    by = "item" if protocol == "published" else "technique"
    for number, fold in enumerate(folds(by, sounds.labels, sounds.techniques, count=count)):
        techniques.append(sounds.techniques[fold.test])
        place = out / protocol if out else None
        for name, embeddings in _embedded(gathered, system, protocol, fold, number, variants, place, told):
            found.setdefault(name, []).append(_measured(embeddings, gathered, fold, protocol))
    asked = np.concatenate(techniques)
    return {name: Row(name=name, folds=tuple(parts), techniques=asked) for name, parts in found.items()}


def _embedded(
    gathered: Gathered, system: System, protocol: Protocol, fold: Fold, number: int, variants: tuple[str, ...],
    out: Path | None, told: Told | None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:  # fmt: skip
    """Embeddings of all sounds by each row; published: of the others than the test part they are not used."""
    material, everything = gathered.material, gathered.features
    standard = everything if protocol == "published" else everything[fold.train]
    for name in variants:
        config = replace(system.network, variant=name)
        place = out / name / f"fold-{number}" if out else None
        run = Training(material.pick(fold.train), config, system.schedule, standard=standard, out=place)
        if name == variants[0]:
            yield EUCLID, run.network.standardised(torch.from_numpy(everything)).numpy()
        yield f"{name}, {UNTRAINED}", _all(run.network, everything, fold, protocol)
        run.restore()
        for epoch in run:
            if told and epoch.epoch == system.schedule.epochs:
                told(name, number, epoch)
        yield name, _all(run.network, everything, fold, protocol)


@torch.inference_mode()
def _all(network: SoundNetwork, features: NDArray, fold: Fold, protocol: Protocol) -> NDArray[np.float32]:
    """Embeddings (sounds, channels) as the protocol makes its graphs; zeros for sounds that it does not look at."""
    network.eval()
    nodes = network.standardised(torch.from_numpy(features))
    if protocol == "honest":
        return network.embed(nodes).numpy()
    embeddings = np.zeros(features.shape, np.float32)
    for rows in np.split(fold.test, range(_BATCH, len(fold.test), _BATCH)):
        embeddings[rows] = network.embed(nodes[rows]).numpy()
    return embeddings


def _measured(embeddings: NDArray, gathered: Gathered, fold: Fold, protocol: Protocol) -> Measured:
    sounds, test = gathered.sounds, fold.test
    if protocol == "honest":
        given = (embeddings, sounds.labels, sounds.techniques)
        return Measured(*(precision.strict(*given, queries=test, pruned=pruned) for pruned in (True, False)))
    given = (embeddings[test], sounds.labels[test], sounds.techniques[test])
    return Measured(*(precision.published(*given, pruned=pruned) for pruned in (True, False)))


def summary(rows: Mapping[str, Row], *, seed: int = 1) -> dict[str, dict[str, float]]:
    """Of each row: ii-P@5 and P@5 with 95 % intervals over techniques, and what training has added, paired."""
    facts = {}
    draws = bootstrap.draw(np.ones(len(next(iter(rows.values())).techniques)), seed=seed, groups=_techniques(rows))
    for name, row in rows.items():
        pruned, unpruned = row.precision(pruned=True), row.precision(pruned=False)
        facts[name] = {
            **_interval("ii_p5", _estimate(pruned, draws).interval),
            **_interval("p5", _estimate(unpruned, draws).interval),
            **({"ii_p5_deviation": row.deviation(pruned=True)} if len(row.folds) > 1 else {}),
            "ceiling": pruned.ceiling,
            "queries": len(pruned.right),
            "dropped": pruned.dropped,
        }
        before = rows.get(f"{name}, {UNTRAINED}")
        if before is not None:
            gain = _estimate(pruned, draws) - _estimate(before.precision(pruned=True), draws)
            facts[name] |= _interval("gain", gain.interval)
        if name != "knn" and name in VARIANTS and "knn" in rows:
            over = _estimate(pruned, draws) - _estimate(rows["knn"].precision(pruned=True), draws)
            facts[name] |= _interval("over_knn", over.interval)
    return facts


def text(facts: Mapping[str, Mapping[str, float]], *, protocol: str) -> str:
    """The summary as a table."""
    columns = {"ii_p5": "ii-P@5", "p5": "P@5", "gain": "ii-P@5 less untrained", "over_knn": "less knn"}
    lines = [["network", *columns.values()]]
    lines += [[name, *(_shown(row, key) for key in columns)] for name, row in facts.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    first = next(iter(facts.values()))
    about = (
        f"{protocol}: {first['queries']} queries, {first['dropped']} left out, a perfect system {first['ceiling']:.3f}"
    )
    return "\n".join([about, *table])


def _techniques(rows: Mapping[str, Row]) -> NDArray[np.int64]:
    return next(iter(rows.values())).techniques


def _estimate(found: Precision, draws: NDArray) -> Estimate:
    with np.errstate(invalid="ignore"):
        return Estimate(value=found.value, drawn=found.drawn(draws))


def _interval(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _shown(row: Mapping[str, float], key: str) -> str:
    return f"{row[key]:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]" if key in row else ""

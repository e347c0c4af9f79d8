"""Sound flows: labelled sounds -> a network that knows which are alike; labelled sounds -> how well networks know it.

1. List the sounds and their labels, by the layout of their folder.
2. Make their features, or take those kept from an earlier run.
3. Train one network on all of them; or, fold by fold, one of each kind, each anew.
4. Publish the table.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from encoder import allocator
from encoder.encode import Encoder
from encoder.sound_features import SoundFeatures
from encoder.systems import System
from encoder.training import sounds as training
from evaluation import results
from evaluation.sounds import layouts, material, shipped, study
from evaluation.sounds.material import Gathered
from flows import assembly

RESULT = "result.json"
Progress = Callable[[Any], None]


@flow(name="train-sounds")
def train_sounds(
    directory: Path, system: System, out: Path, *, split: str | None = None, device: str = "cpu", resume: bool = True,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Train a network on all sounds of a folder, one record per epoch; returns its checkpoint."""
    allocator.keep_memory()
    gathered = _gathered(directory, system, out, split=split)
    found = gathered.sounds
    data = dict(sounds=len(found), labels=list(found.label_names), about=found.about, left_out=len(gathered.failures))
    rows = []
    how = dict(data=data, device=assembly.usable(device), resume=resume)
    for record in training.train(gathered.material, system, out, **how):
        if progress:
            progress(record)
        rows.append(asdict(record))
    create_table_artifact(key="sound-training", table=rows or [{"epochs": "none were left"}])
    return out / training.FILE


@flow(name="evaluate-sounds")
def evaluate_sounds(
    directory: Path, system: System, out: Path, *, protocols: Sequence[str] = ("honest", "published"),
    networks: Sequence[str] = study.VARIANTS, folds: int = 5, split: str | None = None, seed: int = 1,
    command: str = "", progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train each network anew in every fold and measure precision; a killed run goes on. Returns result.json."""
    allocator.keep_memory()
    gathered = _gathered(directory, system, out, split=split)

    def told(name: str, fold: int, epoch: training.Epoch) -> None:
        if progress:
            progress(f"{name}, fold {fold + 1} of {folds}: loss {epoch.loss:.2f} after {epoch.epoch} epochs")

    found = {}
    for protocol in protocols:
        rows = study.study(
            gathered, system, protocol, variants=tuple(networks), count=folds, out=out / "folds", told=told
        )
        found[protocol] = study.summary(rows, seed=seed)
    return _written(out, gathered, system, found, command, dict(bootstrap=seed, folds=folds))


@flow(name="evaluate-sound-encoders")
def evaluate_sound_encoders(
    directory: Path, encoders: Sequence[Path | None], out: Path, *, split: str | None = None, seed: int = 1,
    command: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Measure trained encoders on sounds that none of them was trained on; returns result.json."""
    opened = [Encoder(path) for path in encoders]
    gathered = _gathered(directory, opened[0].system, out, split=split)
    found = {"as trained": study.summary(shipped.rows(gathered, opened), seed=seed)}
    return _written(out, gathered, opened[0].system, found, command, dict(bootstrap=seed))


def with_features(system: System, feature: str | None, changes: dict[str, Any]) -> System:
    """The recipe with other features; whatever is None stays."""
    front_end = system.front_end
    if feature is not None and feature != front_end.feature:
        front_end = SoundFeatures(feature=feature)
    network = replace(system.network, **{name: value for name, value in changes.items() if value is not None})
    return replace(system, front_end=front_end, network=network)


def _gathered(directory: Path, system: System, out: Path, *, split: str | None) -> Gathered:
    if not isinstance(system.front_end, SoundFeatures):
        raise ValueError(f"system {system.name} has no features of whole sounds, expected an-gnn")
    feature = system.front_end.feature if system.front_end.feature == "openl3" else None
    return material.gather(layouts.read(directory, split=split, feature=feature), system, cache=out)


def _written(
    out: Path, gathered: Gathered, system: System, found: dict[str, Any], command: str, how: dict[str, int]
) -> dict[str, Any]:  # fmt: skip
    sounds = gathered.sounds
    result = {
        "command": command,
        "sounds": {"about": sounds.about, "count": len(sounds), "left_out": list(gathered.failures)},
        "features": system.front_end.feature,
        "seed": getattr(system.schedule, "seed", None),
        **how,
        "versions": results.versions(),
        "protocols": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    for protocol, rows in found.items():
        table = [{"network": name, **row} for name, row in rows.items()]
        create_table_artifact(key=f"sounds-{protocol.replace(' ', '-')}", table=table, description=sounds.about)
    return result

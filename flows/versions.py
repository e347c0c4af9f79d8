"""Version flows: a set is rendered, an encoder trained on it, and measured on its test split."""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from encoder import allocator, initial
from encoder.encode import Encoder
from encoder.systems import System
from encoder.training import version_set, versions
from evaluation import results
from evaluation.versions import benchmark
from evaluation.versions.benchmark import VersionProtocol
from flows import assembly

Progress = Callable[[Any], None]
RESULT = "result.json"


@flow(name="train-versions")
def train_versions(
    source: Path, system: System, out: Path, *, audio: Path | None = None, device: str = "cpu", resume: bool = True,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Train an encoder on a version set, one record per epoch; returns the checkpoint of the best one."""
    allocator.keep_memory()
    read = version_set.read(source, audio=audio)
    rows = []
    for record in versions.train(read, system, out, device=assembly.usable(device), resume=resume):
        if progress:
            progress(record)
        rows.append(asdict(record))
        create_table_artifact(key="version-training", table=rows)
    return out / versions.FILE


@flow(name="evaluate-versions")
def evaluate_versions(
    source: Path, out: Path, protocol: VersionProtocol, *, encoders: Sequence[Path | None],
    untrained: Sequence[System] = (), audio: Path | None = None, split: str = "test", device: str = "cpu",
    command: str = "", progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure encoders, and systems with random weights, on a split; the first is what the others are compared with."""
    allocator.keep_memory()
    members = version_set.of_split(version_set.read(source, audio=audio), split)
    version_set.require_files(members)
    device = assembly.usable(device)
    estimates, about = {}, {}
    for name, encoder in _encoders(encoders, untrained, device):
        about[name] = dict(system=encoder.system.name, digest=encoder.digest, parameters=_parameters(encoder))
        estimates[name] = benchmark.evaluate(encoder, members, protocol, progress=progress)
    first, *others = estimates
    result = {
        "command": command, "versions": results.versions(), "protocol": asdict(protocol), "split": split,
        "set": version_set.digest(members), "systems": about,
        "queries": len(members), "works": len({version.work for version in members}),
        "measures": {name: benchmark.to_json(found) for name, found in estimates.items()},
        f"{first} less": {
            name: benchmark.to_json(benchmark.differences(estimates[first], estimates[name])) for name in others
        },
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    return result


def _encoders(
    paths: Sequence[Path | None], untrained: Sequence[System], device: str
) -> Iterable[tuple[str, Encoder]]:  # fmt: skip
    for path in paths:
        encoder = Encoder(path, device=device)
        yield (str(path) if path else encoder.system.name), encoder
    for system in untrained:
        with tempfile.TemporaryDirectory() as folder:
            kept = initial.save(system, Path(folder) / "untrained.safetensors")
            yield f"{system.name} untrained", Encoder(kept, device=device)


def _parameters(encoder: Encoder) -> int:
    return sum(weight.numel() for weight in encoder.network.parameters())

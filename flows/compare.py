"""The comparison flow: every system on its own task, and all that can on sample identification, in one table.

1. samples: a benchmark made of the music (flows/evaluate.py)
2. noise: noisy excerpts of the same music, each recording the same (flows/noise.py)
3. versions: works rendered with other bands, keys and tempi, the test works of a synthetic set (flows/versions.py)
4. sounds: notes of General MIDI instruments (flows/sounds.py)
5. cost: parameters, and CPU time a segment and a minute of audio, on one thread

Each part keeps its own folder with its own result and is left away on request; samples, noise and what is rendered go
on where they were stopped. A system without weights in the package is named, with the command that trains it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefect import flow
from prefect.artifacts import create_table_artifact

from encoder import encode
from encoder.checkpoint import CheckpointError
from encoder.clews import Clews
from encoder.encode import Encoder
from encoder.grafprint import GraFPrint
from encoder.sound_features import SoundFeatures
from encoder.systems import AN_GNN, SYSTEMS
from evaluation.noise.queries import NoiseSettings
from evaluation.own.listing import Music
from evaluation.own.own import OwnSettings, OwnSources
from evaluation.run import Step
from evaluation.sounds import notes
from evaluation.versions import synthetic
from evaluation.versions.benchmark import VersionProtocol
from evaluation.versions.synthetic import SyntheticSettings
from flows import evaluate, noise, sounds, versions

TASKS = ("samples", "noise", "versions", "sounds")
RESULT = "compare.json"
_MINUTE = 60  # seconds of audio that are encoded to tell the cost
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What is compared, and on how much."""

    music: Music
    out: Path
    cache: Path  # rendered audio and what systems store; shared by all runs
    tasks: tuple[str, ...] = TASKS
    samples: OwnSettings = OwnSettings()
    noise: NoiseSettings = NoiseSettings(lengths=(2, 5), snrs=(0, 10), overlaps=(0.9,))
    versions: SyntheticSettings = SyntheticSettings(train=0, validation=0, test=40, seed=9)  # training has seed 0
    seed: int = 1  # of the intervals
    command: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.tasks) - set(TASKS)
        if unknown or not self.tasks:
            raise ValueError(f"compare: tasks are {self.tasks}, expected some of {', '.join(TASKS)}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one system on one task."""

    task: str
    system: str
    measure: str
    value: float
    low: float  # of the 95 % interval
    high: float
    queries: int


@flow(name="compare-systems")
def compare(how: Compared, *, progress: Progress | None = None) -> dict[str, Any]:
    """Run every task; returns what compare.json holds."""
    told = progress or _silent
    how.out.mkdir(parents=True, exist_ok=True)
    with_weights, without = installed()
    rows = [row for task in how.tasks for row in _TASKS[task](how, with_weights, told)]
    costs = {name: cost(Encoder(path)) for name, path in with_weights.items()}
    result = {
        "command": how.command,
        "version": metadata.version("asid"),
        "torch": torch.__version__,
        "seeds": {
            "samples": how.samples.seed,
            "noise": how.noise.seed,
            "versions": how.versions.seed,
            "intervals": how.seed,
        },
        "rows": [asdict(row) for row in rows],
        "costs": costs,
        "without_weights": without,
    }
    (how.out / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    create_table_artifact(key="systems", table=result["rows"])
    return result


def installed() -> tuple[dict[str, Path], dict[str, str]]:
    """Checkpoints of the systems whose weights come with the package, of whatever size; of the others, what to do."""
    found, without = {}, {}
    for name in (name for name in SYSTEMS if not name.endswith("-small")):  # a size, whose weights have the full name
        try:
            found[name] = encode.shipped(name)
        except CheckpointError as error:
            without[name] = str(error)
    return found, without


def cost(encoder: Encoder) -> dict[str, float]:
    """Parameters, and CPU milliseconds of one thread a segment and a minute of noise."""
    threads, rate = torch.get_num_threads(), encoder.grid.sample_rate
    waveform = np.random.default_rng(1).normal(0, 0.1, _MINUTE * rate).astype(np.float32)
    torch.set_num_threads(1)
    try:
        encoder.encode_waveform(waveform[: 10 * rate])
        began = time.process_time()
        segments = len(encoder.encode_waveform(waveform))
        spent = 1000 * (time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    parameters = sum(weight.numel() for weight in encoder.network.parameters())
    return {"parameters": parameters, "CPU ms a segment": spent / segments, "CPU ms a minute": spent}


def _samples(how: Compared, systems: Mapping[str, Path], progress: Progress) -> Iterator[Row]:
    """Whoever encodes segments of recordings, and the product as a whole."""
    able = [name for name in systems if not isinstance(SYSTEMS[name].front_end, SoundFeatures)]
    comparison = evaluate.Comparison(
        out=how.out / "samples", cache=how.cache, systems=tuple(able), lengths=(), seed=how.seed, command=how.command
    )
    summary = evaluate.evaluate_own(how.samples, OwnSources(music=how.music), comparison, progress=_phases(progress))
    for name, found in summary["systems"].items():
        for measure in ("map", "hit_rate_1"):
            yield Row(
                task="samples", system=name, measure=measure, queries=summary["counts"]["sampled"], **found[measure]
            )


def _noise(how: Compared, systems: Mapping[str, Path], progress: Progress) -> Iterator[Row]:
    """Whoever ranks by sequence, and the landmark fingerprinter where it is installed."""
    able = {name: path for name, path in systems.items() if isinstance(SYSTEMS[name].network, GraFPrint)}
    if not able:
        progress("noise: no weights of a system for it")
        return
    comparison = noise.Comparison(systems=able, out=how.out / "noise", cache=how.cache, bootstrap=how.seed)
    result = noise.evaluate_noise(how.music, how.noise, comparison, progress=lambda line: progress(f"noise: {line}"))
    for cell in result["rates"]:
        if cell["measure"] in ("song", "within_500") and cell["overlap"] in (None, max(how.noise.overlaps)):
            measure = f"{cell['measure']}, {cell['length']:g} s at {cell['snr']:g} dB"
            yield Row(
                task="noise", system=cell["system"], measure=measure, queries=cell["queries"], value=cell["share"],
                low=cell["low"], high=cell["high"],
            )  # fmt: skip


def _versions(how: Compared, systems: Mapping[str, Path], progress: Progress) -> Iterator[Row]:
    """Whoever compares shingles, trained and untrained, on works that no training has rendered."""
    able = {name: path for name, path in systems.items() if isinstance(SYSTEMS[name].network, Clews)}
    if not able:
        progress("versions: no weights of a system for it")
        return
    rendered = how.cache / f"versions-{how.versions.seed}-{how.versions.test}"
    for version in synthetic.write(rendered, how.versions):
        progress(f"versions: {version.track}")
    result = versions.evaluate_versions(
        rendered, how.out / "versions", VersionProtocol(lengths=(), seed=how.seed), encoders=list(able.values()),
        untrained=[Encoder(path).system for path in able.values()], command=how.command,
    )  # fmt: skip
    names = {str(path): name for name, path in able.items()}
    for name, levels in result["measures"].items():
        found = levels["track"]["average_precision"]
        yield Row(
            task="versions", system=names.get(name, name), measure="MAP", queries=result["queries"], **_numbers(found)
        )


def _sounds(how: Compared, systems: Mapping[str, Path], progress: Progress) -> Iterator[Row]:
    """Every network of similar sounds, trained anew in each fold, techniques kept apart."""
    rendered = how.cache / "notes"
    for _ in notes.write(rendered, notes.NoteSettings()):
        pass
    result = sounds.evaluate_sounds(
        rendered, AN_GNN, how.out / "sounds", protocols=("honest",), seed=how.seed, command=how.command,
        progress=lambda line: progress(f"sounds: {line}"),
    )  # fmt: skip
    for name, found in result["protocols"]["honest"].items():
        value = {"value": found["ii_p5"], "low": found["ii_p5_low"], "high": found["ii_p5_high"]}
        yield Row(task="sounds", system=f"an-gnn, {name}", measure="ii-P@5", queries=found["queries"], **value)


def _numbers(found: Mapping[str, float]) -> dict[str, float]:
    return {name: found[name] for name in ("value", "low", "high")}


def _phases(progress: Progress) -> Callable[[Step], None]:
    """A line whenever a system begins to do something else."""
    doing: dict[str, str] = {}

    def told(step: Step) -> None:
        if doing.get(step.system) != step.doing:
            doing[step.system] = step.doing
            progress(f"samples: {step.system} {step.doing}")

    return told


def _silent(line: str) -> None:
    """Progress that nobody watches."""


_TASKS = {"samples": _samples, "noise": _noise, "versions": _versions, "sounds": _sounds}

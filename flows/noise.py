"""The noise flow: are noisy excerpts of stored recordings found again, by which system, to how many milliseconds?

1. Set some recordings aside for babble; cut excerpts from the others.
2. Store the recordings with every system, at every overlap of segments.
3. Ask for every excerpt at every length and signal-to-noise ratio; the landmark fingerprinter too, where installed.
   Answers of a system at an overlap are kept, so a killed run goes on where it stopped.
4. Sum up with intervals; write answers.parquet, result.json and table.md.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from encoder import initial
from encoder.encode import Encoder
from evaluation import results
from evaluation.noise import hits, identify, landmark, queries, tables
from evaluation.noise.queries import Excerpt, NoiseSettings
from evaluation.own import listing
from evaluation.own.listing import Music
from evaluation.own.survey import twins
from evaluation.peers.audfprint import Audfprint
from flows import assembly
from flows.settings import Settings

Progress = Callable[[str], None]
LANDMARK = "audfprint"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Who is asked, and where everything goes."""

    systems: Mapping[str, Path]  # checkpoints by name
    out: Path
    cache: Path  # what systems store; shared by all runs
    untrained: bool = False  # whether every system is joined by its own network with random weights
    landmark: bool = True  # whether the landmark fingerprinter is asked, where it is installed
    settings: Settings = Settings()  # of the store: Milvus server, kind of index, device
    bootstrap: int = 1  # seed of the intervals


@flow(name="evaluate-noise")
def evaluate_noise(
    music: Music, asked: NoiseSettings, how: Comparison, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Hit rates of all systems on noisy excerpts of this music; returns what result.json holds."""
    progress = progress or _silent
    how.out.mkdir(parents=True, exist_ok=True)
    stored, aside = divided(music, asked)
    excerpts = queries.excerpts(stored, aside, asked)
    progress(f"{len(excerpts)} excerpts of {len(stored)} recordings, {len(aside)} set aside for babble")
    parts, facts, heard = [], {"landmark": "not asked"}, _heard(aside, asked)
    for name, encoder in _encoders(how):
        for overlap in asked.overlaps:
            asking = _Asking(
                name=name, encoder=encoder, overlap=overlap, stored=tuple(stored), heard=heard, settings=asked,
                where=how.settings,
            )  # fmt: skip
            parts.append(_kept(asking, how, lambda one=asking: _asked(one, excerpts, how, _named(one.name, progress))))
    if how.landmark:
        answers, facts["landmark"] = _landmark(stored, excerpts, asked, how, progress)
        parts += [hits.frame(answers, system=LANDMARK, overlap=None)] if answers else []
    return _written(pd.concat(parts, ignore_index=True), stored, asked, how, facts)


def divided(music: Music, asked: NoiseSettings) -> tuple[list[Path], list[Path]]:
    """Recordings to store and recordings set aside for babble; ValueError where there are too few."""
    listed = listing.read(music)
    recordings = [one.source.files[0] for one in listed if one.source.form == "recording"]
    doubled = twins(recordings)  # an excerpt answered with the other one of a pair would be a miss
    paths = [file.path.absolute() for file in recordings if file.path not in doubled]
    if len(paths) < asked.set_aside + 2:
        raise ValueError(
            f"{music.path}: {len(paths)} recordings, expected {asked.set_aside + 2} or more; "
            "give more music, or set fewer aside"
        )
    aside = set(np.random.default_rng(asked.seed).choice(len(paths), asked.set_aside, replace=False).tolist())
    return [p for i, p in enumerate(paths) if i not in aside], [p for i, p in enumerate(paths) if i in aside]


def _heard(aside: Sequence[Path], asked: NoiseSettings) -> tuple[Path, ...]:
    """The recordings set aside, and the user's noises and impulse responses."""
    folders = [Path(folder) for folder in (asked.noises, asked.responses) if folder]
    return (*aside, *(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()))


def _encoders(how: Comparison) -> Iterator[tuple[str, Encoder]]:
    device = assembly.usable(how.settings.device)
    for name, path in how.systems.items():
        trained = Encoder(path, device=device)
        yield name, trained
        if how.untrained:
            kept = initial.save(trained.system, how.cache / f"untrained-{trained.digest[:16]}.safetensors")
            yield f"{name} untrained", Encoder(kept, device=device)


@dataclass(frozen=True, kw_only=True)
class _Asking:
    """One system at one overlap, and what it is asked."""

    name: str
    encoder: Encoder
    overlap: float
    stored: tuple[Path, ...]
    heard: tuple[Path, ...]  # files that excerpts are mixed with
    settings: NoiseSettings
    where: Settings  # where the index is, and of which kind

    @property
    def digest(self) -> str:
        """Another text whenever answers may change."""
        every = (*self.stored, *self.heard)
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in every]
        others = replace(self.settings, overlaps=(self.overlap,))
        index = metadata.version("asid"), self.where.milvus_uri, self.where.index
        return hashlib.sha256(repr((self.name, self.encoder.digest, others, files, index)).encode()).hexdigest()[:16]


def _kept(asking: _Asking, how: Comparison, ask: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The answers that an earlier run, perhaps a killed one, has left in the output folder, or new ones."""
    path = how.out / "kept" / f"{asking.digest}.parquet"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        answers = ask()
        answers.to_parquet(path.with_suffix(".unfinished"))
        path.with_suffix(".unfinished").replace(path)
    return pd.read_parquet(path)


def _asked(asking: _Asking, excerpts: Sequence[Excerpt], how: Comparison, progress: Progress) -> pd.DataFrame:
    made, stored = identify.overlapping(asking.encoder, asking.overlap), asking.stored
    place = dict(data=how.cache / f"noise-{made.digest[:16]}", ledger_url=None, nodes_url=None, node_form="full")
    own = replace(how.settings, **place)
    with assembly.references(own, made, beside=True) as references:  # a server's alias stays where it is
        failed = identify.store(references, made, stored, progress=lambda n, of: progress(f"{n}/{of} recordings"))
    for path, reason in failed.items():  # its excerpts could be nothing but misses
        raise ValueError(
            f"{path}: {reason}; {len(failed)} of {len(stored)} cannot be stored, take them out of the music"
        )
    with assembly.references(own, made, read_only=True) as references:  # Lite is slow with what it was just given
        strangers = [track.number for track in references.catalogue.tracks("stored") if track.path not in stored]
        identifier = identify.Identifier(made, references, without=strangers)
        answers = list(identify.ask(identifier, excerpts, asking.settings))
    progress(f"overlap {asking.overlap:g}: {len(answers)} answers")
    return hits.frame(answers, system=asking.name, overlap=asking.overlap)


def _landmark(
    stored: Sequence[Path], excerpts: Sequence[Excerpt], asked: NoiseSettings, how: Comparison, progress: Progress
) -> tuple[list[identify.Answer], str]:
    """Its answers, and one line about it."""
    try:
        peer = Audfprint(how.cache)
    except FileNotFoundError as error:
        progress(f"without {LANDMARK}: {error}")
        return [], str(error)
    peer.prepare({str(path): path for path in stored}, lambda what, done, of: None)
    for path, reason in peer.facts["failed"].items():  # its excerpts could be nothing but misses
        raise ValueError(f"{path}: {LANDMARK} cannot read it ({reason}); take it out of the music, or --no-landmark")
    answers = list(landmark.ask(peer, excerpts, asked))
    progress(f"{LANDMARK}: {len(answers)} answers")
    return answers, peer.facts["digest"]


def _written(
    answers: pd.DataFrame, stored: Sequence[Path], asked: NoiseSettings, how: Comparison, facts: Mapping[str, Any]
) -> dict[str, Any]:
    rates = hits.rates(answers, seed=how.bootstrap)
    baseline = (f"{next(iter(how.systems))}{' untrained' if how.untrained else ''}", max(asked.overlaps))
    apart = hits.differences(answers, baseline=baseline, seed=how.bootstrap)
    seconds = answers.groupby("system", sort=False)["seconds"].mean()
    lines = [
        f"{asked.count} excerpts (seed {asked.seed}) of {len(stored)} recordings; each in a room, half under babble, "
        "half under noise. Intervals: bootstrap over recordings.",
        *(f"{name}: {value:.3f} s an answer." for name, value in seconds.dropna().items()),
        *([] if facts["landmark"] == "not asked" or LANDMARK in seconds else [f"{LANDMARK}: {facts['landmark']}"]),
    ]
    result = {
        "settings": asdict(asked),
        "systems": {name: {"path": str(path), "digest": Encoder(path).digest} for name, path in how.systems.items()},
        "recordings": len(stored),
        "bootstrap": how.bootstrap,
        "versions": results.versions(),
        "seconds": seconds.dropna().to_dict(),
        "rates": _plain(rates),
        "differences": _plain(apart),
        **facts,
    }
    text = tables.text(rates, apart, facts=lines)
    answers.to_parquet(how.out / "answers.parquet")
    (how.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    (how.out / "table.md").write_text(text)
    create_markdown_artifact(key="noise", markdown=text)
    return result | {"table": text}


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON, None for a missing overlap."""
    return json.loads(frame.to_json(orient="records"))


def _silent(line: str) -> None:
    pass


def _named(name: str, progress: Progress) -> Progress:
    return lambda line: progress(f"{name}: {line}")

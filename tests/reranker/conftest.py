"""A small encoder with random weights and stems of six artists, for training and searching in a moment."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder import checkpoint
from encoder.encode import Encoder
from encoder.gnn import GraphNetwork, Stage
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogFrequency
from encoder.systems import System
from encoder.training.pairs import Pairing
from encoder.training.stem_cache import Stem, StemCache, StemCacheWriter, StemTrack
from store.identity import Identity
from store.memory import MemoryReferences

RATE = 16_000
SYSTEM = System(
    name="small",
    about="for tests",
    front_end=LogFrequency(bins=36, f_min=110.0, bins_per_octave=9),
    network=GraphNetwork(
        stages=(Stage(channels=8), Stage(channels=12, stride=(3, 4), blocks=1)),
        node_channels=16,
        neighbours=3,
        expansion=1,
        pooling="bands",
        hidden=32,
        dimensions=16,
    ),
    grid=SegmentGrid(frames=32, step=8, minimum_samples=16_000),  # segments of 1.024 s every 0.256 s
    pairing=Pairing(gain=3.0, transposition=1.0, tempo=(0.9, 1.1)),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are slowed by a second thread, on a busy machine by a factor of ten and more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Two encoders of the same shape with different weights."""
    made = []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp("encoder") / "small.safetensors"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            checkpoint.save(path, replace(SYSTEM, about=f"seed {seed}"), SYSTEM.build(), provenance={})
        made.append(Encoder(path))
    return made


@pytest.fixture(scope="session")
def encoder(encoders):
    return encoders[0]


@pytest.fixture(scope="session")
def music():
    """``music(seed, seconds)``: a new note with two overtones every quarter of a second, (samples,)."""

    def music(seed: int, seconds: float) -> np.ndarray:
        rng, time = np.random.default_rng(seed), np.arange(RATE // 4) / RATE
        pitches = 110 * 2 ** (rng.integers(0, 40, int(4 * seconds)) / 12)
        notes = [sum(np.sin(2 * np.pi * f * k * time) / k for k in (1, 2, 3)) * np.exp(-4 * time) for f in pitches]
        return (0.2 * np.concatenate(notes)).astype(np.float32)

    return music


@pytest.fixture(scope="session")
def cache(tmp_path_factory, music):
    """Eight tracks of 5 s for training, six of 24 s by as many artists for validation, two stems each."""
    directory = tmp_path_factory.mktemp("stems")
    with StemCacheWriter(directory) as writer:
        for number in range(14):
            stems = tuple(Stem(name=name, start=0, scale=0.0) for name in ("lead", "bass"))
            split, seconds = ("train", 5) if number < 8 else ("validation", 24)
            track = StemTrack(track=str(number), group=str(number), split=split, stems=stems, length=0)
            writer.append(track, [music(2 * number, seconds), music(2 * number + 1, seconds)])
    return StemCache.open(directory)


@pytest.fixture(scope="session")
def fewer(cache):
    """The same tracks but for one of the split train."""
    other = StemCache.open(cache.directory)
    other.tracks.remove(next(track for track in other.tracks if track.split == "train"))
    return other


@pytest.fixture
def store(encoder):
    """An empty store for what the small encoder makes."""
    return MemoryReferences(Identity(**encoder.shapes))


@pytest.fixture
def stored(store, encoder, music, tmp_path):
    """Paths of three tracks of 12 s that are in the store."""
    paths = [tmp_path / f"song {number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, music(number, 12), RATE)
    for pending in store.plan(paths).pending:
        store.add(pending, encoder.blocks(pending.path), duration=12.0, title=pending.path.stem)
    return paths


@pytest.fixture(scope="session")
def excerpt():
    """``excerpt(path, start, end)``: from the start of one segment to that of another, a file; 0.256 s a segment."""

    def excerpt(path, start, end):
        samples, _ = soundfile.read(path, dtype="float32")
        cut = path.with_name(f"excerpt {start} {end}.wav")
        soundfile.write(cut, samples[4096 * start : 4096 * end], RATE)
        return cut

    return excerpt


@pytest.fixture(scope="session")
def songs(music):
    """``songs(folder, count=, seconds=)``: the shipped encoder, which has contrast features, and a store of songs."""

    def songs(folder: Path, *, count: int, seconds: int) -> tuple[Encoder, MemoryReferences]:
        encoder = Encoder()
        store = MemoryReferences(Identity(**encoder.shapes))
        paths = [folder / f"song {number}.wav" for number in range(count)]
        for number, path in enumerate(paths):
            soundfile.write(path, music(number, seconds), RATE)
        for pending in store.plan(paths).pending:
            store.add(pending, encoder.blocks(pending.path), duration=float(seconds), title=pending.path.stem)
        return encoder, store

    return songs

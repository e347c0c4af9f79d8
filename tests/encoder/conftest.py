"""A system small enough to build, train and encode in a moment, and stems for it to learn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder import checkpoint
from encoder.gnn import GraphNetwork, Stage
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogFrequency
from encoder.systems import System
from encoder.training.pairs import Pairing
from encoder.training.schedule import Schedule
from encoder.training.stem_cache import Stem, StemCache, StemCacheWriter, StemTrack

RATE = 16_000


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are slowed by a second thread, on a busy machine by a factor of ten and more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def system():
    """Segments of 32 frames (1 s), 36 log-frequency bins, 5 x 4 nodes of 16 channels, fingerprints of 16."""
    return System(
        name="small",
        about="for tests",
        front_end=LogFrequency(bins=36, f_min=110.0, bins_per_octave=9),
        network=GraphNetwork(
            stages=(Stage(channels=8, instance_norm=True), Stage(channels=12), Stage(channels=12, blocks=1)),
            node_channels=16,
            neighbours=3,
            expansion=1,
            drop_path=0.1,
            pooling="bands",
            hidden=32,
            dimensions=16,
        ),
        grid=SegmentGrid(frames=32, step=8, minimum_samples=16_000),
        pairing=Pairing(gain=3.0, transposition=1.0, tempo=(0.9, 1.1)),
        schedule=Schedule(
            epochs=2, steps=4, batch=8, chunk=4, learning_rate=3e-3, warmup=2, validation_pairs=12, temperature=0.1
        ),
    )


@pytest.fixture(scope="session")
def saved(system, tmp_path_factory):
    """Checkpoint of the small system with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(path, system, system.build(), provenance={"made": "by a test"})
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Twelve tracks of 6 s for training and six for validation, each of three instruments that play notes at random."""
    directory = tmp_path_factory.mktemp("stems")
    with StemCacheWriter(directory) as writer:
        for number in range(18):
            stems = tuple(Stem(name=name, start=0, scale=0.0) for name in ("bass", "lead", "drums"))
            split = "train" if number < 12 else "validation"
            track = StemTrack(track=str(number), group=str(number), split=split, stems=stems, length=0)
            writer.append(track, instruments(np.random.default_rng(number)))
    return StemCache.open(directory)


@pytest.fixture(scope="session")
def fewer(cache):
    """The same tracks but for one of the split train."""
    other = StemCache.open(cache.directory)
    other.tracks.remove(next(track for track in other.tracks if track.split == "train"))
    return other


def instruments(rng, seconds=6):
    """Bass, lead and drums: three waveforms."""
    time = np.arange(RATE // 4) / RATE  # notes of a quarter of a second

    def notes(low, high):
        pitches = 110 * 2 ** (rng.integers(low, high, 4 * seconds) / 12)
        return [np.sin(2 * np.pi * f * time) * np.exp(-4 * time) for f in pitches]

    hits = [rng.standard_normal(len(time)) * np.exp(-rng.uniform(10, 60) * time) for _ in range(4)] * seconds
    parts = (np.concatenate(part) for part in (notes(0, 12), notes(18, 40), hits))
    return [(0.3 * part).astype(np.float32) for part in parts]


@pytest.fixture(scope="session")
def changed():
    """``changed(system, schedule={...}, pairing={...})``: the system with other values in these parts."""

    def changed(system, **parts):
        return replace(system, **{name: replace(getattr(system, name), **values) for name, values in parts.items()})

    return changed

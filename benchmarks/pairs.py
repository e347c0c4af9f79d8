"""Training pairs per CPU-second: decoding and stretching every item, and the pipeline, side by side in one run.

    python -m benchmarks.pairs [AUDIO_DIR]      without a folder, on pieces of asid's own

A pair is made when the spectra of both its views are there. Item by item means what a plain loader does: soundfile
reads the excerpt of every stem file the pair needs (and soxr brings it to 16 kHz), librosa changes tempo and pitch of
the mixture. The pipeline reads a stem cache made of the same files; its making, once and for all, is not counted. The
limits are the Fourier transforms alone: two a pair, or three for all mixes of it. The last line is the pace the data
has to keep: one training step, forwards and backwards, of the default network.
"""

import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import librosa
import numpy as np
import pandas
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from benchmarks.encoder import cpu_seconds
from encoder import allocator
from encoder.spectrogram import FrontEnd
from encoder.systems import ASID, System
from encoder.training import augment, losses, stems
from encoder.training.pairs import PairMaker
from encoder.training.sources import Source
from encoder.training.stem_cache import StemCache
from evaluation.pieces import multitracks

PIECES, FILES, PAIRS, ITEMS, ROUNDS = 12, 60, 96, 24, 3


def main() -> None:
    torch.set_num_threads(1)
    allocator.keep_memory()
    with tempfile.TemporaryDirectory(prefix="asid-bench-") as folder:
        music = Path(sys.argv[1]) if len(sys.argv) > 1 else rendered(Path(folder) / "pieces")
        cache = prepared(music, Path(folder) / "cache")
        stored = {track.track for track in cache.tracks}
        sources = [s for s in stems.discover(music) if s.form != "midi" and s.track in stored]
        print(f"{len(sources)} tracks, {sum(len(s.files) for s in sources)} stems; one thread, {PAIRS} pairs a batch")
        print(table(sources, cache).to_string())


def table(sources: list[Source], cache: StemCache) -> pandas.DataFrame:
    """One row per way of making pairs."""
    front_end = FrontEnd(ASID.front_end)
    transform = transforms(ASID)
    rows = {"item by item": (item_by_item(sources, front_end), np.nan)}
    for mixes in (1, 4):
        system = with_mixes(mixes)
        rows[f"pipeline, {mixes} mix{'es' * (mixes > 1)} a batch"] = (
            pipeline(cache, system, front_end),
            mixes / ((3 if mixes > 1 else 2) * transform),
        )
    rows["training step of the network"] = (step(cache, front_end), np.nan)
    frame = pandas.DataFrame(rows, index=["pairs / CPU-s", "limit"]).T
    frame["ratio to item by item"] = frame["pairs / CPU-s"] / frame["pairs / CPU-s"].iloc[0]
    frame["share of limit"] = frame["pairs / CPU-s"] / frame["limit"]
    return frame.round({"pairs / CPU-s": 1, "limit": 0, "ratio to item by item": 1, "share of limit": 2})


def item_by_item(sources: list[Source], front_end: FrontEnd) -> float:
    """Pairs per CPU-second of a loader that decodes and stretches each."""
    rng, grid = np.random.default_rng(0), ASID.grid
    length = ASID.pairing.query_samples(grid, front_end.config.n_fft) / grid.sample_rate
    item(rng, sources, length, front_end)  # librosa imports what it needs when it is first used
    spent = cpu_seconds(lambda: [item(rng, sources, length, front_end) for _ in range(ITEMS)])
    return ITEMS / spent


def item(rng: np.random.Generator, sources: list[Source], seconds: float, front_end: FrontEnd) -> list[torch.Tensor]:
    """One pair: decode, mix, stretch, shift, transform."""
    sample, cover = (excerpt(rng, sources[i], seconds) for i in rng.choice(len(sources), 2, replace=False))
    mixture = sample * 10 ** (rng.uniform(-10, 8) / 20) + cover
    tempo, semitones = np.exp(rng.uniform(*np.log(ASID.pairing.tempo))), rng.uniform(-3, 3)
    stretched = librosa.effects.time_stretch(mixture, rate=tempo)
    query = librosa.effects.pitch_shift(stretched, sr=ASID.grid.sample_rate, n_steps=semitones)
    window = ASID.grid.window(1, front_end.config.n_fft)
    with torch.no_grad():
        return [front_end(torch.from_numpy(fitted(x, window)).unsqueeze(0)) for x in (sample, query)]


def excerpt(rng: np.random.Generator, source: Source, seconds: float) -> NDArray[np.float32]:
    """That many seconds of all stems of a track, mono at 16 kHz, from a random moment on."""
    files, rate = [str(f.path) for f in source.files], ASID.grid.sample_rate
    about = soundfile.info(files[0])
    length = int(seconds * about.samplerate)
    start = int(rng.integers(0, max(about.frames - length, 0) + 1))
    parts = [soundfile.read(f, length, start, dtype="float32", always_2d=True)[0].mean(1) for f in files]
    total = sum(fitted(part, length) for part in parts)
    total = total if about.samplerate == rate else soxr.resample(total, about.samplerate, rate)
    return fitted(total, int(seconds * rate))


def fitted(waveform: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """The beginning of a waveform, zeros behind it."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def pipeline(cache: StemCache, system: System, front_end: FrontEnd) -> float:
    """Pairs per CPU-second of the pipeline, the best of a few batches."""
    maker = PairMaker(cache, system.pairing, system.grid, front_end.config.n_fft, split="train", seed=1)

    def make(number: int) -> list[augment.Views]:
        return list(augment.every(maker.batch(number, PAIRS), front_end, system.grid))

    make(0)
    return system.pairing.mixes * PAIRS / min(cpu_seconds(lambda n=n: make(n)) for n in range(1, 1 + ROUNDS))


def with_mixes(mixes: int) -> System:
    """The default recipe with so many mixes a batch."""
    several = dict(mixes=mixes, interferers=ASID.pairing.interferers if mixes > 1 else 0.0)
    return replace(ASID, pairing=replace(ASID.pairing, **several))


def transforms(system: System) -> float:
    """CPU-seconds of the Fourier transforms of one segment, a few segments at a time."""
    windows = torch.randn(4, system.grid.frames, system.front_end.n_fft)
    torch.fft.rfft(windows)
    return min(cpu_seconds(lambda: [torch.fft.rfft(windows) for _ in range(8)]) for _ in range(ROUNDS)) / 32


def step(cache: StemCache, front_end: FrontEnd) -> float:
    """Pairs per CPU-second of a training step without its data."""
    system = with_mixes(1)
    maker = PairMaker(cache, system.pairing, system.grid, front_end.config.n_fft, split="train", seed=1)
    views, network = augment.views(maker.batch(0, PAIRS), front_end, system.grid), system.build().train()

    def learn() -> None:
        fingerprints = network(torch.cat(views[:2])).fingerprints
        losses.nt_xent(*fingerprints.chunk(2), views.tracks, temperature=0.05).backward()

    learn()
    return PAIRS / min(cpu_seconds(learn) for _ in range(ROUNDS))


def rendered(folder: Path) -> Path:
    """A folder of composed pieces, each as stems."""
    list(multitracks.write(folder, count=PIECES))
    return folder


def prepared(music: Path, out: Path) -> StemCache:
    """A stem cache of the first recordings and stems in a folder."""
    settings = stems.StemSettings(min_beats=0)
    with closing(stems.prepare(music, out, splits=("train",), settings=settings)) as records:
        list(islice(records, FILES))
    return StemCache.open(out)


if __name__ == "__main__":
    main()

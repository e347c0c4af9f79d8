"""Ingestion speed by stage: decode, features, encode, Zarr, Milvus; seconds of CPU, and each stage against its limit.

    python -m benchmarks.ingest [AUDIO_DIR]      without a folder, on the demo's rendered catalogue

The limits, measured in the same run: decode - libsndfile reading the file, without mixing down and resampling;
features - the Fourier transforms alone; encode - the networks' multiply-adds at the speed of large matrix products;
Zarr and Milvus - the same bytes written to one file in one go.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder import cpu_seconds, matrix_speed, operations
from encoder import allocator, audio, segments
from encoder.encode import Encoder
from encoder.encoding import Encoding
from evaluation.pieces.planted import render_catalogue
from flows import assembly
from flows.discover import discover
from flows.settings import Settings
from store.nodes import Nodes

FILES = 12  # read from the folder at most


def main() -> None:
    torch.set_num_threads(1)
    allocator.keep_memory()
    with tempfile.TemporaryDirectory(prefix="asid-bench-") as folder:
        given = [Path(p) for p in sys.argv[1:]] or [Path(render_catalogue(Path(folder) / "audio")[0]).parent]
        files = list(discover(given).files[:FILES])
        encoder = Encoder()
        print(table(files, encoder, Path(folder)).to_string())


def table(files: list[Path], encoder: Encoder, folder: Path) -> pandas.DataFrame:
    """One row per stage."""
    spent, limit, seconds = defaultdict(float), defaultdict(float), 0.0
    peak, encodings = matrix_speed(), []
    for file in files:
        waveform, encoding = stages(file, encoder, spent)
        seconds += len(waveform) / encoder.grid.sample_rate
        encodings.append(encoding)
        limit["decode"] += cpu_seconds(lambda f=file: soundfile.read(f, dtype="float32"))
        limit["features"] += cpu_seconds(lambda w=waveform: transforms(w, encoder))
        limit["encode"] += (len(encoding) * operations(encoder.system) + contrast_operations(waveform, encoder)) / peak
    stored(files, encodings, encoder, folder, spent)
    form = assembly.node_form(Settings(data=folder), encoder)
    limit["Zarr"] = written(folder, [form.kept(e.node_matrices) for e in encodings])
    limit["Milvus"] = written(folder, [e.fingerprints for e in encodings])
    frame = pandas.DataFrame({"CPU-s": spent, "limit CPU-s": limit})
    frame["share"] = frame["CPU-s"] / frame["CPU-s"].sum()
    frame["x real time"] = seconds / frame["CPU-s"]
    frame["times its limit"] = frame["CPU-s"] / frame["limit CPU-s"]
    frame.loc["all"] = [*frame[["CPU-s", "limit CPU-s"]].sum(), 1, seconds / frame["CPU-s"].sum(), np.nan]
    print(f"{len(files)} files, {seconds:.0f} s of audio, one thread")
    return frame.round({"CPU-s": 2, "limit CPU-s": 2, "share": 2, "x real time": 0, "times its limit": 1})


def stages(file: Path, encoder: Encoder, spent: dict[str, float]) -> tuple[np.ndarray, Encoding]:
    """Decode, then features, then both with the network, so that encode is what the network adds."""
    with clocked(spent, "decode"):
        waveform = audio.read(file)
    blocks = list(segments.blocks([waveform], encoder.grid, encoder.front_end.config.n_fft))
    features = cpu_seconds(lambda: [encoder.frames(block) for block in blocks])
    spent["features"] += features
    with clocked(spent, "encode"):
        encoding = encoder.encode_waveform(waveform)
    spent["encode"] -= features
    return waveform, encoding


def stored(files, encodings: list[Encoding], encoder: Encoder, folder: Path, spent: dict[str, float]) -> None:
    """Zarr on its own; the whole of References.add less Zarr is Milvus (and the ledger)."""
    settings = Settings(data=folder / "data")
    with assembly.references(settings, encoder) as references:
        with clocked(spent, "Milvus"):
            for pending, encoding in zip(references.plan(files).pending, encodings, strict=True):
                references.add(pending, [encoding], duration=1.0)
        nodes = Nodes.open(folder / "nodes", references.identity, form=assembly.node_form(settings, encoder))
        with clocked(spent, "Zarr"):
            for track, encoding in enumerate(encodings):
                nodes.write(track, [encoding])
    spent["Milvus"] -= spent["Zarr"]


def contrast_operations(waveform: np.ndarray, encoder: Encoder) -> float:
    """Floating point operations of the contrast network on a track."""
    counter = FlopCounterMode(display=False)
    with counter:
        for _ in encoder.contrast_stream([waveform]):
            pass
    return counter.get_total_flops()


def transforms(waveform: np.ndarray, encoder: Encoder) -> torch.Tensor:
    """The Fourier transforms of a track and nothing else."""
    windows = torch.from_numpy(waveform).unfold(0, encoder.front_end.config.n_fft, encoder.grid.frame_hop)
    return torch.fft.rfft(windows)


def written(folder: Path, arrays: list[np.ndarray]) -> float:
    """CPU-seconds to write the arrays one after the other into one file."""

    def write() -> None:
        with (folder / "plain").open("wb") as file:
            for array in arrays:
                file.write(array.tobytes())

    return cpu_seconds(write)


@contextmanager
def clocked(spent: dict[str, float], stage: str) -> Iterator[None]:
    """Add the block's CPU time to a stage."""
    began = time.process_time()
    yield
    spent[stage] += time.process_time() - began


if __name__ == "__main__":
    main()

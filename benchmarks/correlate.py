"""Correlation speed: queries of several lengths against 20 references of 100 s, on one thread, side by side in one run.

    python -m benchmarks.correlate

The limit is what the search's complex multiply-adds in the Fourier domain would cost at the speed this machine
multiplies large matrices; the rest are the transforms, the norms and the maxima.
"""

import numpy as np
import pandas
import torch

from benchmarks.encoder import cpu_seconds, matrix_speed
from encoder import allocator
from reranker.correlate import BLOCK, Correlation, Correlator

SEMITONES, REFERENCES, SECONDS = 85, 20, 100.0


def main() -> None:
    torch.set_num_threads(1)
    allocator.keep_memory()
    peak, rows = matrix_speed(), [row(seconds) for seconds in (5.0, 20.0, 60.0, 180.0)]
    table = pandas.DataFrame(rows).set_index("query, s")
    table["limit, CPU-s"] = table.pop("operations") / peak
    table["times the limit"] = table["CPU-s"] / table["limit, CPU-s"]
    print(f"one thread, {REFERENCES} references of {SECONDS:.0f} s, large matrices {peak / 1e9:.0f} GFLOP/s")
    print(table.round(2).to_string())


def row(seconds: float) -> dict[str, float]:
    """One line of the table."""
    config, rng = Correlation(explained=0), np.random.default_rng(0)
    references = {number: features(rng, SECONDS, config) for number in range(REFERENCES)}
    query = features(rng, seconds, config)
    spent = cpu_seconds(lambda: Correlator(config)(query, references))
    return {"query, s": seconds, "CPU-s": spent, "operations": operations(len(query), references, config)}


def features(rng: np.random.Generator, seconds: float, config: Correlation) -> np.ndarray:
    """Noise in place of contrast features: the cost does not depend on what is heard."""
    return rng.integers(0, 256, (round(seconds / config.contrast.seconds), SEMITONES)).astype(np.uint8)


def operations(frames: int, references: dict[int, np.ndarray], config: Correlation) -> float:
    """Floating point operations of the products: pieces x tempi x transpositions x frequencies x blocks x semitones."""
    longest = int(np.ceil(config.piece * config.tempo[1]))
    blocks = sum(len(r) + longest for r in references.values()) / (BLOCK - longest)
    variants = len(config.tempi) * len(config.transpositions)
    return 8.0 * (frames // config.piece) * variants * (BLOCK // 2 + 1) * blocks * SEMITONES


if __name__ == "__main__":
    main()

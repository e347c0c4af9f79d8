"""Correlation speed: queries of several lengths against 20 references of 100 s, on one thread, side by side in one run.

    python -m benchmarks.correlate

Fine: every frame, as the best references are compared. Coarse: two frames as one, as all of a long list are. The limit
is what the products of all frames at all transpositions would cost at the speed this machine multiplies large
matrices; the rest are the sums along lines and their maxima.
"""

import numpy as np
import pandas
import torch

from benchmarks.encoder import cpu_seconds, matrix_speed
from encoder import allocator
from reranker.correlate import Correlation, search

SEMITONES, REFERENCES, SECONDS = 85, 20, 100.0


def main() -> None:
    torch.set_num_threads(1)
    allocator.keep_memory()
    row(5.0, coarse=1)  # the first call compiles
    peak, rows = matrix_speed(), [row(s, coarse=c) for c in (1, 2) for s in (5.0, 20.0, 60.0, 180.0)]
    table = pandas.DataFrame(rows).set_index(["frames", "query, s"])
    table["limit, CPU-s"] = table.pop("operations") / peak
    table["times the limit"] = table["CPU-s"] / table["limit, CPU-s"]
    table["ms per reference and 20 s"] = 1000 * table["CPU-s"] / REFERENCES / table.index.get_level_values(1) * 20
    print(f"one thread, {REFERENCES} references of {SECONDS:.0f} s, large matrices {peak / 1e9:.0f} GFLOP/s")
    print(table.round(2).to_string())


def row(seconds: float, *, coarse: int) -> dict[str, float | str]:
    """One line of the table."""
    config, rng = Correlation(), np.random.default_rng(0)
    references = {number: features(rng, SECONDS, config) for number in range(REFERENCES)}
    query = features(rng, seconds, config)
    spent = cpu_seconds(lambda: search(query, references, config, coarse=coarse))
    operations = 2.0 * len(query) * len(config.transpositions) * SEMITONES * REFERENCES * len(references[0]) / coarse**2
    return {"frames": "coarse" if coarse > 1 else "fine", "query, s": seconds, "CPU-s": spent, "operations": operations}


def features(rng: np.random.Generator, seconds: float, config: Correlation) -> np.ndarray:
    """Noise in place of contrast features: the cost does not depend on what is heard."""
    return rng.integers(0, 256, (round(seconds / config.contrast.seconds), SEMITONES)).astype(np.uint8)


if __name__ == "__main__":
    main()

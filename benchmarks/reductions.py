"""Reductions of CLEWS, ours against a plain greedy loop, in one run: `python -m benchmarks.reductions`.

The two cases that matter: a training batch (100 x 100 tracks of 8 shingles, bpwr-5), and one query of ten minutes
against 200 recordings of up to ten (116 x 116 shingles with padding, bpwr-10). Both are also set beside what the
released code took on another machine. Process time of one thread, median of the repetitions.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.reductions import mean_squared_differences, reduce

RELEASED = {"train bpwr-5": 636.0, "track bpwr-10": 805.0}  # ms of process time, reference/clews.md section 12
_REPEATED = 7


def main() -> None:
    """Print a line for each case."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'case':15} {'shape':>20} {'ours ms':>8} {'loop ms':>8} {'x loop':>7} {'x released':>11}")
    batch = torch.rand(100, 100, 8, 8)
    _compare("train bpwr-5", batch, None, "bpwr-5", 5)
    queries = torch.rand(1, 200, 116, 116)
    lengths = torch.randint(30, 117, (200, 1))
    padding = (torch.arange(116) >= lengths).unsqueeze(1).expand(queries.shape)
    _compare("track bpwr-10", queries, padding, "bpwr-10", 10)
    x, y = torch.randn(116, 1024), torch.randn(23_200, 1024)
    print(f"{'distances':15} {'116 x 23200 x 1024':>20} {_milliseconds(lambda: mean_squared_differences(x, y)):8.1f}")


def _compare(case: str, distances: Tensor, excluded: Tensor | None, name: str, count: int) -> None:
    cells = distances.flatten(0, -3).numpy()
    masks = np.zeros(cells.shape, bool) if excluded is None else excluded.flatten(0, -3).numpy()
    apart = np.abs(reduce(distances, name, excluded).flatten().numpy() - _greedy(cells, masks, count)).max()
    if apart > 1e-6:
        raise AssertionError(f"{case}: ours and the loop differ by {apart}")
    ours = _milliseconds(lambda: reduce(distances, name, excluded))
    loop = _milliseconds(lambda: _greedy(cells, masks, count))
    shape = " x ".join(map(str, distances.shape))
    print(f"{case:15} {shape:>20} {ours:8.1f} {loop:8.1f} {loop / ours:7.1f} {RELEASED[case] / ours:11.1f}")


def _greedy(distances: NDArray[np.float32], excluded: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """The least cell, without its row and column the next, and so on, for one pair of tracks after the other."""
    values = []
    for cells, mask in zip(distances, excluded, strict=True):
        cells, found = np.where(mask, np.inf, cells), []
        for _ in range(min(count, *cells.shape)):
            row, column = divmod(int(cells.argmin()), cells.shape[1])
            if cells[row, column] == np.inf:
                break
            found.append(cells[row, column])
            cells[row] = np.inf
            cells[:, column] = np.inf
        values.append(np.mean(found) if found else np.inf)
    return np.array(values)


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATED):
        began = time.process_time()
        work()
        times.append(1000 * (time.process_time() - began))
    return statistics.median(times)


if __name__ == "__main__":
    main()

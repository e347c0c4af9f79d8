"""Alignment speed: lines through scored pairs of one reference against connected components of the same pairs.

    python -m benchmarks.align

Each row: pairs of which a tenth lie along four lines and the rest anywhere, over a query and a reference of that length
at a hop of 0.5 s; one thread, the median of several calls. Components are what two pairs up to 2 s apart in both
recordings belong to: no tempo ratio, no repetition, one long smear where pairs are dense. The rest is their ratio.
"""

import statistics
import time

import numpy as np
import pandas
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from reranker import align
from reranker.rank import Scored
from store.segment_ids import index_of, segment_id

HOP, DURATION, CALLS = 0.5, 4.0, 9
ROWS = ((200, 60.0), (2_000, 60.0), (2_000, 200.0), (2_000, 600.0), (20_000, 3_600.0))  # pairs, seconds
LINES = ((0.1, 1.0, 0.3), (0.3, 0.8, 0.1), (0.55, 1.3, 0.4), (0.8, 1.0, 0.7))  # query, tempo ratio, reference: shares


def main() -> None:
    torch.set_num_threads(1)
    print(pandas.DataFrame([row(*each) for each in ROWS]).set_index(["pairs", "seconds"]).round(2).to_string())


def row(pairs: int, seconds: float) -> dict[str, float]:
    """One line of the table."""
    given = scored(np.random.default_rng(0), pairs, round(seconds / HOP))
    found = align.occurrences(given, hop=HOP, duration=DURATION)
    aligned = milliseconds(lambda: align.occurrences(given, hop=HOP, duration=DURATION))
    components = milliseconds(lambda: joined(given))
    return {
        "pairs": pairs, "seconds": seconds, "occurrences": len(found), "components": joined(given),
        "aligned, ms": aligned, "components, ms": components, "ratio": aligned / components,
    }  # fmt: skip


def scored(rng: np.random.Generator, pairs: int, steps: int) -> Scored:
    """Four lines, and pairs anywhere."""
    along = np.arange(pairs // 40)
    lines = [np.stack([int(start * steps) + along, np.round(at * steps + ratio * along)]) for start, ratio, at in LINES]
    anywhere = rng.integers(0, steps, (2, pairs - 4 * len(along)))
    query, reference = np.concatenate([*lines, anywhere], axis=1).astype(np.int64)
    scores = rng.uniform(0.5, 1.0, len(query)).astype(np.float32)
    return Scored(query_indices=query, segment_ids=segment_id(1, reference), scores=scores)


def joined(given: Scored) -> int:
    """How many components the pairs have."""
    starts = np.stack([given.query_indices * HOP, index_of(given.segment_ids) * HOP], axis=1)
    near = KDTree(starts).query_pairs(2.0, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(near), bool), tuple(near.T)), shape=(len(starts), len(starts)))
    return connected_components(graph, directed=False)[0]


def milliseconds(call) -> float:
    """Median processor time of a call, after a first one."""
    call()
    spent = []
    for _ in range(CALLS):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return 1000 * statistics.median(spent)


if __name__ == "__main__":
    main()

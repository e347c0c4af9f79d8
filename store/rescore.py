"""Exact similarities for the candidates of a quantised index.

Product quantisation (64 bytes for 128 numbers) blurs each similarity a little, which costs some 5 points of recall at
20 candidates. The right segments are nearly always among the first hundred, though: ask for more than are wanted,
compare the stored fingerprints of those with the query, and keep the best.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from store.candidates import Candidates

_BLOCK = 1 << 16  # candidates compared at a time: 64 MiB at 128 dimensions


def rescore(
    found: Candidates,
    queries: NDArray[np.float32],
    stored: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    *,
    limit: int,
) -> Candidates:
    """The ``limit`` best candidates of each query row by their exact inner product, in the order of Candidates.

    ``queries`` are the fingerprints (queries, dimensions) that were asked for, L2-normalised; ``stored`` gives those of
    segments, (ids,) -> (ids, dimensions), and is called once with each id that occurs, rising.
    """
    ids, position = np.unique(found.segment_ids, return_inverse=True)
    fingerprints = stored(ids)
    if fingerprints.shape != (len(ids), queries.shape[1]):
        raise ValueError(
            f"{len(ids)} segments need fingerprints {len(ids), queries.shape[1]}, got {fingerprints.shape}"
        )
    similarities = np.empty(len(found), np.float32)
    for start in range(0, len(found), _BLOCK):
        block = slice(start, start + _BLOCK)
        pairs = queries[found.query_rows[block]], fingerprints[position[block]]
        similarities[block] = np.einsum("ij,ij->i", *pairs)
    return (
        Candidates(query_rows=found.query_rows, segment_ids=found.segment_ids, similarities=similarities)
        .ordered()
        .first(limit)
    )

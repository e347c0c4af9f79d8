"""Candidates: the reference segments that an index returns for query segments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Reference segments returned for query segments; by query row, then falling similarity."""

    query_rows: NDArray[np.int64]  # (candidates,), row of the fingerprint asked for
    segment_ids: NDArray[np.int64]  # (candidates,)
    similarities: NDArray[np.float32]  # (candidates,), inner products

    def __post_init__(self) -> None:
        lengths = (len(self.query_rows), len(self.segment_ids), len(self.similarities))
        if len(set(lengths)) != 1:
            raise ValueError(f"candidates must have equal lengths, got (rows, ids, similarities) = {lengths}")

    def __len__(self) -> int:
        return len(self.query_rows)

    def pick(self, kept: NDArray) -> "Candidates":
        """The candidates at these positions, or where this mask is true."""
        return Candidates(
            query_rows=self.query_rows[kept], segment_ids=self.segment_ids[kept], similarities=self.similarities[kept]
        )

    def ordered(self) -> "Candidates":
        """By query row, then falling similarity, then segment id, so that equal similarities have one order."""
        return self.pick(np.lexsort((self.segment_ids, -self.similarities, self.query_rows)))

    def first(self, limit: int) -> "Candidates":
        """The first ``limit`` of each query row, from candidates that are ordered."""
        starts = np.searchsorted(self.query_rows, self.query_rows, side="left")
        return self.pick(np.arange(len(self)) - starts < limit)

"""Precision at k over sounds: of the k nearest by Euclidean distance, how many have the query's label.

P@k counts all neighbours, ii-P@k ("pruned") only those of another technique than the query's, since the same technique
at another pitch is no discovery (Vahidi et al., WASPAA 2023). Both are sums over the queries: right neighbours divided
by counted ones.

    published   as the released code counts: of the 100 nearest, those of the same technique leave the list, the first k
                that are left count. A shorter list counts with its length, and a query whose 100 nearest are all of its
                own technique counts nothing: the hardest queries are dropped.
    strict      the list has no end and each query counts k; equally near ones are ordered wrong before right. Only a
                query to which nothing is relevant is left out. `ceiling` is what a perfect system would reach, since
                some queries have fewer than k relevant sounds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LIST = 100  # nearest sounds that the released code looks at
_CHUNK = 256  # queries at a time


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Of each query; sums of either make the value."""

    right: NDArray[np.int64]  # (queries,) neighbours with the query's label
    counted: NDArray[np.int64]  # (queries,) neighbours that count; 0: the query is left out
    relevant: NDArray[np.int64]  # (queries,) sounds with the query's label that may be found

    @property
    def value(self) -> float:
        """The precision, NaN where nothing counts."""
        return float(self.right.sum() / total) if (total := self.counted.sum()) else float("nan")

    @property
    def dropped(self) -> int:
        """Queries that are left out."""
        return int(np.count_nonzero(self.counted == 0))

    @property
    def ceiling(self) -> float:
        """What the value would be were every relevant sound nearer than every other."""
        best = np.minimum(self.relevant, self.counted)
        return float(best.sum() / total) if (total := self.counted.sum()) else float("nan")

    def drawn(self, counts: NDArray) -> NDArray[np.float64]:
        """The value over each draw of queries, from (draws, queries) how often each was drawn."""
        return (counts @ self.right) / (counts @ self.counted)


def published(
    embeddings: NDArray[np.float32], labels: NDArray, techniques: NDArray, *, k: int = 5, pruned: bool = True
) -> Precision:
    """Each of (sounds, channels) against all others, by the released rule."""
    rows = _Rows(embeddings, labels, techniques, np.arange(len(labels)))
    right, counted, relevant = [], [], []
    for queries, distances in rows.chunks():
        order = np.argsort(distances, axis=1, kind="stable")
        for query, nearest in zip(queries, order, strict=True):
            others = nearest[nearest != query][:_LIST]
            kept = others[techniques[others] != techniques[query]] if pruned else others
            right.append(np.count_nonzero(labels[kept[:k]] == labels[query]))
            counted.append(len(kept[:k]))
        relevant.append(rows.relevant(queries, pruned=pruned))
    return Precision(right=np.array(right), counted=np.array(counted), relevant=np.concatenate(relevant))


def strict(
    embeddings: NDArray[np.float32],
    labels: NDArray,
    techniques: NDArray,
    *,
    queries: NDArray[np.int64] | None = None,
    k: int = 5,
    pruned: bool = True,
) -> Precision:
    """The queries (rows of `embeddings`; None: each) against all other sounds."""
    asked = np.arange(len(labels)) if queries is None else queries
    rows = _Rows(embeddings, labels, techniques, asked)
    right, relevant = [], []
    for some, distances in rows.chunks():
        wrong = labels != labels[some, None]
        barred = techniques == techniques[some, None] if pruned else np.arange(len(labels)) == some[:, None]
        distances[barred] = np.inf
        order = np.lexsort((~wrong, distances), axis=1)[:, :k]
        found = np.take_along_axis(~wrong & ~barred, order, axis=1)
        right.append(found.sum(axis=1))
        relevant.append(rows.relevant(some, pruned=pruned))
    relevant = np.concatenate(relevant)
    return Precision(right=np.concatenate(right), counted=np.where(relevant > 0, k, 0), relevant=relevant)


class _Rows:
    """Sounds, and the distances of the queries to all of them, some queries at a time."""

    def __init__(self, embeddings: NDArray, labels: NDArray, techniques: NDArray, queries: NDArray) -> None:
        lengths = (len(embeddings), len(labels), len(techniques))
        if len(set(lengths)) != 1:
            raise ValueError(f"sounds must agree, got (embeddings, labels, techniques) = {lengths}")
        self._embeddings = np.asarray(embeddings, np.float64)
        self._labels, self._techniques, self._queries = labels, techniques, queries
        self._squares = np.square(self._embeddings).sum(axis=1)

    def chunks(self):
        """(queries,) and their squared distances (queries, sounds)."""
        for start in range(0, len(self._queries), _CHUNK):
            some = self._queries[start : start + _CHUNK]
            products = self._embeddings[some] @ self._embeddings.T
            yield some, self._squares[some, None] - 2 * products + self._squares

    def relevant(self, queries: NDArray, *, pruned: bool) -> NDArray[np.int64]:
        """How many sounds have the label of each query and may be found."""
        alike = self._labels == self._labels[queries, None]
        if pruned:
            return (alike & (self._techniques != self._techniques[queries, None])).sum(axis=1)
        return alike.sum(axis=1) - 1

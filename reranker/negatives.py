"""Hard negatives: for each anchor the most similar segments that are wrong (NeuralSampleID, section 3.3).

For query view i every reference view j != i of another track may be a negative; the positive (j = i) never is, nor
are other moments of the same track, which may hold the same loop.
"""

import torch
from torch import Tensor


def mine(queries: Tensor, references: Tensor, tracks: Tensor, *, count: int) -> Tensor:
    """Indices (pairs, count) of the references most similar to each query, right ones excluded, hardest first.

    Both sides are (pairs, dimensions) fingerprints; row i of one belongs to row i of the other, `tracks` (pairs,)
    tells which pairs are of one track. Raises ValueError where a query has fewer than `count` wrong references.
    """
    wrong = tracks.unsqueeze(1) != tracks.unsqueeze(0)  # (queries, references)
    fewest = int(wrong.sum(1).min())
    if fewest < count:
        raise ValueError(f"a query has {fewest} wrong references in its batch, expected {count}; use larger batches")
    similarities = (queries @ references.T).masked_fill(~wrong, -torch.inf)
    return similarities.topk(count, dim=1).indices

"""Hard negatives: for each anchor the most similar segments that are wrong (NeuralSampleID, section 3.3).

Among the pairs of a batch, for query view i every reference view j != i of another track may be a negative; the
positive (j = i) never is, nor are other moments of the same track, which may hold the same loop, nor moments of what
lies over the query. In a catalogue of recordings, as an index holds them, every segment is one but those of the tracks
that are heard in the query view.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from encoder.encode import Encoder
from encoder.training.stem_cache import StemCache, StemTrack


def mine(queries: Tensor, references: Tensor, heard: Tensor, *, count: int) -> Tensor:
    """Indices (pairs, count) of the references most similar to each query, right ones excluded, hardest first.

    Both sides are (pairs, dimensions) fingerprints; row i of one belongs to row i of the other. `heard` (pairs, any)
    are the tracks that sound in a query, first that of its pair. Raises ValueError where a query has fewer than `count`
    wrong references.
    """
    return _hardest(queries, references, _unheard(heard[:, 0], heard), count, "its batch")


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Segments of the recordings of one split, as a catalogue holds them."""

    fingerprints: Tensor  # (segments, dimensions)
    node_matrices: Tensor  # (segments, nodes, channels), float16
    tracks: Tensor  # (segments,) number of the track among those of its split

    @classmethod
    def of(cls, tracks: list[StemTrack], cache: StemCache, encoder: Encoder, *, seconds: float) -> Self:
        """The mixes of the tracks, encoded; of longer ones so many seconds from the middle."""
        most, found = round(seconds * encoder.grid.sample_rate), []
        for track in tracks:
            length = min(track.length, most)
            found.append(encoder.encode_waveform(cache.read(track, (track.length - length) // 2, length).sum(axis=0)))
        owners = np.repeat(np.arange(len(found)), [len(encoding) for encoding in found])
        return cls(
            fingerprints=torch.from_numpy(np.concatenate([encoding.fingerprints for encoding in found])),
            node_matrices=torch.from_numpy(np.concatenate([encoding.node_matrices for encoding in found])),
            tracks=torch.from_numpy(owners),
        )

    def mine(self, queries: Tensor, heard: Tensor, *, count: int) -> Tensor:
        """Indices (pairs, count) of the segments most similar to each query, of no track `heard` in it, (pairs, any).

        Hardest first; ValueError where a query has fewer.
        """
        wrong = _unheard(self.tracks.to(heard.device), heard)
        return _hardest(queries, self.fingerprints.to(queries.device), wrong, count, "the recordings")


def _unheard(tracks: Tensor, heard: Tensor) -> Tensor:
    """(queries, references) whether the track of a reference is none of those `heard` (queries, any) in a query."""
    return (tracks != heard.unsqueeze(2)).all(dim=1)


def _hardest(queries: Tensor, references: Tensor, wrong: Tensor, count: int, place: str) -> Tensor:
    fewest = int(wrong.sum(1).min())
    if fewest < count:
        raise ValueError(f"a query has {fewest} wrong references in {place}, expected {count}; use more of them")
    return (queries @ references.T).masked_fill(~wrong, -torch.inf).topk(count, dim=1).indices

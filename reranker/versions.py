"""Versions: the segments of a query and of each candidate track -> references ranked by their reduced distance (CLEWS).

Candidates from the index only say which references come into question; those are then compared whole, every segment of
the query with every stored segment of the reference, and the distances reduced (encoder/reductions.py). The raw
embeddings are compared, which a CLEWS encoder keeps as node matrices of one node.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder import reductions
from encoder.encoding import Encoding
from reranker.rank import Match, Occurrence
from store.candidates import Candidates
from store.catalogue import Track
from store.references import References
from store.segment_ids import index_of, segment_id, track_of

_TRACKS = 100  # compared at a time
Vectors = NDArray[np.floating]  # (segments, dimensions) of one track


@dataclass(frozen=True, kw_only=True)
class VersionRanker:
    """Ranks the references among the candidates."""

    reduction: str = "bpwr-10"

    def __post_init__(self) -> None:
        reductions.parsed(self.reduction)

    def __call__(self, query: Encoding, candidates: Candidates, references: References) -> tuple[Match, ...]:
        """One match a reference, best first; score: the reduced distance, negative; place: the nearest two segments."""
        if not len(candidates):
            return ()
        numbers = np.unique(track_of(candidates.segment_ids)).tolist()
        tracks = references.tracks(numbers)
        ids = [_audible(tracks[number], references) for number in numbers]
        if query.node_matrices.shape[1] != 1:
            raise ValueError(
                f"versions: node matrices have {query.node_matrices.shape[1]} nodes, expected the one embedding of a "
                "clews encoder; use its checkpoint"
            )
        ends = np.cumsum([len(part) for part in ids])[:-1]
        stored = np.split(references.node_matrices(np.concatenate(ids))[:, 0], ends)
        vectors = query.node_matrices[:, 0]
        distances = between([vectors], stored, self.reduction)[0]
        matches = [
            _match(query, vectors, tracks[number], own, kept, float(distance))
            for number, own, kept, distance in zip(numbers, ids, stored, distances, strict=True)
        ]
        return tuple(sorted(matches, key=lambda match: -match.score))


def between(queries: Sequence[Vectors], candidates: Sequence[Vectors], reduction: str) -> NDArray[np.float32]:
    """(queries, candidates) reduced distances between tracks of any number of segments; infinite where one has none."""
    distances = np.full((len(queries), len(candidates)), np.inf, np.float32)
    for first in range(0, len(candidates), _TRACKS):
        part = candidates[first : first + _TRACKS]
        joined = torch.from_numpy(np.concatenate(part)).float()
        if not len(joined):
            continue
        places, excluded = _padded([len(track) for track in part])
        for row, query in enumerate(queries):
            if len(query):
                cells = reductions.mean_squared_differences(torch.from_numpy(query).float(), joined)
                cells = cells[:, places].transpose(0, 1)  # (candidates, query segments, candidate segments)
                distances[row, first : first + len(part)] = reductions.reduce(cells, reduction, excluded.unsqueeze(1))
    return distances


def _padded(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For tracks laid end to end, the place of each of their segments (tracks, longest), and which are padding."""
    ends = torch.tensor(lengths).cumsum(0)
    within = torch.arange(max(lengths)).expand(len(lengths), -1)
    excluded = within >= torch.tensor(lengths).unsqueeze(1)
    return (within + (ends - torch.tensor(lengths)).unsqueeze(1)).masked_fill(excluded, 0), excluded


def _audible(track: Track, references: References) -> NDArray[np.int64]:
    """Ids of a track's segments that are not silent."""
    ids = segment_id(track.number, np.arange(track.rows or 0))
    return ids[references.fingerprints(ids).any(axis=1)]


def _match(
    query: Encoding, vectors: Vectors, track: Track, ids: NDArray[np.int64], stored: Vectors, distance: float
) -> Match:
    cells = reductions.mean_squared_differences(torch.from_numpy(vectors).float(), torch.from_numpy(stored).float())
    row, column = divmod(int(cells.argmin()), len(stored))
    start, heard = float(query.starts[row]), float(index_of(ids[column])) * query.hop
    end = min(heard + query.segment_duration, track.duration or np.inf)  # the last segment goes on with the start
    place = Occurrence(query_span=(start, start + query.segment_duration), reference_span=(heard, end))
    return Match(reference=track, score=-distance, confidence=None, occurrences=(place,))

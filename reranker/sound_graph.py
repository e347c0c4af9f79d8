"""Sound graph: a sound and its candidates -> ranked sounds, by where one graph over all of them puts each (AN-GNN).

A candidate is found by its fingerprint, which a network makes of the sound alone. Then query and candidates are linked
to each other (encoder/adaptive_graph.py), so that a sound's place depends on what else there is, and are ranked by the
Euclidean distance of their raw embeddings. Asked about is the first segment of the query that is not silent: the hit,
not its tail. Of a reference that is longer than a segment, the nearest of its segments counts.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from encoder.adaptive_graph import SoundNetwork
from encoder.encoding import Encoding
from reranker.rank import Match, Occurrence
from store.candidates import Candidates
from store.catalogue import Track
from store.references import References
from store.segment_ids import index_of, track_of


class SoundGraphRanker:
    """Ranks references by the distance of their nearest candidate."""

    def __init__(self, network: SoundNetwork) -> None:
        """ValueError where the network is not one of sounds."""
        if not isinstance(network, SoundNetwork):
            raise ValueError(
                f"sound graph: the network is a {type(network).__name__}, expected one of an-gnn; use its checkpoint"
            )
        self.network = network

    def __call__(self, query: Encoding, candidates: Candidates, references: References) -> tuple[Match, ...]:
        """One match a reference, nearest first, with its place; score: the distance, negative."""
        ids = np.unique(candidates.segment_ids[candidates.query_rows == 0])
        if not len(ids):
            return ()
        distances = self.distances(query.node_matrices[0], references.node_matrices(ids))
        order = np.lexsort((ids, distances))
        nearest = order[np.sort(np.unique(track_of(ids[order]), return_index=True)[1])]  # the first of each track
        tracks = references.tracks(track_of(ids[nearest]).tolist())
        return tuple(_match(query, ids[i], distances[i], tracks[int(track_of(ids[i]))]) for i in nearest)

    @torch.inference_mode()
    def distances(self, query: NDArray[np.float16], nodes: NDArray[np.float16]) -> NDArray[np.float64]:
        """(candidates,) of a node (1, channels) from nodes (candidates, 1, channels), all of them one graph."""
        together = torch.from_numpy(np.concatenate([query[None], nodes]))[:, 0].float()
        place = next(self.network.buffers()).device
        embeddings = self.network.embed(together.to(place)).double().cpu()
        return (embeddings[1:] - embeddings[0]).norm(dim=1).numpy()


def _match(query: Encoding, segment: np.int64, distance: float, track: Track) -> Match:
    first = float(query.starts[0])
    start = float(index_of(segment)) * query.hop
    end = min(start + query.segment_duration, track.duration or np.inf)
    place = Occurrence(query_span=(first, first + query.segment_duration), reference_span=(start, max(end, start)))
    return Match(reference=track, score=-float(distance), confidence=None, occurrences=(place,))

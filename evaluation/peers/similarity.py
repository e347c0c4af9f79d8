"""Similarity: the ranking of an encoder without a reranker, from the similarities of fingerprints alone.

A reference scores as high as its most similar segment. Music that is unrelated has a similarity of 0.4 to 0.6, so a sum
tells who has many candidates: in a trial on music of the validation split, with the shipped encoder and the published
network, it ranked and rejected worse. Sums of what exceeds the query's median, and soft maxima, ranked as well as the
maximum but told sample-free queries less well.

No published operating point exists. `bar` makes one from the catalogue itself: excerpts of its tracks are asked for
with their own track left out, and a match is reported where it scores as high as what 95 % of these sample-free queries
do not exceed.
"""

from collections.abc import Sequence

import numpy as np

from encoder.encode import Encoder
from reranker.rank import Scored
from store.catalogue import Track
from store.references import References
from store.segment_ids import track_of

RULE = "maximum of similarities, aligned"  # another text whenever answers may change
_EXCERPTS = 40  # sample-free queries that the bar is made from
_LENGTH = 40  # segments of one: 20 s
_QUANTILE = 0.95


def songs(scored: Scored) -> dict[int, float]:
    """Track number -> highest similarity of its candidates, best first, ties by track number."""
    tracks, owner = np.unique(track_of(scored.segment_ids), return_inverse=True)
    best = np.full(len(tracks), -np.inf)
    np.maximum.at(best, owner, scored.scores)
    order = np.lexsort((tracks, -best))
    return {int(tracks[i]): float(best[i]) for i in order}


def bar(
    encoder: Encoder, stored: References, tracks: Sequence[Track], *, candidates: int, without: Sequence[int] = ()
) -> float:
    """Score that 5 % of excerpts of these tracks exceed with a wrong track; infinite where there are fewer than two.

    Tracks `without` are not of the catalogue, though they are stored.
    """
    chosen = [tracks[i] for i in np.unique(np.linspace(0, len(tracks) - 1, min(len(tracks), _EXCERPTS)).astype(int))]
    best = [_best_wrong(encoder, stored, track, candidates, without) for track in chosen if track.path.is_file()]
    best = [score for score in best if score is not None]
    return float(np.quantile(best, _QUANTILE, method="higher")) if best else np.inf


def _best_wrong(
    encoder: Encoder, stored: References, track: Track, candidates: int, without: Sequence[int]
) -> float | None:
    """Best score of another track for 20 s of this one; None where there is nothing to compare."""
    block = next(encoder.blocks(track.path))
    first = max(0, (len(block) - _LENGTH) // 2)
    fingerprints = block.fingerprints[first : first + _LENGTH]
    found = stored.candidates(fingerprints, limit=candidates, exclude_tracks=[track.number, *without])
    scored = Scored(query_indices=found.query_rows, segment_ids=found.segment_ids, scores=found.similarities)
    return next(iter(songs(scored).values()), None)

"""Patches: candidates of query segments -> how much query and reference are alike around each, by coarse frames.

A fingerprint of four seconds is a rough ear: among 20 hours of music the segment that is truly sampled is often the
200th. Contrast features are a finer one, but too slow for whole references. So six seconds of the query are slid over
ten seconds of the reference around each candidate, with frames of a quarter of a second and half the tempi, which takes
0.2 ms. What a patch reaches is measured against the other patches of the same query segment, as in
reranker/correlate.py.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.encoding import Encoding
from reranker.correlate import NOISE, QUIETEST, Correlation, coarsened
from reranker.rank import Scored
from reranker.slide import Asked, Lines, highest, one_core_each
from store.reading import Stored
from store.segment_ids import index_of, track_of

QUERY = (1.0, 5.0)  # seconds before the start of a query segment and after it, that are slid
REFERENCE = (3.0, 7.0)  # the same of a candidate, over which they are: room for fast tempi
_APART = 6.0  # seconds up to which two candidates of one query segment in one reference are one
_COARSER = 2  # times as long frames, and steps of tempo, as those that many references are compared with
_EVERY = 2  # of the values that tell the deviation of all


@torch.inference_mode()
def scored(query: Encoding, candidates: Scored, references: Stored, correlation: Correlation) -> Scored:
    """The distinct candidates, with the surplus that their patches reach in place of their similarities, 0 or more."""
    kept = distinct(candidates, hops=round(_APART / query.hop))
    config = replace(correlation, tempo_step=_COARSER * correlation.tempo_step)
    scores = np.zeros(len(kept.scores), np.float32)
    before, after = _hops(REFERENCE, query.hop)
    with one_core_each() as pool:
        waiting = []
        for rows in _by_query_segment(kept):
            ids = kept.segment_ids[rows]
            patches = references.stretches(track_of(ids), index_of(ids) - before, hops=before + after)
            mine = _around(query, int(kept.query_indices[rows[0]]), piece=config.piece)
            waiting.append((rows, pool.submit(_surplus, mine, patches, config)))
        for rows, future in waiting:
            scores[rows] = future.result()
    return replace(kept, scores=scores)


def distinct(candidates: Scored, *, hops: int) -> Scored:
    """Of the candidates of one query segment that lie so near to each other in one reference only the best."""
    order = np.lexsort((candidates.segment_ids, -candidates.scores, candidates.query_indices))
    taken: dict[tuple[int, int], list[int]] = {}
    kept = []
    numbers, places = track_of(candidates.segment_ids).tolist(), index_of(candidates.segment_ids).tolist()
    for row in order.tolist():
        there = taken.setdefault((int(candidates.query_indices[row]), numbers[row]), [])
        if all(abs(places[row] - place) > hops for place in there):
            there.append(places[row])
            kept.append(row)
    return candidates.where(np.array(kept, np.int64))


def _by_query_segment(candidates: Scored) -> Iterator[NDArray[np.int64]]:
    """Rows of each query segment."""
    _, starts = np.unique(candidates.query_indices, return_index=True)
    return iter(np.split(np.arange(len(candidates.scores)), starts[1:])) if len(starts) else iter(())


def _around(query: Encoding, hop: int, *, piece: int) -> NDArray[np.uint8]:
    before, after = _hops(QUERY, query.hop)
    return query.heard(slice(max(hop - before, 0), hop + after), piece=piece)


def _hops(seconds: tuple[float, float], hop: float) -> tuple[int, int]:
    return round(seconds[0] / hop), round(seconds[1] / hop)


def _surplus(mine: NDArray[np.uint8], patches: NDArray[np.uint8], config: Correlation) -> NDArray[np.float32]:
    """(patches,) of patches (patches, frames, bins): the sum over pieces at the best common warp."""
    coarse = _COARSER * config.coarse
    lines = Lines(config.tempi, max(config.piece // coarse, 1))
    frames = coarsened(mine, coarse)
    if len(frames) < lines.piece:
        return np.zeros(len(patches), np.float32)
    peaks = highest(Asked(frames, config.transpositions, lines.piece), [_coarsened(patches, coarse).unbind()], lines)
    over = _over(peaks, config.surplus)
    cells = np.square(over).sum(axis=(0, 1)) * config.belief[..., None]
    return cells.reshape(-1, len(patches)).max(axis=0)


def _coarsened(patches: NDArray[np.uint8], count: int) -> Tensor:
    """(patches, frames // count, bins): as `correlate.coarsened` makes each of them."""
    kept = torch.from_numpy(patches[:, : patches.shape[1] // count * count])
    means = kept.float().unflatten(1, (-1, count)).mean(2)
    return means - means.mean(1, keepdim=True)


def _over(peaks: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    """As `correlate.surplus` without what each reference has of its own: patches are equally long, and many."""
    pieces, spans = peaks.shape[:2]
    over = peaks - np.median(peaks, axis=(3, 4), keepdims=True)
    spread = np.median(np.abs(over.reshape(pieces, spans, -1)[..., ::_EVERY]), axis=2) * NOISE
    over /= np.maximum(spread, QUIETEST)[..., None, None, None]
    over[-1, 1] = 0  # the last piece begins no span of two
    return np.maximum(over - least, 0)

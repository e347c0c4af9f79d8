"""Short list: what of the references each window of a query is correlated with.

All of them, whole, where there is time for that. Else the index gives candidates, and stretches of the likeliest
references are taken, as many as there is time for: those around the candidates with the best patches
(reranker/patches.py), or, with quality "best", those that are most like the window of all that the references of the
best candidates hold (reranker/stretches.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from encoder.encoding import Encoding
from reranker import patches, stretches
from reranker.correlate import Correlation, Features
from reranker.rank import Ranking, Scored, by_best, within
from store.candidates import Candidates
from store.reading import Stored
from store.segment_ids import index_of


@dataclass(frozen=True, kw_only=True)
class Part:
    """A window of a query and what it is correlated with."""

    hops: slice  # of the query
    features: Mapping[int, Features]  # by track number
    whole: bool  # whether these are of whole references
    among: int  # references that these were chosen from
    asked: int  # frames of all windows, or fewer where there is patience: the more, the fewer are compared finely


_Chosen = Callable[[slice], dict[int, Features]]  # what of which references a window is correlated with


def parts(
    query: Encoding, cut: Sequence[slice], references: Stored, ranking: Ranking, correlation: Correlation, *,
    exclude: Sequence[int] = (),
) -> Iterator[Part]:  # fmt: skip
    """One for each of the windows that the query is cut into; track numbers to `exclude` stay away."""
    seconds = sum(window.stop - window.start for window in cut) * query.hop  # what windows share counts in each
    asked = max(round(seconds / correlation.contrast.seconds / ranking.patience), 1)
    if (every := _all(references, ranking, seconds, exclude)) is not None:
        features = references.features(every)
        yield from (Part(hops=window, features=features, whole=True, among=len(every), asked=asked) for window in cut)
        return
    asked = max(round(asked * correlation.effort / ranking.local), 1)
    among = references.counts().stored - len(exclude)
    candidates = wide(query, references, ranking, exclude=exclude)
    given = (query, candidates, references, ranking, correlation, asked)
    best = ranking.quality == "best"
    chosen = _likest(*given, reach=ranking.rough / seconds) if best else _around_patches(*given)
    for window in cut:
        yield Part(hops=window, features=chosen(window), whole=False, among=among, asked=asked)


def wide(query: Encoding, references: Stored, ranking: Ranking, *, exclude: Sequence[int] = ()) -> Scored:
    """Candidates: of few query segments, but so many that most references are among them."""
    asking = slice(None, None, ranking.every)
    fingerprints = query.fingerprints[asking]
    limit = ranking.limit(len(fingerprints))
    candidates = references.candidates(fingerprints, limit=limit, exclude_tracks=exclude, exact=False)
    return by_similarity(candidates, query, asking)


def by_similarity(candidates: Candidates, query: Encoding, asking: slice = slice(None)) -> Scored:
    """Candidates that these segments of the query asked for, their similarity as score."""
    return Scored(
        query_indices=query.segment_indices[asking][candidates.query_rows],
        segment_ids=candidates.segment_ids,
        scores=candidates.similarities,
    )


def _all(references: Stored, ranking: Ranking, seconds: float, exclude: Sequence[int]) -> list[int] | None:
    """Numbers of all references, where there is time for them or they are few; else None."""
    stored, left_out = references.counts(), references.tracks(exclude)
    duration = stored.duration - sum(track.duration for track in left_out.values())
    if stored.stored - len(exclude) > ranking.shortlist and duration > ranking.reach(seconds):
        return None
    return sorted({track.number for track in references.catalogue.tracks("stored")} - set(exclude))


def _around_patches(
    query: Encoding, candidates: Scored, references: Stored, ranking: Ranking, correlation: Correlation, asked: int
) -> _Chosen:
    """Of the references with the best patches of a window the stretches around these."""
    scored = patches.scored(query, candidates, references, correlation)
    hops, frames_of_hop = round(ranking.stretch / references.identity.hop), references.identity.contrast_frames

    def chosen(window: slice) -> dict[int, Features]:
        best = by_best(scored.within(window))
        rows = references.catalogue.rows(list(best))
        lengths = [min(rows[number], hops) * frames_of_hop for number in best]
        fit = correlation.fine(asked, lengths)
        numbers, centres = list(best)[:fit], index_of(list(best.values())[:fit])
        found = references.stretches(numbers, centres - hops // 2, hops=hops)
        return {number: features[:length] for number, features, length in zip(numbers, found, lengths)}

    return chosen


def _likest(
    query: Encoding, candidates: Scored, references: Stored, ranking: Ranking, correlation: Correlation, asked: int,
    *, reach: float,
) -> _Chosen:  # fmt: skip
    """Of the references with the best candidates of a window, so many seconds in all, the stretches most like it."""

    def chosen(window: slice) -> dict[int, Features]:
        numbers = list(by_best(candidates.within(window)))
        tracks = references.tracks(numbers)
        listed = numbers[: within([tracks[n].duration for n in numbers], reach, least=1)]
        mine = query.heard(window, piece=correlation.piece)
        return stretches.likest(mine, references.features(listed), correlation, seconds=ranking.stretch, asked=asked)

    return chosen

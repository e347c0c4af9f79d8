"""Search: a query in, its matches out. `Searcher` is the product; everything else exists so that it stays readable.

encode -> candidates (Milvus) -> a short list for each window (Zarr) -> explanations (correlation)
                              or -> node matrices (Zarr) -> scores (cross-attention)      -> ranked matches
                              or -> what the system has of its own (reranker/rankers.py)  -> ranked matches
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from encoder.encode import Encoder
from encoder.encoding import Encoding
from reranker import align, confidence, rank, relation, shortlist, windows
from reranker.confidence import Calibration, CalibrationError
from reranker.correlate import Correlator, Explanation
from reranker.cross_attention import CrossAttention
from reranker.rank import Match, Ranking, Scored
from reranker.rankers import Ranker
from reranker.shortlist import Part
from store.candidates import Candidates
from store.plan import content_hash
from store.references import References

_TOP = 5  # matches that are returned for each window of the query, at most
_WINDOW = 40  # query segments (20 s) that one candidate is compared with; keeps the cost linear in the query's length


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found for one query; no matches means "no sample found"."""

    query: Path
    duration: float  # seconds that hold segments
    matches: tuple[Match, ...]
    same: tuple[Match, ...] = ()  # what the query is the same recording as, or a part of; not among the matches
    sample_free: float | None = None  # probability that no compared reference is sampled; None without a calibration
    false_alarms: float | None = None  # share of sample-free queries that are answered; None: a score was the bar
    barred: bool = True  # whether there was a bar at all; without one the best are returned, right or not


class Searcher:
    """Finds the references that a query samples."""

    def __init__(
        self,
        encoder: Encoder,
        references: References,
        classifier: CrossAttention | None,
        ranking: Ranking = Ranking(),
        *,
        correlator: Correlator | None = None,
        calibration: Calibration | None = None,
        ranker: Ranker | None = None,
    ) -> None:
        """Without a classifier, candidates keep their similarity as score. With a correlator the best of them only say
        which references are explained; ValueError where the encoder has no contrast features to correlate.
        With a ranker that one ranks; nobody knows a bar for its scores, so the best are returned however they score.
        A calibration gives confidences and the bar; CalibrationError where it is of other scores or cannot promise so
        few false alarms.
        """
        if correlator is not None and not all(encoder.contrast):
            raise ValueError(
                f"system {encoder.system.name} has no contrast features to correlate; "
                "use --rank-by reranker or --rank-by similarity"
            )
        self.encoder, self.references = encoder, references
        self.classifier, self.ranking = classifier, ranking
        self.correlator, self.calibration, self.ranker = correlator, calibration, ranker
        self.threshold: float | None = None  # confidence above which a match is returned; None: a score is the bar
        if calibration is not None:
            if correlator is None:
                raise CalibrationError("a calibration is of what correlation finds, expected a correlator beside it")
            calibration.require(encoder=encoder.digest, scoring=confidence.scoring(ranking, correlator.correlation))
            if ranking.surplus is None:
                self.threshold = calibration.threshold(ranking.false_alarms)

    def __call__(self, path: Path, *, include_self: bool = False) -> Answer:
        """Matches of the track at `path`; raises AudioError, IndexUnavailable, MissingNodeMatrix.

        References that are the very same file, or of which the query is nothing but an excerpt, are no matches unless
        `include_self`.
        """
        classified = self.correlator is None and self.classifier is not None
        query = self.encoder.encode(path, node_matrices=classified or self.ranker is not None)
        itself = () if include_self else self._itself(path)
        ranked = self.matches(query, exclude=itself)
        enough = [match for match in ranked if self.enough(match)]
        same = [] if include_self else [m for m in enough if relation.is_whole(m, query.duration)]
        return Answer(
            query=path,
            duration=self._duration(query),
            matches=tuple(match for match in enough if match not in same)[: self._top(query)],
            same=tuple(same),
            sample_free=None if self.calibration is None else math.prod(1 - match.confidence for match in ranked),
            false_alarms=self._false_alarms(query),
            barred=self.minimum != -math.inf,
        )

    def enough(self, match: Match) -> bool:
        """Whether a match is returned: sure enough, or where a score is the bar, of that score."""
        return match.score >= self.minimum if self.threshold is None else match.confidence > self.threshold

    @property
    def minimum(self) -> float | None:
        """Score from which a match is returned; None where its confidence decides."""
        if self.threshold is not None:
            return None
        if self.ranker is not None:
            return -math.inf if self.ranking.surplus is None else self.ranking.surplus
        if self.correlator is None:
            return self.ranking.minimum
        return self.correlator.correlation.bar if self.ranking.surplus is None else self.ranking.surplus

    def matches(self, query: Encoding, *, exclude: Sequence[int] = ()) -> tuple[Match, ...]:
        """Every reference that is compared with the query, best first, whether or not it is enough for an answer.

        Those that are enough have their places, and of a query of one window the best one in any case.
        """
        if not len(query):
            return ()  # silence
        if self.ranker is not None:
            candidates = self.references.candidates(query.fingerprints, limit=self.ranking.wide, exclude_tracks=exclude)
            return self.ranker(query, candidates, self.references)
        if self.correlator is None:
            return self._by_candidates(self.score(query, exclude=exclude), query)
        cut, correlation = self._windows(query), self.correlator.correlation
        parts = shortlist.parts(query, cut, self.references, self.ranking, correlation, exclude=exclude)
        found = (self._by_correlation(part, query, alone=len(cut) == 1) for part in parts)
        return windows.united(found, enough=self.enough)

    def score(self, query: Encoding, *, exclude: Sequence[int] = ()) -> Scored:
        """Every candidate of the query with its best score, window by window; track numbers to `exclude` stay away."""
        limit = self.ranking.candidates
        candidates = self.references.candidates(query.fingerprints, limit=limit, exclude_tracks=exclude)
        if self.classifier is None:
            return shortlist.by_similarity(candidates, query)
        starts = range(0, len(query), _WINDOW)
        parts = [self._classified(query, candidates, slice(start, start + _WINDOW)) for start in starts]
        return Scored(
            query_indices=np.concatenate([np.zeros(0, np.int64), *(p.query_indices for p in parts)]),
            segment_ids=np.concatenate([np.zeros(0, np.int64), *(p.segment_ids for p in parts)]),
            scores=np.concatenate([np.zeros(0, np.float32), *(p.scores for p in parts)]),
        )

    def _by_candidates(self, scored: Scored, query: Encoding) -> tuple[Match, ...]:
        """Ranked by the sum of surviving candidates' scores (equations 11 and 12), or scattered ones less."""
        worthy = align.worth(scored, threshold=None if self.classifier is None else self.ranking.threshold)
        places = self._places(worthy, query)
        if self.ranking.consistent:
            totals = align.consistent(worthy, places)
        else:
            totals = rank.by_reference(scored, threshold=self.ranking.threshold)
        tracks = self.references.tracks(totals)
        return tuple(
            Match(reference=tracks[n], score=score, confidence=None, occurrences=places.get(n, ()))
            for n, score in totals.items()
        )

    def _by_correlation(self, part: Part, query: Encoding, *, alone: bool) -> tuple[Match, ...]:
        """The listed references, ranked by how well each explains this window of the query."""
        window = query.heard(part.hops, piece=self.correlator.correlation.piece)
        found = self.correlator.compare(window, part.features, asked=part.asked)
        tracks = self.references.tracks(found)
        seconds = len(window) * self.correlator.correlation.contrast.seconds
        sure = self._confidences(list(found.values()), seconds, part.among)
        matches = []
        for place, ((n, one), c) in enumerate(zip(found.items(), sure, strict=True)):
            match = Match(reference=tracks[n], score=one.score, confidence=c, occurrences=())
            if self.enough(match) or (alone and place == 0):
                features = part.features[n] if part.whole else self.references.features([n])[n]
                match = replace(match, occurrences=self.correlator.explain(window, features, one).occurrences)
            matches.append(windows.later(match, part.hops.start * query.hop))
        return tuple(matches)

    def _confidences(self, explained: Sequence[Explanation], seconds: float, among: int) -> Sequence[float | None]:
        """Of each reference compared with a window that long, chosen from so many."""
        if self.calibration is None or not explained:
            return [None] * len(explained)
        evidence = confidence.of_ranking([found.score for found in explained], seconds=seconds, listed=among)
        return self.calibration.confidences(evidence).tolist()

    def _windows(self, query: Encoding) -> list[slice]:
        ranking, hops = self.ranking, len(query.contrast)
        whole, window, overlap = (round(s / query.hop) for s in (ranking.whole, ranking.window, ranking.overlap))
        return windows.cut(hops, longest=whole if hops <= whole else window, overlap=overlap)

    def _top(self, query: Encoding) -> int:
        """How many matches are returned at most."""
        return self.ranking.top or _TOP * len(self._windows(query))

    def _false_alarms(self, query: Encoding) -> float | None:
        """Share of sample-free queries as long that are answered: each window is a chance of its own."""
        if self.threshold is None:
            return None
        return 1 - (1 - self.ranking.false_alarms) ** len(self._windows(query))

    @torch.inference_mode()
    def _classified(self, query: Encoding, candidates: Candidates, window: slice) -> Scored:
        """Candidates found by the segments of one window, each with its best score over that window (equation 11)."""
        inside = (candidates.query_rows >= window.start) & (candidates.query_rows < window.stop)
        ids = np.unique(candidates.segment_ids[inside])
        if not len(ids):
            return Scored(query_indices=np.zeros(0, np.int64), segment_ids=ids, scores=np.zeros(0, np.float32))
        device = self.encoder.device
        nodes = torch.from_numpy(self.references.node_matrices(ids)).to(device).float()
        mine = torch.from_numpy(query.node_matrices[window]).to(device).float()
        network = self.encoder.network
        similarities = network.fingerprints(mine) @ network.fingerprints(nodes).T
        scores = self.classifier.scores(mine, nodes, similarities=similarities).cpu().numpy()  # (window, candidates)
        best = scores.argmax(axis=0)
        return Scored(
            query_indices=query.segment_indices[window][best],
            segment_ids=ids,
            scores=scores[best, np.arange(len(ids))],
        )

    def _places(self, worthy: Scored, query: Encoding) -> dict[int, tuple[rank.Occurrence, ...]]:
        """Track number -> where the candidates of a reference lie on lines."""
        return align.by_reference(worthy, hop=query.hop, duration=query.segment_duration)

    def _itself(self, path: Path) -> list[int]:
        return [track.number for track in self.references.catalogue.by_hashes([content_hash(path)])]

    @staticmethod
    def _duration(query: Encoding) -> float:
        return min(float(query.starts[-1] + query.segment_duration), query.duration) if len(query) else 0.0

"""Neural: one of our encoders, with or without a reranker, as a peer; what it stores is a real catalogue.

The catalogue lies under the folder in a data directory of the encoder's own (`encoder-<digest>-<form>`), as
`asid ingest` would make it: peers with the same encoder share it, a second run stores nothing, a killed one goes on
where it stopped.

With a reranker, the protocol's rule turns scored pairs into a ranking; `answered` is the product's operating point,
`Ranking.minimum`, under every protocol. Without one, see evaluation/peers/similarity.py. With a correlator it is the
product itself, whose ranking knows no scored pairs, so that only the protocol's counting applies to it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoder import allocator, audio
from encoder.encode import Encoder
from encoder.encoding import Encoding
from evaluation import protocols, rejection
from evaluation.benchmark import Query
from evaluation.peers import similarity
from evaluation.peers.interface import Found, Progress, Response
from evaluation.protocols import STRICT, Protocol, Rule
from reranker import align, confidence, verify
from reranker import checkpoint as reranker_checkpoint
from reranker.confidence import Calibration
from reranker.correlate import Correlator
from reranker.cross_attention import CrossAttention
from reranker.rank import Occurrence, Ranking, Scored
from reranker.search import Searcher
from store import node_form
from store.fingerprints import IndexIncomplete
from store.identity import Identity
from store.node_form import FULL, NodeForm
from store.plan import Pending
from store.references import References
from store.segment_ids import track_of


class Neural:
    """An encoder and, unless it is None, a classifier made for it."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        about: str,
        encoder: Encoder,
        classifier: CrossAttention | None,
        classifier_digest: str = "",
        correlator: Correlator | None = None,
        calibration: Calibration | None = None,
        protocol: Protocol = STRICT,
        ranking: Ranking = Ranking(),
        form: NodeForm = FULL,
    ) -> None:
        self.name, self.about = name, about
        self._folder, self._form = folder / f"encoder-{encoder.digest[:16]}-{form.name}", form
        self._encoder, self._classifier, self.correlator = encoder, classifier, correlator
        self._calibration, self._protocol, self._ranking = calibration, protocol, ranking
        self._stored: References | None = None
        self._ids: dict[int, str] = {}  # track number -> track id
        self._strangers: list[int] = []  # stored for another benchmark
        self._bar = ranking.minimum  # score from which a match is reported
        version = metadata.version("asid")
        explained = repr(correlator.correlation) if correlator else ""
        self.facts: dict[str, Any] = {
            "digest": f"{version} {encoder.digest} {classifier_digest or similarity.RULE} {explained} {ranking} "
            f"{calibration.digest if calibration else ''} {form.name if classifier else ''}",
            "version": version,
            "system": encoder.system.name,
            "encoder": encoder.digest,
            "reranker": classifier_digest or None,
            "node_form": form.name,
            "correlation": explained or None,
            "calibration": calibration.digest if calibration else None,
            "operating_point": self._bar,  # of a correlated peer it is told once it is open
        }

    def prepare(self, catalogue: Mapping[str, Path], progress: Progress) -> None:
        """Store what is not stored yet; IndexUnavailable where another process holds the folder."""
        self.close()
        ids = _by_path(catalogue)
        with self._open() as stored:
            _complete(stored)
            plan = stored.plan(ids)
            for done, pending in enumerate(plan.pending, 1):
                self._store(pending, stored)
                progress(ids[pending.path], done, len(plan.pending))
        self._stored = self._open(read_only=True)  # opened again: Milvus Lite is slow with what it has just been given
        self._know(ids)

    def ask(self, query: Query) -> Response:
        """Ranked under the protocol; raises AudioError, IndexUnavailable."""
        began = time.perf_counter()
        encoding = self._encoder.encode(query.path)
        rule = self._protocol.rule(query)
        if self.correlator is not None:
            return self._correlated(encoding, self._excluded(query), began)
        scored = self._scored(encoding, rule, self._excluded(query))
        worthy = self._worthy(scored, rule)
        places = align.by_reference(worthy, hop=encoding.hop, duration=encoding.segment_duration)
        found = tuple(
            Found(reference=self._ids[number], score=score, occurrences=places.get(number, ()))
            for number, score in self._totals(scored, worthy, places, rule).items()
        )
        return Response(
            found=found,
            candidates=frozenset(self._ids[int(number)] for number in np.unique(track_of(scored.segment_ids))),
            answered=bool(found) and found[0].score >= self._bar,
            seconds=time.perf_counter() - began,
        )

    @property
    def comparison(self) -> Callable[[Mapping[str, Path]], rejection.Score] | None:
        """References -> what compares a query file with one of them, for the rejection study.

        None where correlation ranks, of which a comparison of fingerprints says nothing.
        """
        if self.correlator is not None:
            return None
        return lambda references: rejection.Comparison(self._encoder, self._classifier, references)

    def close(self) -> None:
        """Give the catalogue back, so that another peer may open it; closing twice is harmless."""
        if self._stored is not None:
            self._stored.close()
            self._stored = None

    # Storing

    def _open(self, *, read_only: bool = False) -> References:
        identity = Identity(**self._encoder.shapes)
        return References.open(self._folder, identity, form=self._form, read_only=read_only, verify=read_only)

    def _store(self, pending: Pending, stored: References) -> None:
        try:
            duration = audio.info(pending.path).duration
            stored.add(pending, self._encoder.blocks(pending.path), duration=duration)
        except ValueError as error:  # AudioError, or what the store refuses: a recording of more than nine hours
            reason = error.reason if isinstance(error, audio.AudioError) else str(error)
            stored.failed(pending.number, reason)

    def _know(self, ids: Mapping[Path, str]) -> None:
        tracks = self._stored.catalogue.by_paths(list(ids))
        self._ids = {track.number: ids[track.path] for track in tracks if track.state == "stored"}
        stored = self._stored.catalogue.tracks("stored")
        self._strangers = [track.number for track in stored if track.number not in self._ids]
        self.facts["failed"] = {ids[track.path]: track.reason for track in tracks if track.state == "failed"}
        self.facts["segments"] = sum(track.segments for track in tracks)
        if self.correlator is not None:
            searcher = self._searcher()
            self.facts["operating_point"] = searcher.minimum
            self.facts["false_alarms"] = None if searcher.threshold is None else self._ranking.false_alarms
        elif self._classifier is None and not self._ranking.consistent:
            here = [track for track in tracks if track.state == "stored"]
            candidates = self._protocol.full.candidates
            self._bar = similarity.bar(
                self._encoder, self._stored, here, candidates=candidates, without=self._strangers
            )
            self.facts["operating_point"] = self._bar if np.isfinite(self._bar) else None

    # Asking

    def _correlated(self, query: Encoding, excluded: Sequence[int], began: float) -> Response:
        """The product itself: the short list, ranked by how well each reference explains the query."""
        searcher = self._searcher()
        matches = searcher.matches(query, exclude=excluded)
        found = tuple(
            Found(
                reference=self._ids[m.reference.number],
                score=m.score,
                occurrences=m.occurrences,
                confidence=m.confidence,
            )
            for m in matches
        )
        return Response(
            found=found,
            candidates=frozenset(one.reference for one in found),
            answered=any(map(searcher.enough, matches)),
            seconds=time.perf_counter() - began,
        )

    def _searcher(self) -> Searcher:
        how = {"correlator": self.correlator, "calibration": self._calibration}
        return Searcher(self._encoder, self._stored, None, self._ranking, **how)

    def _excluded(self, query: Query) -> list[int]:
        return [*self._strangers, *(number for number, name in self._ids.items() if name in query.aliases)]

    def _scored(self, query: Encoding, rule: Rule, excluded: Sequence[int]) -> Scored:
        """A row for each scored pair, or for each candidate of each query segment; see `protocols.rank`."""
        if self._stored is None:
            raise ValueError(f"{self.name} was asked before it was prepared; call prepare(catalogue, progress) first")
        if self._classifier is None or self._protocol == STRICT:
            ranking = Ranking(candidates=rule.candidates, threshold=rule.threshold)
            searcher = Searcher(self._encoder, self._stored, self._classifier, ranking)
            return searcher.score(query, exclude=excluded)
        return self._over_the_whole_query(query, rule, excluded)

    @torch.inference_mode()
    def _over_the_whole_query(self, query: Encoding, rule: Rule, excluded: Sequence[int]) -> Scored:
        """As the released code: a candidate is compared with all segments of the query, not with 20 s of it."""
        candidates = self._stored.candidates(query.fingerprints, limit=rule.candidates, exclude_tracks=excluded)
        ids, row = np.unique(candidates.segment_ids, return_inverse=True)
        if not len(ids):
            return Scored(query_indices=row, segment_ids=ids, scores=np.zeros(0, np.float32))
        device, network = self._encoder.device, self._encoder.network
        mine = torch.from_numpy(query.node_matrices).to(device).float()
        nodes = torch.from_numpy(self._stored.node_matrices(ids)).to(device).float()
        similarities = network.fingerprints(mine) @ network.fingerprints(nodes).T
        scores = self._classifier.scores(mine, nodes, similarities=similarities).cpu().numpy()  # (query, candidates)
        best = scores.argmax(axis=0)
        return Scored(
            query_indices=query.segment_indices[best][row],
            segment_ids=ids[row],
            scores=scores[best, np.arange(len(ids))][row],
        )

    def _worthy(self, scored: Scored, rule: Rule) -> Scored:
        """What speaks for a reference: what the rule does not reject, or similarities above the background."""
        if self._classifier is None:
            return align.worth(scored, threshold=None)
        survives = scored.scores >= rule.threshold if rule.survives_at_threshold else scored.scores > rule.threshold
        return scored.where(survives)

    def _totals(
        self, scored: Scored, worthy: Scored, places: Mapping[int, tuple[Occurrence, ...]], rule: Rule
    ) -> dict[int, float]:
        """Track number -> score, best first; the published protocol counts by its own rule, whatever is chosen."""
        if self._ranking.consistent and self._protocol == STRICT:
            return align.consistent(worthy, places)
        return similarity.songs(scored) if self._classifier is None else protocols.rank(scored, rule)


def load(
    folder: Path,
    *,
    name: str,
    about: str = "",
    encoder: Path,
    reranker: Path | None,
    correlated: bool = False,
    whole: bool = False,
    quality: str = "fast",
    verified: bool = True,
    protocol: Protocol = STRICT,
    device: str = "cpu",
) -> Neural:
    """The peer of these checkpoints, with `whole` or compact node matrices; `verified` where that can be.

    CheckpointError where they cannot be used, or not with each other.
    """
    allocator.keep_memory()
    loaded = Encoder(encoder, device=device)
    classifier, digest = None, ""
    if reranker is not None:
        classifier = reranker_checkpoint.load(reranker, encoder=loaded.digest).to(loaded.device)
        digest = reranker_checkpoint.digest(reranker)
    correlator, calibration = None, None
    if correlated and all(loaded.contrast):
        correlator = Correlator(verifier=verify.shipped_for(contrast=loaded.contrast_digest) if verified else None)
        scoring = confidence.scoring(Ranking(), correlator.correlation)
        calibration = confidence.shipped_for(encoder=loaded.digest, scoring=scoring)
    return Neural(
        folder,
        name=name,
        about=about or f"{loaded.system.about}, {'with' if reranker else 'without'} reranker",
        encoder=loaded,
        classifier=classifier,
        classifier_digest=digest,
        correlator=correlator,
        calibration=calibration,
        protocol=protocol,
        ranking=Ranking(quality=quality),
        form=FULL if whole else node_form.shipped_for(loaded.digest),
    )


def _complete(stored: References) -> None:
    """Mend an index that lost segments, from Zarr."""
    try:
        stored.require_complete()
    except IndexIncomplete:
        stored.rebuild()


def _by_path(catalogue: Mapping[str, Path]) -> dict[Path, str]:
    """Absolute path -> track id; ValueError where two ids share a file."""
    ids: dict[Path, str] = {}
    for name, path in catalogue.items():
        other = ids.setdefault(path.absolute(), name)
        if other != name:
            raise ValueError(f"tracks {other!r} and {name!r} are both {path}; list each file once")
    return ids

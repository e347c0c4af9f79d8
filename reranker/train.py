"""Train the reranker on node matrices of an encoder: one record per epoch, the best epoch kept.

Each batch of pairs gives one positive per query view and its hardest wrong references (reranker/negatives.py), looked
for among the other pairs of the batch and, if wanted, in a catalogue of training recordings: segments as an index holds
them. The positive has to stand out among all of them (cross-entropy over the row), and by itself against the three
hardest (binary cross-entropy, 1 : 3; NeuralSampleID, sections 3.3 and 4.2). The paper has the second alone;
with it nothing was added to the fingerprints (docs/experiments.md). What is sampled for a step depends on the seed and
the step alone, so a resumed run ends where an uninterrupted one does.

The encoder is frozen, or, with an `encoder_rate`, learns along: what the reranker's loss asks of node matrices and
fingerprints, and NT-Xent, so that the index goes on to find. It is saved beside the reranker that fits it.

A search meets wrong candidates far more often than one in four, so what is saved has its bias moved to an operating
point measured on searches for nothing (reranker/operating_point.py).
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder import checkpoint
from encoder.encode import Encoder
from encoder.gnn import Encoded
from encoder.systems import KINDS
from encoder.training import augment, losses, state
from encoder.training.augment import Views
from encoder.training.makers import pairs_of
from encoder.training.pairs import PairBatch
from encoder.training.run import Run
from encoder.training.schedule import diverged, rate
from encoder.training.stem_cache import StemCache
from reranker import negatives, operating_point
from reranker.checkpoint import Reranker
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.negatives import Recordings
from reranker.sides import Sides, auroc, first, logits, of_views

FILE, ENCODER_FILE = "reranker.safetensors", "encoder.safetensors"
_CATALOGUED = 30.0  # seconds of each recording
_DECAY = 1e-2  # of weights
_JUDGEMENT = 0.5  # weight of the second loss
_CLIP = 1.0  # norm of the classifier's gradient
_VALIDATION_SEED = 8_000_000


@dataclass(frozen=True, kw_only=True)
class RerankerSchedule:
    """Optimisation of the reranker."""

    epochs: int = 6
    steps: int = 12  # batches per epoch
    batch: int = 512  # pairs among which negatives are mined
    anchors: int = 64  # pairs, with their negatives, per update
    negatives: int = 15  # that each positive is ranked among
    judged: int = 3  # of these, the hardest, that scores by themselves are to tell from it; at most all
    catalogued: int = 0  # of the negatives, from a catalogue of the training recordings; the others from the batch
    encoder_rate: float = 0.0  # learning rate of the encoder, which learns along, end to end; 0: it stays as it is
    learning_rate: float = 5e-4  # peak, AdamW
    final_rate: float = 1e-6
    warmup: int = 4  # batches
    validation_pairs: int = 1024
    candidates: int = 5  # per query segment, when the operating point is measured
    false_alarms: float = 0.1  # share of 20 s excerpts that sample nothing and yet are answered with a match
    minimum: float = 1.0  # sum of scores that makes a match, as in reranker.rank.Ranking
    seed: int = 1

    def __post_init__(self) -> None:
        positive = ("epochs", "steps", "batch", "anchors", "negatives", "judged", "learning_rate", "candidates")
        for name in (*positive, "minimum"):
            if getattr(self, name) <= 0:
                raise ValueError(f"reranker schedule: {name} is {getattr(self, name)}, expected more than 0")
        for name in ("encoder_rate", "final_rate", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"reranker schedule: {name} is {getattr(self, name)}, expected 0 or more")
        if self.validation_pairs < 2:
            raise ValueError(
                f"reranker schedule: validation_pairs is {self.validation_pairs}, expected 2 or more to compare"
            )
        if self.negatives >= self.batch:
            raise ValueError(
                f"reranker schedule: {self.negatives} negatives from a batch of {self.batch}, expected fewer"
            )
        if not 0 <= self.catalogued < self.negatives:
            raise ValueError(
                f"reranker schedule: {self.catalogued} of {self.negatives} negatives from a catalogue, expected fewer"
            )
        if not 0 < self.false_alarms < 1:
            raise ValueError(
                f"reranker schedule: false_alarms is {self.false_alarms}, expected a share between 0 and 1"
            )

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps


@dataclass(frozen=True, kw_only=True)
class RerankerEpoch:
    """What one epoch did; AUROC is of true pairs against all wrong pairs of the validation split."""

    epoch: int
    loss: float
    auroc: float
    hit_rate_1: float  # the true reference scores highest of all validation references
    encoder_auroc: float  # the same two by similarity of fingerprints: what the reranker has to beat
    encoder_hit_rate_1: float
    best: bool
    pairs_per_second: float
    seconds: float


def train(
    cache: StemCache,
    encoder: Encoder,
    out: Path,
    *,
    schedule: RerankerSchedule = RerankerSchedule(),
    device: str = "cpu",
    resume: bool = True,
) -> Iterator[RerankerEpoch]:
    """Train a classifier for `encoder`, yield one record per epoch, keep the best as out/reranker.safetensors.

    With an `encoder_rate` the encoder is trained further and kept as out/encoder.safetensors; the one given stays as
    it is.
    """
    yield from _Run(cache, encoder, schedule, out, device).records(resume=resume)


class _Run(Run):
    def __init__(
        self, cache: StemCache, encoder: Encoder, schedule: RerankerSchedule, out: Path, device: str | torch.device
    ) -> None:
        super().__init__(out, schedule, device)
        self.cache = cache
        self.encoder = _own(encoder) if schedule.encoder_rate else encoder
        system = encoder.system
        self.maker = pairs_of(cache, system, split="train", seed=schedule.seed + 1_000_000)
        held_out = dict(split="validation", seed=_VALIDATION_SEED)
        unseen = pairs_of(cache, system, **held_out, pairing=system.pairing.unseen)
        self.unseen = self._views(unseen.batch(0, schedule.validation_pairs))
        self.config = CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes, matching=True)
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            self.classifier = CrossAttention(self.config).to(self.device)
        groups = [dict(params=self.classifier.parameters(), lr=schedule.learning_rate)]
        if schedule.encoder_rate:
            groups.append(dict(params=self.encoder.network.parameters(), lr=schedule.encoder_rate))
        self.optimiser = torch.optim.AdamW(groups, weight_decay=_DECAY)
        self.peaks = [group["lr"] for group in groups]
        self.catalogue, self.recordings = None, None  # as the encoder makes them

    @property
    def goes_on(self) -> bool:
        return self.epoch < self.schedule.epochs

    def parts(self) -> dict[str, Any]:
        learning = dict(encoder=self.encoder.network) if self.schedule.encoder_rate else {}
        return dict(classifier=self.classifier, optimiser=self.optimiser) | learning

    def settings(self) -> dict[str, Any]:
        schedule = asdict(replace(self.schedule, epochs=1))
        learning = {"encoder": self.encoder.digest, "classifier": asdict(self.config)}
        return learning | {"schedule": schedule, "data": self.maker.told()}

    def advance(self) -> RerankerEpoch:
        """One epoch: train, validate, keep."""
        began, steps, total = time.perf_counter(), self.schedule.steps, 0.0
        if self.schedule.catalogued and (self.catalogue is None or self.schedule.encoder_rate):
            self.catalogue = Recordings.of(self.maker.tracks, self.maker.cache, self.encoder, seconds=_CATALOGUED)
        for step, batch in state.ahead(self._batch, self.epoch * steps, steps):
            total += self._step(step, self._views(batch))
        seconds = time.perf_counter() - began
        validation = of_views(self.unseen, self.encoder)
        scores = logits(self.classifier, validation)
        area, hits = auroc(scores, validation.tracks), first(scores)
        record = RerankerEpoch(
            epoch=self.epoch + 1,
            loss=total / steps,
            auroc=area,
            hit_rate_1=hits,
            encoder_auroc=auroc(validation.similarities, validation.tracks),
            encoder_hit_rate_1=first(validation.similarities),
            best=area + hits > self.best,
            pairs_per_second=steps * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self.keep(record, area + hits)
        return record

    def _batch(self, number: int):
        return self.maker.batch(number, self.schedule.batch)

    def _views(self, batch: PairBatch) -> Views:
        return augment.views(batch, self.encoder.front_end, self.encoder.grid)

    def _step(self, step: int, views: Views) -> float:
        """One batch, in several updates; its mean loss."""
        sides, far = of_views(views, self.encoder), None
        heard = torch.cat([sides.tracks.unsqueeze(1), views.covers], dim=1)
        near = negatives.mine(
            sides.query_fingerprints,
            sides.reference_fingerprints,
            heard,
            count=self.schedule.negatives - self.schedule.catalogued,
        )
        if self.catalogue is not None:
            far = self.catalogue.mine(sides.query_fingerprints, heard, count=self.schedule.catalogued)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate(self.schedule, step) / self.schedule.learning_rate
        self.classifier.train()
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.schedule.seed, step)) % 2**31)  # dropout
            anchors = torch.arange(len(near), device=self.device).split(self.schedule.anchors)
            loss = sum(self._update(views, sides, part, near, far) for part in anchors) / len(anchors)
        if not math.isfinite(loss):
            raise diverged(loss, f"at step {step}")
        return loss

    def _update(self, views: Views, sides: Sides, anchors: Tensor, near: Tensor, far: Tensor | None) -> float:
        """One update: each of the pairs `anchors` with its right reference, then its wrong ones."""
        rows = torch.cat([anchors.unsqueeze(1), near[anchors]], dim=1)
        chosen, rows = rows.unique(return_inverse=True)
        mine = self._heard(views.queries, anchors, (sides.queries, sides.query_fingerprints))
        nodes, fingerprints = self._heard(views.references, chosen, (sides.references, sides.reference_fingerprints))
        right = fingerprints[rows[:, 0]]
        if far is not None:
            wrong, found = far[anchors].cpu().unique(return_inverse=True)  # where the catalogue is
            rows = torch.cat([rows, len(nodes) + found.to(rows.device)], dim=1)
            nodes = torch.cat([nodes, self.catalogue.node_matrices[wrong].to(nodes)])
            fingerprints = torch.cat([fingerprints, self.catalogue.fingerprints[wrong].to(nodes)])
        similarities = (mine.fingerprints @ fingerprints.T).gather(1, rows)
        loss = self._loss(self.classifier.among(mine.node_matrices, nodes, rows, similarities), similarities)
        if self.schedule.encoder_rate:
            shown = dict(temperature=self.encoder.system.schedule.temperature, covers=views.covers[anchors])
            loss = loss + losses.nt_xent(right, mine.fingerprints, sides.tracks[anchors], **shown)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.classifier.parameters(), _CLIP)
        self.optimiser.step()
        return loss.item()

    def _loss(self, logits: Tensor, similarities: Tensor) -> Tensor:
        """Of (anchors, candidates), the right one first."""
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        count = min(self.schedule.judged, self.schedule.negatives)
        hardest = similarities[:, 1:].topk(count, dim=1).indices + 1
        judged = torch.cat([logits[:, :1], logits.gather(1, hardest)], dim=1)
        truth = torch.zeros_like(judged)
        truth[:, 0] = 1
        return F.cross_entropy(logits, first) + _JUDGEMENT * F.binary_cross_entropy_with_logits(judged, truth)

    def _heard(self, spectra: Tensor, chosen: Tensor, known: tuple[Tensor, Tensor]) -> Encoded:
        """The chosen views, encoded: anew where the encoder learns along, its norms as they are."""
        if self.schedule.encoder_rate:
            return self.encoder.network(spectra[chosen])
        return Encoded(*(values[chosen] for values in known))

    def save(self) -> None:
        """The checkpoint, its bias moved to the operating point; before it that of an encoder that learned along."""
        if self.recordings is None or self.schedule.encoder_rate:
            self.recordings = operating_point.recordings(self.cache, self.encoder, split="validation")
        point = operating_point.find(
            self.recordings,
            self.classifier,
            candidates=self.schedule.candidates,
            false_alarms=self.schedule.false_alarms,
            minimum=self.schedule.minimum,
        )
        moved = CrossAttention(self.config)
        moved.load_state_dict(self.classifier.state_dict())
        with torch.no_grad():
            moved.logit.bias -= point.logit
        told = self.provenance(**self.maker.told()) | dict(
            schedule=asdict(self.schedule), operating_point=asdict(point)
        )
        digest = self._save_encoder() if self.schedule.encoder_rate else self.encoder.digest
        config = Reranker(classifier=self.config, encoder=digest)
        checkpoint.save(self.out / FILE, config, moved, provenance=told)

    def _save_encoder(self) -> str:
        """The encoder that learned along, its contrast network as it was; its digest."""
        began = checkpoint.load(self.encoder.path, *KINDS)
        network = began.restore(self.encoder.system.build())
        learned = {k: v for k, v in self.encoder.network.state_dict().items() if not k.startswith("contrast.")}
        network.load_state_dict(network.state_dict() | learned)
        run = dict(started_from=began.digest, history=self.history, schedule=asdict(self.schedule))
        provenance = began.provenance | dict(end_to_end=run)
        return checkpoint.save(self.out / ENCODER_FILE, self.encoder.system, network, provenance=provenance)


def _own(encoder: Encoder) -> Encoder:
    """The same with a network of its own."""
    made = copy.copy(encoder)
    made.network = copy.deepcopy(encoder.network)
    return made

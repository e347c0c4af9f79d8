"""Train the reranker on node matrices of a frozen encoder: one record per epoch, the best epoch kept.

Each batch of pairs gives one positive per query view and, among the other pairs of the batch, its hardest wrong
references (reranker/negatives.py), 1 : 3, under binary cross-entropy (NeuralSampleID, section 3.3 and 4.2). What is
sampled for a step depends on the seed and the step alone, so a resumed run ends where an uninterrupted one does.

A search meets wrong candidates far more often than one in four. The last step therefore moves the classifier's bias:
0.5 becomes the score that a given share of wrong pairs of the validation split does not reach.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder import checkpoint
from encoder.encode import Encoder
from encoder.training import augment, state
from encoder.training.pairs import PairMaker
from encoder.training.stem_cache import StemCache
from reranker import negatives
from reranker.checkpoint import Reranker
from reranker.cross_attention import CrossAttention, CrossAttentionConfig

FILE = "reranker.safetensors"
_VALIDATION_SEED = 8_000_000
_SURE = 1e-9  # nearer to 0 or 1 a score has no finite logit in float32


@dataclass(frozen=True, kw_only=True)
class RerankerSchedule:
    """Optimisation of the reranker; epochs, negatives and the loss are the paper's."""

    epochs: int = 5
    steps: int = 60  # per epoch
    batch: int = 128  # pairs
    negatives: int = 3  # per positive
    learning_rate: float = 3e-4  # Adam, constant
    validation_pairs: int = 384
    wrong_pass: float = 1e-4  # share of wrong validation pairs that score 0.5 or more after training
    seed: int = 1

    def __post_init__(self) -> None:
        if self.negatives >= self.batch:
            raise ValueError(
                f"reranker schedule: {self.negatives} negatives from a batch of {self.batch}, expected fewer"
            )
        if not 0 < self.wrong_pass < 1:
            raise ValueError(f"reranker schedule: wrong_pass is {self.wrong_pass}, expected a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RerankerEpoch:
    """What one epoch did; AUROC is of true pairs against all wrong pairs of the validation split."""

    epoch: int
    loss: float
    auroc: float
    hit_rate_1: float  # the true reference scores highest of all validation references
    encoder_hit_rate_1: float  # the same by similarity of fingerprints: what the reranker has to beat
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
    """Train a classifier for `encoder`, yield one record per epoch, keep the best as out/reranker.safetensors."""
    run = _Run(cache, encoder, schedule, Path(out), torch.device(device))
    if resume:
        run.restore()
    while run.epoch < schedule.epochs:
        yield run.advance()


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Both views of a batch of pairs, encoded."""

    queries: Tensor  # node matrices (pairs, nodes, channels)
    references: Tensor  # likewise
    query_fingerprints: Tensor  # (pairs, dimensions)
    reference_fingerprints: Tensor
    tracks: Tensor  # (pairs,)


class _Run:
    def __init__(
        self, cache: StemCache, encoder: Encoder, schedule: RerankerSchedule, out: Path, device: torch.device
    ) -> None:
        self.encoder, self.schedule, self.out, self.device = encoder, schedule, out, device
        system = encoder.system
        maker = dict(pairing=system.pairing, grid=system.grid, n_fft=system.front_end.n_fft)
        self.maker = PairMaker(cache, **maker, split="train", seed=schedule.seed + 1_000_000)
        unseen = PairMaker(cache, **maker, split="validation", seed=_VALIDATION_SEED)
        self.validation = self._encoded(unseen.batch(0, schedule.validation_pairs))
        self.config = CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes)
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            self.classifier = CrossAttention(self.config).to(device)
        self.optimiser = torch.optim.Adam(self.classifier.parameters(), lr=schedule.learning_rate)
        self.epoch, self.best, self.history = 0, -1.0, []

    def restore(self) -> None:
        """Continue from the kept state, if there is one."""
        kept = state.load(self.out, self._settings(), self.device)
        if kept is None:
            return
        self.classifier.load_state_dict(kept["classifier"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.epoch, self.best, self.history = kept["epoch"], kept["best"], kept["history"]

    def advance(self) -> RerankerEpoch:
        """One epoch: train, validate, keep."""
        began, steps, total = time.perf_counter(), self.schedule.steps, 0.0
        for step, batch in state.ahead(self._batch, self.epoch * steps, steps):
            total += self._step(step, self._encoded(batch))
        seconds = time.perf_counter() - began
        scores = self._validation_logits()
        record = RerankerEpoch(
            epoch=self.epoch + 1,
            loss=total / steps,
            auroc=auroc(scores, self.validation.tracks),
            hit_rate_1=_first(scores),
            encoder_hit_rate_1=_first(self.validation.query_fingerprints @ self.validation.reference_fingerprints.T),
            best=(quality := _first(scores) + auroc(scores, self.validation.tracks)) > self.best,
            pairs_per_second=steps * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self._keep(record, scores, quality)
        return record

    def _batch(self, number: int):
        return self.maker.batch(number, self.schedule.batch)

    def _step(self, step: int, sides: _Sides) -> float:
        hard = negatives.mine(
            sides.query_fingerprints, sides.reference_fingerprints, sides.tracks, count=self.schedule.negatives
        )
        anchors = torch.arange(len(hard), device=self.device)
        query = torch.cat([anchors, anchors.repeat_interleave(hard.shape[1])])
        reference = torch.cat([anchors, hard.flatten()])
        truth = (query == reference).float()
        self.classifier.train()
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.schedule.seed, step)) % 2**31)  # dropout
            logits = self.classifier(sides.queries[query], sides.references[reference])
        loss = F.binary_cross_entropy_with_logits(logits, truth)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def _encoded(self, batch) -> _Sides:
        views = augment.views(batch, self.encoder.front_end, self.encoder.grid)
        with torch.inference_mode():
            parts = [self.encoder.network(part) for side in views[:2] for part in side.split(64)]
        nodes, fingerprints = (torch.cat(kind).float().clone() for kind in zip(*parts, strict=True))
        half = len(views.tracks)
        return _Sides(
            references=nodes[:half],
            queries=nodes[half:],
            reference_fingerprints=fingerprints[:half],
            query_fingerprints=fingerprints[half:],
            tracks=views.tracks,
        )

    def _validation_logits(self) -> Tensor:
        """(queries, references) of the validation batch."""
        self.classifier.eval()
        scores = self.classifier.scores(self.validation.queries, self.validation.references)
        return scores.double().logit(eps=_SURE)

    def _keep(self, record: RerankerEpoch, logits: Tensor, quality: float) -> None:
        self.epoch, self.history = record.epoch, [*self.history, asdict(record)]
        if record.best:
            self.best = quality
            self._save(logits)
        kept = dict(epoch=self.epoch, best=self.best, history=self.history)
        kept |= dict(classifier=self.classifier.state_dict(), optimiser=self.optimiser.state_dict())
        state.save(self.out, self._settings(), kept)

    def _save(self, logits: Tensor) -> None:
        """The checkpoint, its bias moved so that `wrong_pass` of the wrong validation pairs reach 0.5."""
        wrong = logits[self.validation.tracks.unsqueeze(1) != self.validation.tracks.unsqueeze(0)]
        offset = wrong.quantile(1 - self.schedule.wrong_pass).item()
        moved = CrossAttention(self.config)
        moved.load_state_dict(self.classifier.state_dict())
        with torch.no_grad():
            moved.logit.bias -= offset
        provenance = dict(history=self.history, schedule=asdict(self.schedule), bias_moved_by=-offset)
        config = Reranker(classifier=self.config, encoder=self.encoder.digest)
        checkpoint.save(self.out / FILE, config, moved, provenance=provenance | dict(torch=torch.__version__))

    def _settings(self) -> dict[str, Any]:
        return {"encoder": self.encoder.digest, "schedule": asdict(self.schedule), "classifier": asdict(self.config)}


def auroc(scores: Tensor, tracks: Tensor) -> float:
    """Share of (true, wrong) pairs in which the true one scores higher; scores are (queries, references)."""
    wrong = scores[tracks.unsqueeze(1) != tracks.unsqueeze(0)].sort().values
    below = torch.searchsorted(wrong, scores.diagonal().contiguous())
    ties = torch.searchsorted(wrong, scores.diagonal().contiguous(), right=True) - below
    return ((below + ties / 2) / len(wrong)).mean().item()


def _first(scores: Tensor) -> float:
    """Share of queries whose true reference scores strictly highest."""
    return ((scores >= scores.diagonal().unsqueeze(1)).sum(1) == 1).float().mean().item()

"""Train the verifier on pairs that correlation confuses: one record per epoch, the best epoch kept.

Pairs are those of the contrast network (encoder/training/contrast.py). A query view is laid upon its reference at the
nearest tempo and transposition of the correlator's grid: a true pair. Its wrong ones are the likest of all places in
the other reference views of the batch, at its own warp and at four drawn at random; what may show the same is left out.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from encoder import checkpoint
from encoder.checkpoint import CheckpointError
from encoder.contrast import SCALE
from encoder.encode import Encoder
from encoder.training import augment
from encoder.training.augment import Views
from encoder.training.contrast import PAIRING, TEMPO_STEP, lowered, may_be_alike, played_back
from encoder.training.makers import pairs_of
from encoder.training.pairs import PairBatch, PairMaker
from encoder.training.run import Run, mixed
from encoder.training.schedule import Schedule, diverged, rate, refuse_unread
from encoder.training.stem_cache import StemCache
from reranker.verify import KINDS, TrainedVerifier, Verifier, VerifierConfig

FILE = "verifier.safetensors"
SCHEDULE = Schedule(
    epochs=12, steps=50, batch=192, chunk=96, learning_rate=2e-3, final_rate=1e-6, warmup=30, validation_pairs=1536
)
_COMPARED = 1 / 2  # of a segment, at the reference's tempo, in the middle of both views
_WRONG = 3  # pairs for each true one
_WARPS = 4  # tempi and transpositions at which they are looked for, beside the true one's
_HOP = 2  # frames from one place to the next
_VALIDATION_SEED = 9_000_000


@dataclass(frozen=True, kw_only=True)
class VerifierEpoch:
    """What one epoch did; a true pair of the validation split against its likest wrong ones."""

    epoch: int  # from 1
    pairs: int  # seen so far
    loss: float
    learning_rate: float
    auroc: float  # of true pairs over the best wrong one of each query view
    first: float  # share of query views whose true pair is over all its wrong ones
    likeness_auroc: float  # the same two by cosine: what the verifier has to beat
    likeness_first: float
    best: bool
    pairs_per_second: float
    seconds: float


class Laid(NamedTuple):
    """Pairs of a batch: (1 + wrong, pairs, semitones, frames) of query and reference, the true ones first."""

    queries: Tensor
    references: Tensor
    cosines: Tensor  # (1 + wrong, pairs)


def train(
    cache: StemCache,
    encoder: Encoder,
    out: Path,
    *,
    schedule: Schedule = SCHEDULE,
    start: Path | None = None,
    device: str = "cpu",
    resume: bool = True,
) -> Iterator[VerifierEpoch]:
    """Train a verifier of the encoder's contrast features, keep the best as out/verifier.safetensors.

    Yields one record per epoch. `start` is a verifier to go on from, which may have known other features. Resumes from
    the state kept in `out`; one of other settings is refused. ValueError where the encoder has no contrast features
    or a value of the schedule is not read, CheckpointError where `start` is no verifier of as many semitones.
    """
    refuse_unread(schedule, SCHEDULE, ("lanes", "precision", "portion", "temperature"))
    yield from _Run(cache, encoder, out, schedule, device, start).records(resume=resume)


class _Run(Run):
    """Network, optimiser and data of one training."""

    def __init__(
        self,
        cache: StemCache,
        encoder: Encoder,
        out: Path,
        schedule: Schedule,
        device: str | torch.device,
        start: Path | None = None,
    ) -> None:
        super().__init__(out, schedule, device)
        if encoder.system.contrast is None:
            raise ValueError(f"system {encoder.system.name} has no contrast network; train one by asid train contrast")
        self.encoder = encoder
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            self.config = VerifierConfig(semitones=encoder.contrast[1])
            self.network = Verifier(self.config).to(self.device)
        self.origin = self._begin(start) if start else None
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=schedule.learning_rate, weight_decay=1e-2)
        grid, contrast = encoder.system.grid, encoder.network.contrast.contrast
        self.frames = round(grid.frames / contrast.pool * _COMPARED)
        self.front_end = encoder.system.spectra().to(self.device)
        how = dict(cache=cache, system=encoder.system, pairing=PAIRING)
        self.maker = pairs_of(**how, split="train", seed=schedule.seed + 2_000_000)
        unseen = pairs_of(**how, split="validation", seed=_VALIDATION_SEED)
        self.unseen = list(self._unseen(unseen))

    def _begin(self, start: Path) -> str:
        """Take the weights of that verifier; its digest."""
        begun = checkpoint.load(start, *KINDS)
        if begun.config.verifier != self.config:
            raise CheckpointError(f"{start}: is a {begun.config.verifier}, expected a {self.config}; begin without it")
        begun.restore(self.network)
        return begun.digest

    def advance(self) -> VerifierEpoch:
        """One epoch: train, validate, keep."""
        began = time.perf_counter()
        first, end = (n * self.schedule.steps for n in (self.epoch, self.epoch + 1))
        losses = [self._step(step, laid) for step, laid in self._laid(first, end)]
        seconds = time.perf_counter() - began
        auroc, over = self._judged()
        likeness_auroc, likeness_first = _judged(torch.cat([laid.cosines for laid in self.unseen], dim=1).cpu().numpy())
        record = VerifierEpoch(
            epoch=self.epoch + 1,
            pairs=end * self.schedule.batch,
            loss=float(np.mean(losses)),
            learning_rate=rate(self.schedule, end - 1),
            auroc=auroc,
            first=over,
            likeness_auroc=likeness_auroc,
            likeness_first=likeness_first,
            best=auroc > self.best,
            pairs_per_second=len(losses) * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self.keep(record, auroc)
        return record

    def parts(self) -> dict[str, Any]:
        return dict(network=self.network, optimiser=self.optimiser)

    def settings(self) -> dict[str, Any]:
        schedule = asdict(replace(self.schedule, epochs=1, patience=1))
        begun = {"encoder": self.encoder.digest, "started_from": self.origin}
        return begun | {"schedule": schedule, "data": self.maker.told()}

    def save(self) -> None:
        config = TrainedVerifier(verifier=self.config, contrast=self.encoder.contrast_digest)
        told = self.provenance(**self.maker.told()) | dict(encoder=self.encoder.digest, started_from=self.origin)
        checkpoint.save(self.out / FILE, config, self.network, provenance=told)

    def _laid(self, first: int, end: int) -> Iterator[tuple[int, Laid]]:
        """The steps from `first` to before `end` with their pairs."""
        for step, batch, views in mixed(self.maker, self.schedule.batch, self.front_end, first, end):
            yield step, self._pairs(batch, views, np.random.default_rng([self.schedule.seed, step]))

    def _unseen(self, maker: PairMaker) -> Iterator[Laid]:
        size = self.schedule.batch
        for number in range(-(-self.schedule.validation_pairs // size)):
            batch = maker.batch(number, size)
            views = next(iter(augment.every(batch, self.front_end, self.encoder.system.grid)))
            yield self._pairs(batch, views, np.random.default_rng([_VALIDATION_SEED, number]))

    @torch.no_grad()
    def _pairs(self, batch: PairBatch, views: Views, rng: np.random.Generator) -> Laid:
        references, queries = self._features(views.references), self._features(views.queries)
        pairs, device = len(references), self.device
        off = torch.from_numpy(rng.uniform(-0.5, 0.5, pairs)).float().to(device)

        def back(tempo: NDArray[np.float64], semitones: NDArray[np.int64]) -> Tensor:
            played = played_back(queries, torch.from_numpy(tempo).float().to(device), off, self.frames)
            return lowered(played, torch.from_numpy(semitones).to(device))

        warps = [(np.round(np.log(batch.tempo) / TEMPO_STEP), np.round(batch.transposition).astype(int))]
        warps += [(rng.integers(-5, 7, pairs), rng.integers(-5, 6, pairs)) for _ in range(_WARPS)]
        asked = torch.stack([back(np.exp(steps * TEMPO_STEP), semitones) for steps, semitones in warps])
        places = references.unfold(2, self.frames, _HOP).transpose(1, 2).flatten(0, 1)  # (all, semitones, frames)
        alike = may_be_alike(views).T.repeat_interleave(len(places) // pairs, dim=1)  # (queries, pairs * places)
        units = F.normalize(places.flatten(1), dim=1)
        cosines = torch.stack([F.normalize(a.flatten(1), dim=1) @ units.T for a in asked]).masked_fill(alike, -1)
        likest, where = cosines.max(2)  # (warps, pairs)
        likest, at = likest.topk(_WRONG, dim=0)
        every = torch.arange(pairs, device=device)
        still = torch.zeros(pairs, device=device)
        right = played_back(references, still + 1, still, self.frames)
        return Laid(
            queries=torch.stack([asked[0], *(asked[w, every] for w in at)]),
            references=torch.stack([right, *(places[where[w, every]] for w in at)]),
            cosines=torch.cat([F.cosine_similarity(asked[0].flatten(1), right.flatten(1))[None], likest]),
        )

    def _features(self, spectra: Tensor) -> Tensor:
        """(pairs, semitones, frames) as bytes hold them, in standard deviations, less their means."""
        network = self.encoder.network.contrast
        portions = (network(part) for part in spectra.split(12))
        features = (torch.cat(list(portions)) * network.scale).round().clamp(max=255) / SCALE
        return features - features.mean(2, keepdim=True)

    def _step(self, step: int, laid: Laid) -> float:
        """One update, portion by portion; all pairs of a batch are shifted alike, so that no semitone is special."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.schedule, step)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        shift = int(np.random.default_rng([step, self.schedule.seed]).integers(-5, 6))
        queries, references = (_shifted(side, shift) for side in laid[:2])
        right = torch.zeros(len(queries), 1, 1, device=self.device)
        right[0] = 1
        pairs, total = queries.shape[1], 0.0
        for part in torch.arange(pairs).split(max(self.schedule.chunk // len(queries), 1)):
            odds = self.network(queries[:, part].flatten(0, 1), references[:, part].flatten(0, 1))
            truth = right.expand(-1, len(part), odds.shape[1]).flatten(0, 1)
            loss = F.binary_cross_entropy_with_logits(odds, truth, pos_weight=truth.new_tensor(_WRONG))
            loss = loss * len(part) / pairs
            loss.backward()
            total += loss.item()
        if not np.isfinite(total):
            raise diverged(total, f"at step {step}")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        self.optimiser.step()
        return total

    @torch.inference_mode()
    def _judged(self) -> tuple[float, float]:
        self.network.eval()
        odds = [torch.stack([self.network(q, r).mean(1) for q, r in zip(*laid[:2])]) for laid in self.unseen]
        return _judged(torch.cat(odds, dim=1).cpu().numpy())


def _shifted(features: Tensor, semitones: int) -> Tensor:
    """(wrong, pairs, semitones, frames), all so many semitones lower."""
    flat = features.flatten(0, 1)
    return lowered(flat, torch.full((len(flat),), semitones, device=flat.device)).unflatten(0, features.shape[:2])


def _judged(scores: NDArray[np.float32]) -> tuple[float, float]:
    """(1 + wrong, pairs), the true ones first -> AUROC over the best wrong one of each, share over all its own."""
    true, wrong = scores[0], scores[1:].max(axis=0)
    return float((true[:, None] > wrong).mean()), float((true > wrong).mean())

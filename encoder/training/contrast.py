"""Train the contrast network of an encoder: pairs from the stem cache -> features that survive other music.

The correlator tries every tempo ratio and transposition, so features need not withstand these, only what is mixed over
a sample. A pair's query view is therefore played back at the nearest ratio and transposition in steps of the
correlator's, up to half a frame off, and pieces of both views are compared by their cosine, place by place. A piece of
the reference has to be nearer to its own piece of the query than to those of other tracks in the batch, as they are and
at wrong transpositions, and a piece of the query nearer to its own piece of the reference than to those of others; what
may show the same does not count. Nothing but the contrast network is trained, and the scale of the cosines; what the
encoder makes of segments stays as it is.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import checkpoint
from encoder.checkpoint import Checkpoint, CheckpointError
from encoder.contrast_network import ContrastNetwork, LearnedContrast
from encoder.systems import KINDS, SYSTEMS, System
from encoder.training import augment, losses
from encoder.training.augment import Views
from encoder.training.makers import pairs_of
from encoder.training.pairing import Pairing
from encoder.training.pairs import PairBatch
from encoder.training.run import Run, mixed
from encoder.training.schedule import Schedule, diverged, rate, refuse_unread
from encoder.training.stem_cache import StemCache

FILE = "encoder.safetensors"
TEMPO_STEP = 0.06  # of the logarithm, as in reranker.correlate.Correlation
_VALIDATION_SEED = 7_000_000
_COMPARED = 5 / 8  # of a segment, in the middle of both views: what is left of it at the slowest tempo
_PIECES = 2  # of that
# Pairs that go through the network at once, and share the statistics of its norms: what so few need stays in fast
# memory, which takes a third off the time of a step on a CPU.
_PORTION = 12
_FAINT = 0.1  # scale of what blocks add that a smaller network did not have
_LOUDEST = 0.99  # share of the reference views' features that bytes can hold

# Whole samples in place, as far transposed as the correlator looks (varispeed goes farther), at every level at once.
PAIRING = Pairing(
    offset=0.0,
    transposition=5.0,
    foreign_interference=0.7,
    whole_reference=0.5,
    drums=0.4,
    equaliser=6.0,
    varispeed=0.25,
    level=(-10.0, 8.0),
    mixes=4,
    interferers=0.3,
    saturation=0.1,
    reverb=0.1,
    band_limit=0.1,
)
SCHEDULE = Schedule(epochs=12, steps=50, batch=192, learning_rate=2e-3, final_rate=1e-5, warmup=20, temperature=0.05)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did; figures of the validation split, whose artists training never sees."""

    epoch: int  # from 1
    pairs: int  # seen so far
    loss: float  # mean of the epoch
    learning_rate: float
    hit_rate_1: float  # a piece of a query view is nearest to its own among all pieces of reference views
    before: float  # the same of what the run began with
    best: bool
    pairs_per_second: float
    seconds: float


def train(
    cache: StemCache,
    encoder: Path,
    out: Path,
    *,
    schedule: Schedule = SCHEDULE,
    device: str = "cpu",
    resume: bool = True,
) -> Iterator[Epoch]:
    """Train the contrast network of the checkpoint `encoder`, keep the best as out/encoder.safetensors.

    Yields one record per epoch. Resumes from the state kept in `out`; one of other settings is refused. CheckpointError
    where the system's front end is not LogFrequency, ValueError for values of the schedule that are not read.
    """
    refuse_unread(schedule, SCHEDULE, ("chunk", "portion"))
    yield from _Run(cache, encoder, out, schedule, device).records(resume=resume)


class _Run(Run):
    """Network, optimiser and data of one training."""

    def __init__(
        self, cache: StemCache, encoder: Path, out: Path, schedule: Schedule, device: str | torch.device
    ) -> None:
        super().__init__(out, schedule, device)
        self.loaded = checkpoint.load(encoder, *KINDS)
        with torch.random.fork_rng():
            torch.manual_seed(schedule.seed)
            self.system, self.whole = _with_contrast(self.loaded, encoder)
        self.whole.to(self.device)
        self.network: ContrastNetwork = self.whole.contrast
        self.network.to(memory_format=torch.channels_last)
        self.scale = nn.ParameterDict({"logarithm": torch.tensor(1 / self._temperature()).log()}).to(self.device)
        learning = [*self.network.parameters(), *self.scale.parameters()]
        self.optimiser = torch.optim.AdamW(learning, lr=schedule.learning_rate, weight_decay=1e-3)
        grid = self.system.grid
        self.piece = int(grid.frames // self.network.contrast.pool * _COMPARED) // _PIECES  # frames of features
        self.maker = pairs_of(cache, self.system, split="train", seed=schedule.seed, pairing=PAIRING)
        self.front_end = self.system.spectra().to(self.device)
        held_out = dict(split="validation", seed=_VALIDATION_SEED)
        unseen = pairs_of(cache, self.system, **held_out, pairing=PAIRING.unseen)
        batch = unseen.batch(0, schedule.validation_pairs)
        self.unseen = batch, augment.views(batch, self.front_end, grid)
        self.before = self._validate()

    def advance(self) -> Epoch:
        """One epoch: train, validate, keep."""
        began = time.perf_counter()
        first, end = (n * self.schedule.steps for n in (self.epoch, self.epoch + 1))
        steps = mixed(self.maker, self.schedule.batch, self.front_end, first, end)
        losses = [self._step(step, batch, views) for step, batch, views in steps]
        seconds = time.perf_counter() - began
        hits = self._validate()
        record = Epoch(
            epoch=self.epoch + 1,
            pairs=end * self.schedule.batch,
            loss=float(np.mean(losses)),
            learning_rate=rate(self.schedule, end - 1),
            hit_rate_1=hits,
            before=self.before,
            best=hits > self.best,
            pairs_per_second=len(losses) * self.schedule.batch / seconds,
            seconds=time.perf_counter() - began,
        )
        self.keep(record, hits)
        return record

    def parts(self) -> dict[str, Any]:
        return dict(network=self.network, scale=self.scale, optimiser=self.optimiser)

    def settings(self) -> dict[str, Any]:
        schedule = asdict(replace(self.schedule, epochs=1, patience=1))
        learned = {"pairing": asdict(PAIRING), "data": self.maker.told()}
        return {"encoder": self.loaded.digest, "schedule": schedule} | learned

    def save(self) -> None:
        self._fit_bytes()
        run = dict(started_from=self.loaded.digest, temperature=1 / self.scale["logarithm"].exp().item())
        told = self.loaded.provenance | dict(contrast=self.provenance(**self.maker.told()) | run)
        checkpoint.save(self.out / FILE, self.system, self.whole, provenance=told)

    def _temperature(self) -> float:
        """To begin with: what the weights were left at, or sharper; a softer one undoes what they have learned."""
        learned = self.loaded.provenance.get("contrast", {}).get("temperature", self.schedule.temperature)
        return min(learned, self.schedule.temperature)

    def _step(self, step: int, batch: PairBatch, views: Views) -> float:
        rng = np.random.default_rng([self.schedule.seed, step])
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.schedule, step)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        share = -(-self.schedule.batch // self.schedule.lanes)
        shares = list(zip(views.references.split(share), views.queries.split(share), strict=True))
        loss = losses.backward_side_by_side(
            self._features, shares, lambda found: self._loss(*self._pieces(batch, found, rng), views)
        )
        if not torch.isfinite(loss):
            raise diverged(loss.item(), f"at step {step}")
        nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        self.optimiser.step()
        return loss.item()

    def _pieces(
        self, batch: PairBatch, features: Tensor, rng: np.random.Generator | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Unit vectors of the reference views' pieces, and of the query views' at right and at wrong transpositions.

        (pairs * pieces, semitones * frames) each, of the `features` of both views. Without `rng` the views lie exactly
        on each other.
        """
        references, queries = (features - features.mean(3, keepdim=True)).unbind(1)
        pairs, frames, device = len(references), self.piece * _PIECES, self.device
        tempo = np.exp(np.round(np.log(batch.tempo) / TEMPO_STEP) * TEMPO_STEP)
        semitones = np.round(batch.transposition).astype(int)
        off = np.zeros(pairs) if rng is None else rng.uniform(-0.5, 0.5, pairs)
        back = played_back(queries, *(torch.from_numpy(x).float().to(device) for x in (tempo, off)), frames)
        still = torch.zeros(pairs, device=device)
        wrong = [] if rng is None else [rng.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5], pairs) for _ in range(2)]
        shifts = [torch.from_numpy(semitones + by).to(device) for by in (0, *wrong)]
        reference = played_back(references, still + 1, still, frames)
        return _units(reference, self.piece), [_units(lowered(back, by), self.piece) for by in shifts]

    def _features(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Features of reference and query views, (pairs, 2, semitones, frames), portion by portion."""
        half = self.network.training and self.schedule.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            sides = zip(*(side.split(_PORTION) for side in views), strict=True)
            return torch.cat([torch.stack(self.network(torch.cat(side)).chunk(2), dim=1) for side in sides])

    def _loss(self, references: Tensor, queries: list[Tensor], views: Views) -> Tensor:
        """Cross-entropy in both directions; what may show the same is neither right nor wrong."""
        alike = _pieces_alike(views)
        right = torch.arange(len(references), device=references.device)
        with torch.autocast(references.device.type, enabled=False):
            cosines = references @ torch.cat(queries).T * self.scale["logarithm"].exp().clamp(max=100)
        first = alike.clone()
        first[right, right] = False
        masked = cosines.masked_fill(torch.cat([first] + [alike] * (len(queries) - 1), dim=1), -torch.inf)
        backwards = masked[:, : len(right)].T
        return (F.cross_entropy(masked, right) + F.cross_entropy(backwards, right)) / 2

    @torch.inference_mode()
    def _validate(self) -> float:
        """Share of query pieces that are nearer to their own reference piece than to any of another track.

        Ties count against us. Loops repeat: another piece of the same track may be as near, which is no error.
        """
        self.network.eval()
        batch, views = self.unseen
        references, queries = self._pieces(batch, self._features(views[:2]), None)
        cosines = queries[0] @ references.T
        right = cosines.diagonal()[:, None]
        others = cosines.masked_fill(_pieces_alike(views).T, -torch.inf)
        return (others < right).all(1).float().mean().item()

    @torch.inference_mode()
    def _fit_bytes(self) -> None:
        """Scale the features so that bytes hold nearly all of those of the reference views."""
        self.network.eval()
        values = self.network(self.unseen[1].references).flatten().cpu().numpy()
        self.network.scale.fill_(255 / max(float(np.quantile(values, _LOUDEST)), 1e-6))


def _with_contrast(loaded: Checkpoint, path: Path) -> tuple[System, nn.Module]:
    """The encoder's system and networks; the contrast network has the recipe's shape, and takes over what there is."""
    system: System = loaded.config
    if system.plain_contrast() is None:
        raise CheckpointError(f"{path}: system {system.name} has no log-frequency spectrum to learn contrast from")
    network = loaded.restore(system.build())
    before, system = system, replace(system, contrast=_shape(system))
    if before.contrast != system.contrast:
        smaller, network.contrast = getattr(network, "contrast", None), system.contrast_network()
        if smaller is not None:
            _take_over(network.contrast, smaller.state_dict())
    return system, network


def _shape(system: System) -> LearnedContrast:
    """The recipe's, where it holds the network that there is; else that of the network."""
    own, recipe = system.contrast, SYSTEMS.get(system.name, system).contrast
    if own is None or recipe is None:
        return own or recipe or LearnedContrast()
    begins_alike = recipe.dilations[: len(own.dilations)] == own.dilations
    return recipe if begins_alike and recipe.channels >= own.channels and recipe.strokes >= own.strokes else own


def _take_over(network: ContrastNetwork, weights: dict[str, Tensor]) -> None:
    """The weights of a smaller network, which hear nothing of new channels at first, and a tenth of new blocks."""
    for name, new in network.state_dict().items():  # the network's own memory
        if (old := weights.get(name)) is None:
            if name.endswith("norm.weight"):
                new.fill_(_FAINT)
        elif not old.ndim:
            new.copy_(old)
        else:
            kept = new[: len(old)].zero_()  # new channels, which come after these, stay as they were drawn
            kept[tuple(slice(size) for size in old.shape)] = old


def played_back(features: Tensor, tempo: Tensor, off: Tensor, frames: int) -> Tensor:
    """(batch, semitones, frames) around the middle, as at 1 / `tempo` times the tempo and `off` frames later."""
    size = features.shape[2]
    steps = torch.arange(frames, device=features.device) - (frames - 1) / 2
    places = (steps + off[:, None]) / tempo[:, None] + (size - 1) / 2
    low = places.floor().long().clamp(0, size - 2)
    part = (places - low).clamp(0, 1)[:, None]
    index = low[:, None].expand(-1, features.shape[1], -1)
    return features.gather(2, index) * (1 - part) + features.gather(2, index + 1) * part


def lowered(features: Tensor, semitones: Tensor) -> Tensor:
    """(batch, semitones, frames), each item as if so many semitones lower; what enters at the edge is silent."""
    size = features.shape[1]
    source = torch.arange(size, device=features.device) + semitones[:, None]
    there = ((source >= 0) & (source < size))[..., None]
    return features.gather(1, source.clamp(0, size - 1)[..., None].expand_as(features)) * there


def may_be_alike(views: Views) -> Tensor:
    """(references, queries): whether a query view may show what a reference view shows."""
    alike = views.tracks[:, None] == views.tracks
    if views.covers is not None:
        alike |= (views.tracks[:, None, None] == views.covers).any(2)
    return alike


def _pieces_alike(views: Views) -> Tensor:
    return may_be_alike(views).repeat_interleave(_PIECES, 0).repeat_interleave(_PIECES, 1)


def _units(features: Tensor, piece: int) -> Tensor:
    """Unit vectors (batch * pieces, semitones * piece) of pieces of so many frames."""
    batch, semitones, frames = features.shape
    pieces = features.reshape(batch, semitones, frames // piece, piece).transpose(1, 2)
    return F.normalize(pieces.reshape(-1, semitones * piece), dim=1)

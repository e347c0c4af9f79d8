"""Verify: a window of a query and a reference, laid upon each other along what was found -> whether it is a sample.

Correlation counts products of features and cannot tell a sample under other music from two pieces that happen to be
alike: much the same sum comes about. A few convolutions over query, reference and product see how they are alike: a
sample's partials go on, its onsets stand where the reference has them, and the reference explains what it covers.
Trained by reranker/verify_training.py on pairs that correlation confuses most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder import checkpoint
from encoder.checkpoint import Checkpoint, CheckpointError
from encoder.contrast import SCALE
from reranker.rank import Occurrence
from reranker.warp import heard_at, transposed

Features = NDArray[np.uint8]  # (frames, bins)

_MARGIN = 16  # frames on either side of an occurrence that the network sees and does not judge
_DOUBT = 5.0  # half frames, as it were, of even odds, so that a short occurrence decides less


@dataclass(frozen=True, kw_only=True)
class VerifierConfig:
    """Sizes of the network; 16 channels are 35,000 parameters for 85 semitones."""

    semitones: int = 85
    channels: int = 16

    def __post_init__(self) -> None:
        if self.semitones < 8 or self.channels < 1:
            raise ValueError(
                f"verifier: {self.semitones} semitones, {self.channels} channels, expected 8 and 1 or more"
            )


@dataclass(frozen=True, kw_only=True)
class TrainedVerifier:
    """Configuration of a verifier checkpoint."""

    verifier: VerifierConfig
    contrast: str  # digest of the encoder's contrast network; a verifier is of no use with other features


KINDS = (TrainedVerifier, VerifierConfig)  # of a checkpoint


class Verifier(nn.Module):
    """Aligned features -> log odds, every second frame, that the query samples the reference there."""

    def __init__(self, config: VerifierConfig = VerifierConfig(), *, digest: str = "") -> None:
        """`digest` is that of the checkpoint."""
        super().__init__()
        self.digest = digest
        narrow, wide = config.channels, 2 * config.channels
        strides = ((3, narrow, (2, 1)), (narrow, narrow, (2, 1)), (narrow, wide, (2, 2)), (wide, wide, (2, 1)))
        self.cells = nn.Sequential(*(_block(*sizes) for sizes in strides))
        rows = config.semitones
        for _ in strides:
            rows = (rows + 1) // 2
        self.bands = nn.Conv1d(wide * rows, wide, 3, padding=1)
        self.last = nn.Conv1d(wide, 1, 1)

    def forward(self, query: Tensor, reference: Tensor) -> Tensor:
        """(batch, semitones, frames) each, at the reference's pitch, less their means -> (batch, frames / 2)."""
        seen = self.cells(torch.stack([query, reference, query * reference], dim=1))
        return self.last(F.relu(self.bands(seen.flatten(1, 2))))[:, 0]

    @torch.inference_mode()
    def verdict(
        self, window: Features, reference: Features, occurrences: Sequence[Occurrence], *, seconds: float
    ) -> float:
        """Mean log odds over what the occurrences, one or more, cover, drawn to 0 where that is short.

        `seconds` from frame to frame.
        """
        query, laid, covered = laid_upon(window, reference, occurrences, seconds=seconds)
        odds = self(query.T[None], laid.T[None])[0]
        weights = F.avg_pool1d(covered[None, None], 2, ceil_mode=True)[0, 0, : len(odds)]
        return float((odds * weights).sum() / (weights.sum() + _DOUBT))


def laid_upon(
    window: Features, reference: Features, occurrences: Sequence[Occurrence], *, seconds: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Query and reference (frames, semitones) as they lie upon each other, and which frames occurrences cover.

    In standard deviations of the contrast, less the means of window and reference; 0 where nothing lies upon the query.
    """
    query = transposed(torch.from_numpy(window / np.float32(SCALE)), -(occurrences[0].transposition or 0.0))
    held = torch.from_numpy(reference / np.float32(SCALE))
    where, covered = np.full(len(window), np.nan), np.zeros(len(window), np.float32)
    for margin in (_MARGIN, 0):  # what is covered last counts
        for o in occurrences:
            first, last = (round(second / seconds) for second in o.query_span)
            frames = np.arange(max(first - margin, 0), min(last + margin, len(window)))
            where[frames] = o.reference_span[0] / seconds + (frames - o.query_span[0] / seconds) * (o.tempo_ratio or 1)
            covered[frames] = margin == 0
    there = torch.from_numpy((where >= 0) & (where <= len(reference) - 1))
    laid = heard_at(held, torch.from_numpy(np.nan_to_num(where))) - held.mean(0)
    return query - query.mean(0), torch.where(there[:, None], laid, 0.0), torch.from_numpy(covered)


def shipped() -> Path:
    """The verifier checkpoint that comes with the package, trained for the shipped contrast network."""
    return Path(str(resources.files("reranker") / "weights" / "verifier.safetensors"))


def shipped_for(*, contrast: str) -> Verifier | None:
    """The verifier that comes with the package; None where features are others, of which it knows nothing."""
    loaded = checkpoint.load(shipped(), *KINDS)
    return _restored(loaded) if loaded.config.contrast == contrast else None


def load(path: Path, *, contrast: str) -> Verifier:
    """The verifier at `path`; raises CheckpointError where it is not made for this contrast network."""
    loaded = checkpoint.load(path, *KINDS)
    if loaded.config.contrast != contrast:
        raise CheckpointError(
            f"{path}: made for contrast network {loaded.config.contrast[:12]}, in use is {contrast[:12]}; "
            "train one with this encoder by `asid train verifier`, or leave it away"
        )
    return _restored(loaded)


def _restored(loaded: Checkpoint) -> Verifier:
    return loaded.restore(Verifier(loaded.config.verifier, digest=loaded.digest))


def _block(before: int, after: int, stride: tuple[int, int]) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())

"""Augmentation on the device: waveforms of a batch of pairs -> spectra of both views.

aug2 of NeuralSampleID, pitch and tempo together, is read off the spectrum (FrontEnd.warped), so a batch costs about
two Fourier transforms. Colour is added where it is a sum: in decibels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from encoder.segments import SegmentGrid
from encoder.spectrogram import FrontEnd
from encoder.training.pairs import PairBatch

_PORTION = 64  # pairs whose windows are in memory at once


class Views(NamedTuple):
    """Spectra of both sides of a batch of pairs."""

    references: Tensor  # (pairs, bins, frames)
    queries: Tensor  # (pairs, bins, frames)
    tracks: Tensor  # (pairs,)


@torch.no_grad()
def views(batch: PairBatch, front_end: FrontEnd, grid: SegmentGrid) -> Views:
    """Spectra of both views, the query view warped, on the front end's device."""
    device = front_end.bank.device
    parts = list(_portions(batch, front_end, grid, device))
    references, queries = (torch.cat(side) for side in zip(*parts, strict=True))
    return Views(references, queries, torch.from_numpy(batch.tracks).to(device))


def _portions(
    batch: PairBatch, front_end: FrontEnd, grid: SegmentGrid, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    arrays = batch.references, batch.queries, batch.tempo, batch.transposition, *batch.colour
    for start in range(0, len(batch.tracks), _PORTION):
        reference, query, tempo, transposition, *colours = (
            torch.from_numpy(a[start : start + _PORTION]).to(device, non_blocking=True) for a in arrays
        )
        warped = front_end.warped(query, tempo=tempo, transposition=transposition, frames=grid.frames)
        yield tuple(x + _curve(c, x.shape[1]) for x, c in zip((front_end(reference), warped), colours, strict=True))


def _curve(coefficients: Tensor, bins: int) -> Tensor:
    """A smooth gain over frequency, (pairs, bins, 1) dB: a sum of a few half cosines."""
    position = (torch.arange(bins, device=coefficients.device) + 0.5) / bins
    order = torch.arange(1, coefficients.shape[1] + 1, device=coefficients.device)
    return (coefficients @ torch.cos(torch.pi * order.unsqueeze(1) * position)).unsqueeze(2)

"""Stem features: the stems of one track -> what stands out in each stem, as far as it is heard in the mix.

Contrast does not depend on level, so what a separation leaves of a loud stem in a quiet one would stand out in both.
Each value is therefore multiplied by the stem's share of the power at that time and semitone: of a residue 20 dB down
remains 1 %.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool1d

from encoder.contrast import Contrast, to_semitones
from encoder.encode import Encoder

_NOTHING = 1e-10  # power that is added in each cell, -100 dB: where all is silent, nobody has a share


def of_stems(encoder: Encoder, stems: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.uint8]]:
    """Stems (samples,) mono of one length at the encoder's rate -> contrast features (frames, semitones) of each.

    Frame for frame where the features of their mix are. ValueError where lengths differ, samples are not finite or
    the encoder has no contrast features.
    """
    contrast = require_contrast(encoder)
    _require_usable(stems)
    streams = [encoder.contrast_stream([np.asarray(wave, np.float32)]) for wave in stems.values()]
    parts = [_heard(block, contrast) for block in zip(*streams, strict=True)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(stems)}


def require_contrast(encoder: Encoder) -> Contrast:
    """How the encoder's contrast features are made; ValueError where it has none."""
    contrast = encoder.system.plain_contrast()
    if contrast is None:
        raise ValueError(f"system {encoder.system.name} has no contrast features, expected one that has, such as asid")
    return contrast


def _require_usable(stems: Mapping[str, NDArray[np.float32]]) -> None:
    if len({len(wave) for wave in stems.values()}) != 1:
        lengths = ", ".join(f"{name} {len(wave)}" for name, wave in stems.items())
        raise ValueError(f"stems of {lengths or 'no'} samples, expected one or more stems of one length")
    if unusable := [name for name, wave in stems.items() if not np.isfinite(wave).all()]:
        raise ValueError(f"stems {', '.join(unusable)} hold NaN or infinite samples, expected finite audio")


def _heard(stems: Sequence[tuple[Tensor, NDArray[np.uint8]]], contrast: Contrast) -> list[NDArray[np.uint8]]:
    """(frames, semitones) of each stem in one block, from its spectrum and contrast."""
    rows = [features.reshape(-1, features.shape[2]) for _, features in stems]
    power = torch.stack([_power(spectrum, contrast)[: len(rows[0])] for spectrum, _ in stems])
    shares = (power / (power.sum(0) + _NOTHING)).cpu().numpy()
    return [np.rint(row * share).astype(np.uint8) for row, share in zip(rows, shares, strict=True)]


def _power(spectrum: Tensor, contrast: Contrast) -> Tensor:
    """(bins, frames) in dB -> (frames // pool, semitones) power."""
    semitones = to_semitones(len(spectrum), contrast.bins_per_octave).to(spectrum)
    return avg_pool1d(semitones @ 10 ** (spectrum / 10), contrast.pool).T

"""Look: the sound of an excerpt -> small pictures for a page: waveforms, log-frequency spectrograms, similarity matrix.

Pictures hold no axes: the page draws them over the picture, in letters that keep their size on a phone. What is
compared is the sound itself, through the contrast features of `encoder/contrast.py`; no trained network takes part.
"""

import base64
import io

import numpy as np
import torch
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy.ndimage import convolve

from encoder import contrast
from encoder.contrast import Contrast
from encoder.spectrogram import FrontEnd, LogFrequency
from evaluation.evidence.listen import RATE, Wave
from reranker import warp

COLUMNS = 480  # of a picture at most
_FRONT_END = LogFrequency()
_DEPTH = 60.0  # dB under the loudest value that are shown
_FRAME = 704  # samples between two frames of the matrix's spectra, 32 ms
_SMOOTH = 1.0  # seconds along a diagonal over which likeness is averaged
# Averaged cosines: 99 % of what chance gives lies under 0.4; planted samples under other music reach 0.8 to 0.9.
SCALE = 0.05, 0.7
OCTAVES = tuple(_FRONT_END.f_min * 2.0**k for k in range(1, 7))  # Hz, marked in the spectrograms


def octave_place(frequency: float) -> float:
    """Where a frequency lies in a spectrogram, from bottom (0) to top (1)."""
    return float(np.log2(frequency / _FRONT_END.f_min) * _FRONT_END.bins_per_octave / (_FRONT_END.bins - 1))


def waveform(wave: Wave, columns: int = 300) -> str:
    """Outline of a wave as the path of an SVG whose view box is (0, -1, columns, 2)."""
    parts = np.array_split(wave, columns) if len(wave) >= columns else [np.zeros(1)] * columns
    high = [f"{x},{-float(part.max()):.2f}" for x, part in enumerate(parts)]
    low = [f"{x},{-float(part.min()):.2f}" for x, part in enumerate(parts)]
    return "M" + "L".join([*high, *reversed(low)]) + "Z"


def spectrogram(wave: Wave) -> NDArray[np.float32]:
    """(bins, columns) from 0 (60 dB under the loudest) to 1, lowest bin first."""
    decibels = _spectrum(wave, frame_hop=max(128, -(-len(wave) // COLUMNS))).numpy()
    return np.clip(1 + (decibels - decibels.max(initial=-200.0)) / _DEPTH, 0, 1)


def similarity(query: Wave, reference: Wave, *, tempo_ratio: float, transposition: float) -> NDArray[np.float32]:
    """(reference frames, query frames), 64 ms each in the query's time, cosines averaged along diagonals.

    The reference is brought to the query's tempo and pitch, so that what is sampled lies on diagonals of slope 1.
    Either side shorter than a second gives an empty matrix.
    """
    asked, asking = _audible(reference), _audible(query)
    if min(len(asked) / tempo_ratio, len(asking)) < _SMOOTH / frame_seconds():
        return np.zeros((0, 0), np.float32)
    there = warp.transposed(warp.stretched(asked, 1 / tempo_ratio), transposition)
    cosines = _unit(there) @ _unit(asking).T
    window = np.hanning(round(_SMOOTH / frame_seconds()) + 2)[1:-1]
    return convolve(cosines.numpy(), np.diag(window / window.sum()).astype(np.float32), mode="constant")


def frame_seconds() -> float:
    """Seconds between two frames of the matrix."""
    return _FRAME * Contrast().pool / RATE


def shown(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix on a scale that is the same for all: 0 is chance, 1 as good as certain; noise stays dark."""
    low, high = SCALE
    return np.clip((matrix - low) / (high - low), 0, 1)


def picture(values: NDArray[np.float32], *, colours: str = "magma", quality: int = 60) -> str:
    """(rows, columns) from 0 to 1, first row at the bottom, as the data URI of a WebP picture."""
    written = io.BytesIO()
    imsave(
        written, values, vmin=0, vmax=1, cmap=colours, origin="lower", format="webp", pil_kwargs={"quality": quality}
    )
    return uri(written.getvalue(), "image/webp")


def uri(content: bytes, kind: str) -> str:
    """Content as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _audible(wave: Wave) -> torch.Tensor:
    """(frames, bins) centred features; silent frames are zero, else two silences would be alike."""
    features = contrast.features(_spectrum(wave, frame_hop=_FRAME), Contrast(frame=_FRAME / RATE))
    return warp.centred(features) * torch.from_numpy(features.any(axis=1, keepdims=True))


def _spectrum(wave: Wave, *, frame_hop: int) -> torch.Tensor:
    """(bins, frames) in dB, frames centred."""
    half = _FRONT_END.n_fft // 2
    padded = np.pad(wave, (half, half + frame_hop))
    return FrontEnd(_FRONT_END, sample_rate=RATE, frame_hop=frame_hop)(torch.from_numpy(padded)[None])[0]


def _unit(frames: torch.Tensor) -> torch.Tensor:
    """Frames of length 1; quiet ones count as if they were a tenth as strong as the median."""
    energy = frames.square().sum(1, keepdim=True)
    return frames / torch.maximum(energy, 0.1 * energy.median()).clamp(min=1e-6).sqrt()

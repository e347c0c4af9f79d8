"""Repetition: whether two moments of a track play the same thing, so that neither is a wrong answer for the other."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

_EVERY = 8  # samples that are averaged into one: 2 kHz of 16
_ALIKE = 0.3  # share of a stem's energy that may be found in the other moment, at any lag


def repeats(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether a sum of the stems or any single stem of one moment, (stems, samples), sounds again in the other.

    What repeats is found by correlating waveforms: a loop played again from the same recording, not the same notes
    played by hand. Sustained tones are alike at some lag and count as repeated as well.
    """
    a, b = _slow(first), _slow(second)
    size = next_fast_len(2 * a.shape[1], real=True)
    spectra = [rfft(x, size) for x in (a, b)]
    products = irfft(spectra[0][:, None] * spectra[1][None].conj(), size)
    energies = np.sqrt(np.square(a).sum(1)[:, None] * np.square(b).sum(1)[None])
    return bool((np.abs(products).max(2) > _ALIKE * energies).any())


def _slow(stems: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of the stems and each of them, at an eighth of the rate."""
    whole = np.concatenate([stems.sum(0, keepdims=True), stems])
    return whole[:, : whole.shape[1] // _EVERY * _EVERY].reshape(len(whole), -1, _EVERY).mean(2)

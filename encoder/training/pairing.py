"""Pairing: how a pair of views is made; the defaults are NeuralSampleID's recipe (equations 6 to 8)."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from encoder.segments import SegmentGrid

REPLAYED = (0.85, 1.18), 4.0  # tempo, log-uniform, and semitones up and down of a track that is played otherwise
_PROBABILITIES = ("foreign_interference", "whole_reference", "short", "varispeed", "interferers", "same_song")
_PROBABILITIES += ("drums", "chopped", "saturation", "reverb", "band_limit", "replayed")


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How a pair is made; every field that the paper does not know is off by default.

    The level of the sample is the paper's `gain` over stems as loud as they are in their track, or, where `level` is
    given, so many dB over an interference brought to the sample's loudness (RMS). Interference of another track is
    brought to it in either case.
    """

    offset: float = 0.25  # seconds, aug1, uniform in both directions
    gain: float = 10.0  # dB, aug1, uniform in both directions; not used where `level` is given
    transposition: float = 3.0  # semitones, aug2, uniform in both directions
    tempo: tuple[float, float] = (0.7, 1.5)  # aug2, log-uniform
    audible: float = -30.0  # dB under the mix at which a stem still counts as audible in the window
    foreign_interference: float = 0.0  # probability that S_r comes from another track (of a batch's first mix)
    whole_reference: float = 0.0  # probability, with foreign interference, that the reference view is the whole mix
    drums: float = 0.0  # probability, of a track with drums beside other stems, that the drums alone are the sample
    equaliser: float = 0.0  # dB, standard deviation of a smooth random colour of each view
    short: float = 0.0  # probability that the sample is shorter than the segment; half of these are looped
    shortest: float = 1.2  # seconds, of a short sample; log-uniform up to the segment
    varispeed: float = 0.0  # probability that the transposition is that of a record played at the tempo drawn
    level: tuple[float, float] | None = None  # dB of the sample over the interference, uniform in between
    level_start: tuple[float, float] | None = None  # the same at step 0, where training begins with easier pairs
    level_steps: int = 0  # after which `level` is reached, both ends moving linearly
    mixes: int = 1  # training steps per batch of waveforms, each with other interference, levels and colours
    interferers: float = 0.0  # probability that two tracks lie over the sample (not in a batch's first mix)
    same_song: float = 0.0  # probability, per two pairs, that the second shows another moment of the first's track
    chopped: float = 0.0  # probability that a short sample is cut into 2 to 4 chops played in another order
    saturation: float = 0.0  # probability that the sample is driven into saturation
    reverb: float = 0.0  # probability that the sample gets reverberation
    band_limit: float = 0.0  # probability, of each view, that it loses its highest and its faintest bands
    replayed: float = 0.0  # probability that the track itself is played otherwise, in both views: one track is many

    def __post_init__(self) -> None:
        if not 0 < self.tempo[0] <= self.tempo[1]:
            raise ValueError(f"pairing: tempo is {self.tempo}, expected (low, high) with 0 < low <= high")
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"pairing: {name} is {getattr(self, name)}, expected a probability from 0 to 1")
        for name in ("level", "level_start"):
            given = getattr(self, name)
            if given is not None and not given[0] <= given[1]:
                raise ValueError(f"pairing: {name} is {given}, expected (low, high) with low <= high")
        if self.level_start is not None and (self.level is None or self.level_steps < 1):
            raise ValueError(
                f"pairing: level_start is {self.level_start} with level {self.level} after {self.level_steps} steps, "
                "expected a level and 1 step or more"
            )
        if self.mixes < 1:
            raise ValueError(f"pairing: mixes is {self.mixes}, expected 1 or more")
        if self.interferers and self.mixes == 1:
            raise ValueError(
                f"pairing: interferers is {self.interferers} with 1 mix, expected 2 mixes or more: the first has one"
            )

    @property
    def unseen(self) -> Self:
        """The same for validation: mixed once, by one interferer, and tracks as a catalogue holds them."""
        return replace(self, mixes=1, interferers=0.0, same_song=0.0, replayed=0.0)

    @property
    def in_decibels(self) -> bool:
        """Whether something is done to the views that needs spectra in decibels."""
        return self.equaliser > 0 or self.band_limit > 0

    def query_samples(self, grid: SegmentGrid, n_fft: int) -> int:
        """Samples of source audio that the fastest query view needs."""
        fastest = self.tempo[1] * (REPLAYED[0][1] if self.replayed else 1)
        return int(np.ceil((grid.frames - 1) * grid.frame_hop * fastest)) + n_fft + 1

    def levels(self, step: int | None) -> tuple[float, float]:
        """Lowest and highest level or gain in dB at a training step; None is after all of them."""
        if self.level is None:
            return -self.gain, self.gain
        if self.level_start is None or step is None:
            return self.level
        share = min(1.0, step / self.level_steps)
        low, high = ((1 - share) * a + share * b for a, b in zip(self.level_start, self.level))
        return low, high


@dataclass(frozen=True, kw_only=True)
class NoisePairing(Pairing):
    """How a pair for identification under noise is made (GraFPrint; encoder/training/noise.py).

    The fields of Pairing with other defaults, and where background and rooms come from.
    """

    offset: float = 0.05  # seconds, uniform in both directions
    transposition: float = 0.0
    tempo: tuple[float, float] = (1.0, 1.0)
    level: tuple[float, float] | None = (0.0, 20.0)  # dB of the excerpt over the background (SNR)
    rooms: float = 0.8  # probability, of a query view, that it is heard in a room
    babble: float = 0.5  # probability that the background is other tracks, else it is noise
    voices: int = 4  # tracks in a babble, at most
    noises: str = ""  # folder of background noise; none: rendered
    responses: str = ""  # folder of impulse responses; none: rendered

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rooms", "babble"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"pairing: {name} is {getattr(self, name)}, expected a probability from 0 to 1")
        if self.voices < 1:
            raise ValueError(f"pairing: voices is {self.voices}, expected 1 or more")
        if self.level is None:
            raise ValueError("pairing: level is None, expected (low, high) in dB of SNR; GraFPrint's is (0, 20)")

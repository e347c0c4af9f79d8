"""Pairs: from the stem cache, (reference view, query view) of one moment of one track.

NeuralSampleID, equations 6 to 8, as printed: the stems audible in a window are partitioned at random into S_q and
S_r; the reference view is x_q = sum of S_q, the query view is x_r = aug2(aug1(x_q) + sum of S_r), where aug1 is a
time offset and a gain and aug2 a change of pitch and of tempo, both. (The paper's letters; we say reference view for
the clean side, since that is what a catalogue holds, and query view for the mixture.)

Additions, off in the paper's recipe: interference from another track, which is what producers mix a sample with and
what lets recordings without stems be used; reference views that hold the whole mix while the query view holds only some
of its stems; samples shorter than the segment, alone or looped; and varispeed, where pitch follows tempo.

Only cutting and adding happens here, in numpy; warping is done on the device (encoder/training/augment.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.segments import SegmentGrid
from encoder.training.stem_cache import StemCache, StemTrack

_SILENT = 3e-4  # RMS (-70 dBFS) under which nothing is heard
_MOMENTS = 20  # tried of a track before another takes its place
_TRACKS = 50  # tried before the cache counts as silent


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How a pair is made; the defaults are the paper's."""

    offset: float = 0.25  # seconds, aug1, uniform in both directions
    gain: float = 10.0  # dB, aug1, uniform in both directions
    transposition: float = 3.0  # semitones, aug2, uniform in both directions
    tempo: tuple[float, float] = (0.7, 1.5)  # aug2, log-uniform
    audible: float = -30.0  # dB under the mix at which a stem still counts as audible in the window
    foreign_interference: float = 0.0  # probability that S_r comes from another track
    whole_reference: float = 0.0  # probability, with foreign interference, that the reference view is the whole mix
    equaliser: float = 0.0  # dB, standard deviation of a smooth random colour of each view
    short: float = 0.0  # probability that the sample is shorter than the segment; half of these are looped
    shortest: float = 1.2  # seconds, of a short sample; log-uniform up to the segment
    varispeed: float = 0.0  # probability that the transposition is that of a record played at the tempo drawn

    def __post_init__(self) -> None:
        if not 0 < self.tempo[0] <= self.tempo[1]:
            raise ValueError(f"pairing: tempo is {self.tempo}, expected (low, high) with 0 < low <= high")

    def query_samples(self, grid: SegmentGrid, n_fft: int) -> int:
        """Samples of source audio that the fastest query view needs."""
        return int(np.ceil((grid.frames - 1) * grid.frame_hop * self.tempo[1])) + n_fft + 1


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Waveforms of a batch before warping; row i of every array belongs to pair i."""

    references: NDArray[np.float32]  # (pairs, window), x_q
    queries: NDArray[np.float32]  # (pairs, longest window), aug1(x_q) + sum of S_r, still unwarped
    tempo: NDArray[np.float32]  # (pairs,) to be applied to the queries
    transposition: NDArray[np.float32]  # (pairs,) semitones, likewise
    colour: NDArray[np.float32]  # (2, pairs, 4) dB, cosine coefficients of each view's equaliser
    tracks: NDArray[np.int64]  # (pairs,) equal numbers are no negatives of each other


class PairMaker:
    """Draws batches from the tracks of one split; batch n of a seed is always the same."""

    def __init__(
        self, cache: StemCache, pairing: Pairing, grid: SegmentGrid, n_fft: int, *, split: str, seed: int
    ) -> None:
        self.cache, self.pairing, self.grid, self.n_fft, self.seed = cache, pairing, grid, n_fft, seed
        self.window = grid.window(1, n_fft)
        self.longest = pairing.query_samples(grid, n_fft)
        self.tracks = [t for t in cache.tracks if t.split == split and t.length >= grid.sample_rate]
        if len(self.tracks) < 2:
            raise ValueError(f"{len(self.tracks)} tracks of a second or more in split {split!r}, expected at least 2")
        seconds = np.array([t.length for t in self.tracks]) / grid.sample_rate
        # A long track holds more distinct moments than a one-shot, but no track may fill the batch.
        weights = np.sqrt(np.clip(seconds, 2, 120)) * np.array([1 + (len(t.stems) > 1) for t in self.tracks])
        self.weights = weights / weights.sum()

    def batch(self, number: int, size: int) -> PairBatch:
        """Batch `number` of this maker's seed, of `size` pairs."""
        rng = np.random.default_rng([self.seed, number])
        repeat = size > len(self.tracks)
        chosen = rng.choice(len(self.tracks), size, replace=repeat, p=self.weights)
        pairs = [self._pair(rng, i) for i in chosen]
        low, high = np.log(self.pairing.tempo)
        tempo = np.exp(rng.uniform(low, high, size)).astype(np.float32)
        limit = self.pairing.transposition
        transposition = rng.uniform(-limit, limit, size)
        if self.pairing.varispeed:
            transposition = np.where(rng.random(size) < self.pairing.varispeed, 12 * np.log2(tempo), transposition)
        return PairBatch(
            references=np.stack([reference for reference, _, _ in pairs]),
            queries=np.stack([self._centred(query, speed) for (_, query, _), speed in zip(pairs, tempo)]),
            tempo=tempo,
            transposition=transposition.astype(np.float32),
            colour=(rng.standard_normal((2, size, 4)) * self.pairing.equaliser / 2).astype(np.float32),
            tracks=np.array([track for _, _, track in pairs], np.int64),
        )

    def _pair(self, rng: np.random.Generator, number: int) -> tuple[NDArray, NDArray, int]:
        """Unwarped reference and query view of a moment at which track `number` is heard, and whose they are."""
        number, stems = self._heard(rng, number)
        if len(stems) == 1 or rng.random() < self.pairing.foreign_interference:
            return *self._with_foreign(rng, self.tracks[number], stems), number
        sampled = _proper_subset(rng, len(stems))
        sample, interference = stems[sampled].sum(0), stems[~sampled].sum(0)
        return *self._views(rng, sample, sample, interference), number

    def _heard(self, rng: np.random.Generator, number: int) -> tuple[int, NDArray[np.float32]]:
        """The audible stems of a moment of that track, or, where it is silent throughout, of another."""
        for _ in range(_TRACKS):
            for _ in range(_MOMENTS):
                stems = self._moment(rng, self.tracks[number])
                audible = self._audible(stems)
                if len(audible):
                    return number, stems[audible]
            number = rng.choice(len(self.tracks), p=self.weights)
        raise ValueError(f"{_TRACKS} tracks in a row are silent, expected audible stems; prepare other recordings")

    def _with_foreign(self, rng: np.random.Generator, track: StemTrack, stems: NDArray) -> tuple[NDArray, NDArray]:
        """The sample is some or all stems of this track; what is mixed over it comes from another, at equal level."""
        subset = _proper_subset(rng, len(stems)) if len(stems) > 1 and rng.random() < 0.5 else np.ones(len(stems), bool)
        sample = stems[subset].sum(0)
        whole = stems.sum(0) if rng.random() < self.pairing.whole_reference else sample
        other = track
        while other is track:
            other = self.tracks[rng.choice(len(self.tracks), p=self.weights)]
        foreign = self._moment(rng, other)
        foreign = foreign[self._audible(foreign)]
        if len(foreign) > 1 and rng.random() < 0.5:
            foreign = foreign[_proper_subset(rng, len(foreign))]
        interference = foreign.sum(0)  # zeros where the other track is silent here: a sample on its own
        return self._views(rng, whole, sample, interference * (_rms(sample) / max(_rms(interference), _SILENT)))

    def _views(self, rng, reference: NDArray, sample: NDArray, interference: NDArray) -> tuple[NDArray, NDArray]:
        """Cut the reference view from the middle; shift, scale and cover the sample: aug1(x_q) + sum of S_r."""
        if self.pairing.short and rng.random() < self.pairing.short:
            sample = self._shortened(rng, sample)
        margin = (len(sample) - self.longest) // 2
        shift = margin + round(rng.uniform(-1, 1) * margin)
        gain = 10 ** (rng.uniform(-self.pairing.gain, self.pairing.gain) / 20)
        start = (len(reference) - self.window) // 2
        query = gain * sample[shift : shift + self.longest] + interference[margin : margin + self.longest]
        return reference[start : start + self.window].astype(np.float32), query.astype(np.float32)

    def _shortened(self, rng: np.random.Generator, sample: NDArray) -> NDArray:
        """Only a part of what the reference view shows of the sample, in its place or looped over the whole length."""
        longest = self.window / self.grid.sample_rate
        length = int(
            np.exp(rng.uniform(*np.log([min(self.pairing.shortest, longest), longest]))) * self.grid.sample_rate
        )
        start = (len(sample) - self.window) // 2 + rng.integers(0, self.window - length + 1)
        part = sample[start : start + length] * _fade(length)
        if rng.random() < 0.5:
            return part[(np.arange(len(sample)) - start) % length]
        return np.pad(part, (start, len(sample) - start - length))

    def _centred(self, query: NDArray, tempo: float) -> NDArray:
        """The query view moved so that what warping reads, from its first sample on, is its middle.

        Both views then share their middle whatever the tempo; what lies behind is not read.
        """
        read = round((self.grid.frames - 1) * self.grid.frame_hop * float(tempo)) + self.n_fft
        return np.roll(query, -((len(query) - read) // 2))

    def _moment(self, rng: np.random.Generator, track: StemTrack) -> NDArray[np.float32]:
        """All stems around a random moment: (stems, longest window and the offset on both sides)."""
        length = self.longest + 2 * round(self.pairing.offset * self.grid.sample_rate)
        start = rng.integers(0, max(track.length - self.window, 0) + 1) - (length - self.window) // 2
        return self.cache.read(track, int(start), length)

    def _audible(self, stems: NDArray) -> NDArray[np.int64]:
        """Stems heard in the middle of the window; of a silent moment, none."""
        start = (stems.shape[1] - self.window) // 2
        middle = stems[:, start : start + self.window]
        levels, mix = np.sqrt(np.square(middle).mean(1)), _rms(middle.sum(0))
        return np.flatnonzero(levels > max(_SILENT, mix * 10 ** (self.pairing.audible / 20)))


def _proper_subset(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A random subset that is neither empty nor everything, as a mask; all of them equally likely."""
    code = rng.integers(1, 2**size - 1)
    return (code >> np.arange(size)) & 1 == 1


def _fade(length: int) -> NDArray[np.float32]:
    """Ones that rise and fall within 5 ms at 16 kHz, so that a cut does not click."""
    ramp = min(80, length // 2)
    edge = np.linspace(0, 1, ramp, endpoint=False, dtype=np.float32)
    return np.concatenate([edge, np.ones(length - 2 * ramp, np.float32), edge[::-1]])


def _rms(x: NDArray) -> float:
    return float(np.sqrt(np.square(x).mean()))

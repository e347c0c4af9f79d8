"""Pairs: from the stem cache, (reference view, query view) of one moment of one track.

NeuralSampleID, equations 6 to 8, as printed: the stems audible in a window are partitioned at random into S_q and
S_r; the reference view is x_q = sum of S_q, the query view is x_r = aug2(aug1(x_q) + sum of S_r), where aug1 is a
time offset and a gain and aug2 a change of pitch and of tempo, both. (The paper's letters; we say reference view for
the clean side, since that is what a catalogue holds, and query view for the mixture; the sample is aug1(x_q) before its
gain, the interference the sum of S_r.)

Additions, off in the paper's recipe: interference from another track, which is what producers mix a sample with and
what lets recordings without stems be used; reference views that hold the whole mix while the query view holds only some
of its stems; samples of drums alone, which a random subset of six stems hardly ever is; samples shorter than the
segment, alone, looped or chopped; varispeed, where pitch follows tempo; tracks that are themselves played otherwise, so
that the network meets more music than there is; and, as hard negatives, pairs of another moment of the same track.

Only reading, adding and cutting happen here, in numpy, and random numbers are drawn: what is done to the waveforms is
done on the device (encoder/training/augment.py). The interference is warped as its sample is, as in the paper: so the
query view of one mix is an ordinary warped mixture, and in further mixes, where interferences change places, it makes
other music of every interference.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.segments import SegmentGrid
from encoder.training import effects, mixing
from encoder.training.cutting import shortened
from encoder.training.pairing import REPLAYED, Pairing
from encoder.training.repetition import repeats
from encoder.training.stem_cache import StemCache

_DRUMS = frozenset({"drums", "percussion"})  # names of stems
_MOMENTS = 20  # tried of a track before another takes its place
_TRACKS = 50  # tried before the cache counts as silent


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Waveforms of a batch before effects, mixing and warping; row i of every array belongs to pair i."""

    references: NDArray[np.float32]  # (pairs, window or longest replayed window), x_q
    samples: NDArray[np.float32]  # (pairs, longest window), x_q or a part of it, shifted
    interferences: NDArray[np.float32]  # (pairs, longest window), sum of S_r
    tempo: NDArray[np.float32]  # (pairs,) to be applied to samples and interferences
    transposition: NDArray[np.float32]  # (pairs,) semitones, likewise
    tracks: NDArray[np.int64]  # (pairs,) pairs of equal track and moment are no negatives of each other
    moments: NDArray[np.int64]  # (pairs,) 0, or 1 for another moment of a track that is in the batch with 0
    effects: effects.Effects  # on the samples
    mixes: tuple[mixing.Mix, ...]  # one per training step
    responses: NDArray[np.float32] | None = None  # (pairs, taps) of the rooms in which the samples are heard
    lead: int = 0  # samples before the place where warping reads, for the rooms' sake
    replayed: NDArray[np.float32] | None = None  # (2, pairs) tempo, semitones of the references, in those above as well


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One pair as it is cut; sample and interference begin where warping reads."""

    reference: NDArray
    sample: NDArray
    interference: NDArray
    loudness: tuple[float, float]  # RMS of sample (before it is shortened) and interference
    track: int
    source: int  # track of the interference
    moment: "Moment"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is heard of a track around one window."""

    track: int
    start: int  # of the window, samples
    stems: NDArray[np.float32]  # (audible stems, samples); the window lies in the middle
    drums: NDArray[np.bool_]  # (audible stems,) which of them are


class PairMaker:
    """Draws batches from the tracks of one split; batch n of a seed is always the same."""

    def __init__(
        self, cache: StemCache, pairing: Pairing, grid: SegmentGrid, n_fft: int, *, split: str, seed: int
    ) -> None:
        self.cache, self.pairing, self.grid, self.n_fft, self.seed = cache, pairing, grid, n_fft, seed
        self.window = grid.window(1, n_fft)
        self.longest = pairing.query_samples(grid, n_fft)
        self.widest = self._read(REPLAYED[0][1]) if pairing.replayed else self.window  # of a reference view
        self.lead = 0  # samples that a view holds before its window
        self.offset = round(pairing.offset * grid.sample_rate)
        self.tracks = [t for t in cache.tracks if t.split == split and t.length >= grid.sample_rate]
        if len(self.tracks) < 2:
            raise ValueError(f"{len(self.tracks)} tracks of a second or more in split {split!r}, expected at least 2")
        seconds = np.array([t.length for t in self.tracks]) / grid.sample_rate
        # A long track holds more distinct moments than a one-shot, but no track may fill the batch.
        weights = np.sqrt(np.clip(seconds, 2, 120)) * np.array([1 + (len(t.stems) > 1) for t in self.tracks])
        self.weights = weights / weights.sum()

    def told(self) -> dict[str, Any]:
        """What is learned from, for a checkpoint and for whoever resumes: the digest is of names and lengths."""
        lengths = [(t.track, t.length) for t in self.tracks]
        hours = sum(length for _, length in lengths) / self.grid.sample_rate / 3600
        digest = hashlib.sha256(repr(lengths).encode()).hexdigest()[:16]
        return dict(tracks=len(self.tracks), hours=round(hours, 2), digest=digest)

    def batch(self, number: int, size: int, *, step: int | None = None) -> PairBatch:
        """Batch `number` of this maker's seed, of `size` pairs.

        `step` is the training step of its first mix, on which the level's curriculum depends; without it the levels
        are those at the end.
        """
        rng = np.random.default_rng([self.seed, number])
        repeat = size > len(self.tracks)
        chosen = rng.choice(len(self.tracks), size, replace=repeat, p=self.weights)
        tempo, transposition = self._warps(rng, size)
        replayed = self._replayed(rng, size) if self.pairing.replayed else None
        if replayed is not None:
            tempo, transposition = tempo * replayed[0], transposition + replayed[1]
        pairs, moments = self._pairs(rng, chosen, tempo)
        tracks, sources = (np.array([getattr(p, name) for p in pairs], np.int64) for name in ("track", "source"))
        loudness = np.array([p.loudness for p in pairs], np.float32).T
        mixes = (
            mixing.draw(
                rng, self.pairing, tracks, sources, loudness, step=None if step is None else step + n, first=n == 0
            )
            for n in range(self.pairing.mixes)
        )
        return PairBatch(
            references=self._references(pairs, replayed),
            samples=_rows([p.sample for p in pairs], self.longest + self.lead),
            interferences=_rows([p.interference for p in pairs], self.longest),
            tempo=tempo,
            transposition=transposition,
            tracks=tracks,
            moments=moments,
            effects=effects.draw(rng, self.pairing, size),
            mixes=tuple(mixes),
            lead=self.lead,
            replayed=replayed,
        )

    def _warps(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tempo and transposition of every pair."""
        tempo = np.exp(rng.uniform(*np.log(self.pairing.tempo), size)).astype(np.float32)
        limit = self.pairing.transposition
        transposition = rng.uniform(-limit, limit, size)
        if self.pairing.varispeed:
            transposition = np.where(rng.random(size) < self.pairing.varispeed, 12 * np.log2(tempo), transposition)
        return tempo, transposition.astype(np.float32)

    def _replayed(self, rng: np.random.Generator, size: int) -> NDArray[np.float32]:
        """(2, pairs) tempo and semitones at which the tracks themselves are played."""
        (low, high), limit = REPLAYED
        drawn = np.stack([np.exp(rng.uniform(np.log(low), np.log(high), size)), rng.uniform(-limit, limit, size)])
        return np.where(rng.random(size) < self.pairing.replayed, drawn, [[1.0], [0.0]]).astype(np.float32)

    def _references(self, pairs: list[Pair], replayed: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Waveforms of the reference views, as much of each as is read."""
        if replayed is None:
            return np.stack([p.reference for p in pairs])
        read = [middle(p.reference, self._read(tempo)) for p, tempo in zip(pairs, replayed[0], strict=True)]
        return _rows(read, self.widest)

    def _pairs(
        self, rng: np.random.Generator, chosen: NDArray[np.int64], tempo: NDArray[np.float32]
    ) -> tuple[list[Pair], NDArray[np.int64]]:
        """A pair of every track, or, where same-song negatives are drawn, every other one of its neighbour's track."""
        pairs, moments = [], np.zeros(len(chosen), np.int64)
        for i, (number, speed) in enumerate(zip(chosen, tempo)):
            moment = None
            if i % 2 and rng.random() < self.pairing.same_song:
                moment = self._elsewhere(rng, pairs[-1].moment, speed)
                moments[i] = moment is not None
            pairs.append(self._pair(rng, moment or self._heard(rng, number, speed), speed))
        tracks = np.array([p.track for p in pairs])
        # A third pair of the track may overlap either of the two.
        return pairs, moments * np.array([(tracks == track).sum() == 2 for track in tracks])

    def _pair(self, rng: np.random.Generator, moment: Moment, tempo: float) -> Pair:
        """Both views of a moment, unwarped and unmixed."""
        if len(moment.stems) == 1 or rng.random() < self.pairing.foreign_interference:
            reference, sample = self._some_stems(rng, moment)
            source, interference = self._foreign(rng, moment.track, tempo)
        else:
            sampled = self._drums(rng, moment, otherwise=_proper_subset(rng, len(moment.stems)))
            reference = sample = _sum(moment.stems, sampled)
            source, interference = moment.track, _sum(moment.stems, ~sampled)
        interference = middle(interference, self._read(tempo))
        loudness = rms(sample), rms(interference)
        if self.pairing.short and rng.random() < self.pairing.short:
            shortest = int(self.pairing.shortest * self.grid.sample_rate)
            sample = shortened(rng, sample, window=self.window, shortest=shortest, chopped=self.pairing.chopped)
        return Pair(
            reference=middle(reference, self.widest),
            sample=middle(sample, self._read(tempo), shift=round(rng.uniform(-1, 1) * self.offset)),
            interference=interference,
            loudness=loudness,
            track=moment.track,
            source=source,
            moment=moment,
        )

    def _some_stems(self, rng: np.random.Generator, moment: Moment) -> tuple[NDArray, NDArray]:
        """Reference and sample under interference of another track: some or all stems, perhaps all in the reference."""
        everything = np.ones(len(moment.stems), bool)
        several = len(everything) > 1 and rng.random() < 0.5
        sampled = self._drums(rng, moment, otherwise=_proper_subset(rng, len(everything)) if several else everything)
        sample = _sum(moment.stems, sampled)
        whole = rng.random() < self.pairing.whole_reference
        return (_sum(moment.stems, everything) if whole and not sampled.all() else sample), sample

    def _drums(self, rng: np.random.Generator, moment: Moment, *, otherwise: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The stems of drums, as often as wanted where there are some beside others."""
        there = moment.drums.any() and not moment.drums.all()
        return moment.drums if there and self.pairing.drums and rng.random() < self.pairing.drums else otherwise

    def _foreign(self, rng: np.random.Generator, number: int, tempo: float) -> tuple[int, NDArray]:
        """Another track, and some or all of its stems: zeros where it is silent at the moment drawn."""
        other = number
        while other == number:
            other = int(rng.choice(len(self.tracks), p=self.weights))
        moment = self._moment(rng, other, tempo, offset=0)
        several = len(moment.stems) > 1 and rng.random() < 0.5
        chosen = _proper_subset(rng, len(moment.stems)) if several else np.ones(len(moment.stems), bool)
        return other, _sum(moment.stems, chosen)

    def _heard(self, rng: np.random.Generator, number: int, tempo: float) -> Moment:
        """A moment at which that track is heard, or, where it is silent throughout, another."""
        for _ in range(_TRACKS):
            for _ in range(_MOMENTS):
                moment = self._moment(rng, number, tempo, offset=self.offset)
                if len(moment.stems):
                    return moment
            number = rng.choice(len(self.tracks), p=self.weights)
        raise ValueError(f"{_TRACKS} tracks in a row are silent, expected audible stems; prepare other recordings")

    def _elsewhere(self, rng: np.random.Generator, first: Moment, tempo: float) -> Moment | None:
        """Another moment of that track which shows nothing that the first does; None where there seems to be none."""
        for _ in range(_MOMENTS):
            moment = self._moment(rng, first.track, tempo, offset=self.offset)
            apart = abs(moment.start - first.start) >= self.longest + 2 * self.offset
            if not apart or not len(moment.stems):
                continue
            if not repeats(*(middle(m.stems, self.window) for m in (first, moment))):
                return moment
        return None

    def _moment(self, rng: np.random.Generator, number: int, tempo: float, *, offset: int) -> Moment:
        """The audible stems around a random window, as far as the views read them and `offset` on both sides."""
        track = self.tracks[number]
        start = int(rng.integers(0, max(track.length - self.window, 0) + 1))
        length = max(self.widest, self._read(tempo)) + 2 * offset
        stems = self.cache.read(track, start - (length - self.window) // 2, length)
        drums, heard = np.array([stem.name in _DRUMS for stem in track.stems]), self._audible(stems)
        return Moment(track=int(number), start=start, stems=stems if heard.all() else stems[heard], drums=drums[heard])

    def _audible(self, stems: NDArray) -> NDArray[np.bool_]:
        """Which of the stems are heard in the middle window; of a silent moment, none."""
        heard_in = middle(stems, self.window)
        products = heard_in @ heard_in.T / self.window  # its sum is the power of the mix
        levels, mix = np.sqrt(products.diagonal()), np.sqrt(max(products.sum(), 0.0))
        return levels > max(mixing.SILENT, mix * 10 ** (self.pairing.audible / 20))

    def _read(self, tempo: float) -> int:
        """Samples that warping to this tempo reads."""
        return round((self.grid.frames - 1) * self.grid.frame_hop * float(tempo)) + self.n_fft


def middle(waveform: NDArray, length: int, *, shift: int = 0) -> NDArray:
    """The middle samples of a waveform or of several, (..., length): both views share it whatever the tempo."""
    start = (waveform.shape[-1] - length) // 2 + shift
    return waveform[..., start : start + length]


def _sum(stems: NDArray, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Those of the stems added up, (samples,)."""
    return chosen.astype(np.float32) @ stems


def _rows(waveforms: list[NDArray], length: int) -> NDArray[np.float32]:
    """The waveforms one under the other, zeros behind them."""
    rows = np.zeros((len(waveforms), length), np.float32)
    for row, waveform in zip(rows, waveforms):
        row[: len(waveform)] = waveform
    return rows


def _proper_subset(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A random subset that is neither empty nor everything, as a mask; all of them equally likely."""
    code = rng.integers(1, 2**size - 1)
    return (code >> np.arange(size)) & 1 == 1


def rms(x: NDArray) -> float:
    return float(np.sqrt(x @ x / len(x)))

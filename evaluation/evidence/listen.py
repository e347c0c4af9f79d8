"""Listen: a place of a match -> the query's excerpt, the reference's, and the latter warped onto the former.

Only the excerpts are decoded, not the recordings. The warped reference is as long as the query's excerpt and lies in
time with it: what an alignment to a frame (64 ms) leaves is taken up by moving it to where the onsets of both agree
best, by at most 0.12 s. Its loudness is that of the query's excerpt. Everything is mono, 22.05 kHz.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from encoder.spectrogram import FrontEnd, LogFrequency
from evaluation.own import effects
from evaluation.own.material import read_part
from reranker.rank import Occurrence

RATE = 22_050  # Hz
AROUND = 0.5  # seconds before and after an occurrence that are heard as well
REACH = 0.12  # seconds by which the warped reference may be moved
_HOP = 128  # samples between two frames in which onsets are compared, 5.8 ms
_EDGE = 1024  # samples at either end without a whole window
_TURN = 1.0  # seconds until the other recording's turn
_FADE = 0.01  # seconds of a turn's fade
_PEAK = 0.9
_VARISPEED = 0.35  # semitones between transposition and 12 log2(tempo ratio) up to which resampling explains both
# libsndfile's scale from best (0) to smallest (1); constant, so that a player knows the duration at once: 56 kbit/s
_MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.7}
MP3_BYTES = 7_100  # a second, mono or stereo

Wave = NDArray[np.float32]  # (samples,) mono


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """What is cut of both recordings."""

    start: float  # seconds in the query
    end: float
    reference_start: float  # seconds in the reference; negative where the reference begins later than the excerpt
    tempo_ratio: float  # query tempo / reference tempo
    transposition: float  # semitones by which the query is higher
    aligned: bool  # whether tempo and transposition were measured; else both recordings are left as they are

    def __post_init__(self) -> None:
        if self.end <= self.start or self.tempo_ratio <= 0:
            raise ValueError(
                f"excerpt from {self.start} s to {self.end} s at tempo ratio {self.tempo_ratio}, expected a start "
                "before its end and a ratio over 0"
            )

    @property
    def seconds(self) -> float:
        """Length in the query."""
        return self.end - self.start

    @property
    def reference_end(self) -> float:
        """Seconds in the reference."""
        return self.reference_time(self.end)

    @property
    def varispeed(self) -> bool:
        """Whether tempo and pitch moved together, as on a turntable that runs faster or slower."""
        return (
            self.aligned
            and abs(self.transposition) > _VARISPEED
            and abs(self.transposition - 12 * math.log2(self.tempo_ratio)) <= _VARISPEED
        )

    def reference_time(self, query_time: float) -> float:
        """Seconds in the reference of what sounds at that second of the query."""
        return self.reference_start + (query_time - self.start) * self.tempo_ratio


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An excerpt's sound; `query` and `warped` are equally long and in time with each other."""

    query: Wave
    reference: Wave  # as it is in the reference
    warped: Wave  # the reference stretched and transposed onto the query, as loud as the query
    moved: float  # seconds by which the reference sounds later than the alignment says

    def left_and_right(self) -> NDArray[np.float32]:
        """(samples, 2): the query on the left, the warped reference on the right."""
        return np.stack([self.query, self.warped], axis=1)

    def alternating(self) -> Wave:
        """A second of the query, a second of the warped reference, and so on."""
        turns = np.arange(len(self.query)) / RATE / _TURN
        wave = np.abs((turns - 0.5) % 2 - 1)  # a triangle: 1 in the middle of the query's turn, 0 in the other's
        share = np.clip((wave - 0.5) * _TURN / _FADE + 0.5, 0, 1).astype(np.float32)
        return self.query * share + self.warped * (1 - share)


def choose(occurrence: Occurrence, *, seconds: float, duration: float) -> Excerpt:
    """The occurrence with half a second around it, at most `seconds` of a query that lasts `duration`."""
    start = max(0.0, occurrence.query_span[0] - AROUND)
    end = min(duration, occurrence.query_span[1] + AROUND, start + seconds)
    aligned = occurrence.tempo_ratio is not None and occurrence.transposition is not None
    ratio, semitones = (occurrence.tempo_ratio, occurrence.transposition) if aligned else (1.0, 0.0)
    first = occurrence.reference_span[0] + (start - occurrence.query_span[0]) * ratio
    return Excerpt(
        start=start, end=end, reference_start=first, tempo_ratio=ratio, transposition=semitones, aligned=aligned
    )


def hear(query: Path, reference: Path, excerpt: Excerpt) -> Heard:
    """The sound of an excerpt; raises AudioError where one of the recordings cannot be read."""
    margin = REACH * excerpt.tempo_ratio if excerpt.aligned else 0.0  # of the reference, so that it can be moved
    asked = cut(query, excerpt.start, excerpt.end)
    source = cut(reference, excerpt.reference_start - margin, excerpt.reference_end + margin)
    warped = onto(source, excerpt)
    start = _start(asked, warped)
    fitted = _fitted(warped[start:], len(asked))
    fitted *= np.float32(_rms(asked) / max(_rms(fitted), 1e-4))
    gain = np.float32(_PEAK / max(_peak(asked), _peak(fitted), 1e-3))  # one for both: they stay equally loud
    edge = round(margin * RATE)
    original = source[edge : len(source) - edge]
    return Heard(
        query=asked * gain,
        reference=original * np.float32(_PEAK / max(_peak(original), 1e-3)),
        warped=fitted * gain,
        moved=((len(warped) - len(asked)) // 2 - start) / RATE,
    )


def cut(path: Path, start: float, end: float) -> Wave:
    """(round((end - start) * RATE),) of a recording; silent before its beginning and after its end."""
    samples, before = round((end - start) * RATE), round(max(0.0, -start) * RATE)
    if before >= samples:
        return np.zeros(samples, np.float32)
    part = read_part(path, max(0.0, start), end - max(0.0, start), sample_rate=RATE).wave
    return _fitted(np.concatenate([np.zeros(before, np.float32), part]), samples)


def onto(reference: Wave, excerpt: Excerpt) -> Wave:
    """The reference's sound at tempo and pitch of the query; varispeed by resampling, else by Rubber Band."""
    return effects.warp(
        reference,
        tempo_ratio=excerpt.tempo_ratio,
        transposition=excerpt.transposition,
        varispeed=excerpt.varispeed,
        sample_rate=RATE,
    )


def mp3(wave: NDArray[np.float32]) -> bytes:
    """(samples,) or (samples, 2) as MP3, which every browser plays."""
    written = io.BytesIO()
    soundfile.write(written, wave, RATE, **_MP3)
    return written.getvalue()


def _start(query: Wave, warped: Wave) -> int:
    """Sample of `warped`, which is longer by a margin at both ends, from which on it agrees best with `query`."""
    mine, theirs = _onsets(query), _onsets(warped)
    shifts = (len(warped) - len(query)) // _HOP
    if shifts <= 0 or not len(mine):
        return (len(warped) - len(query)) // 2
    likeness = [(mine * theirs[first : first + len(mine)]).sum() for first in range(shifts + 1)]
    return int(np.argmax(likeness)) * _HOP


def _onsets(wave: Wave) -> NDArray[np.float32]:
    """(frames, bins) rise of each band in dB from frame to frame, 0 where it falls."""
    if len(wave) < 4 * _EDGE:
        return np.zeros((0, 0), np.float32)
    spectrum = FrontEnd(LogFrequency(), sample_rate=RATE, frame_hop=_HOP)(torch.from_numpy(wave)[None])[0]
    audible = torch.maximum(spectrum, spectrum.amax() - 50.0)
    return audible.diff(dim=1).clamp(min=0).T.numpy()


def _fitted(wave: Wave, samples: int) -> Wave:
    fitted = np.zeros(samples, np.float32)
    fitted[: len(wave[:samples])] = wave[:samples]
    return fitted


def _peak(wave: Wave) -> float:
    return float(np.abs(wave).max(initial=0.0))


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0

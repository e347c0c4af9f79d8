"""Digging: a track -> the excerpt a producer would sample: a stem or the mix, riff or beat, cut at beats or onsets.

Only a few seconds of the track are read at a time. An excerpt is `beat` where it is a stem of drums, or where at least
half of its magnitude spectrum is percussive by median filtering (Fitzgerald 2010; of 28 drum loops three quarters are,
of 60 songs one in twelve). Where a beat is wanted of a mix that is a little less percussive, the percussive part is
taken, as producers take drums out of a mix. All else is `riff`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from evaluation.own import material
from evaluation.own.material import Material, Part, Silent
from evaluation.own.recipe import LONGEST, SHORTEST, Recipe

DRUMS = frozenset({"drums", "percussion"})
_PERCUSSIVE, _SOMEWHAT = 0.5, 0.3  # share of the magnitude spectrum
PERCUSSIVE_PART = "percussive part"
_JUDGED = 4.0  # seconds
_WINDOW, _STEP, _MEDIAN = 1024, 512, 31  # samples, samples, frames and bins of the median filter
_HOP = 256  # samples between two values of the onset strength
_MARGIN = 4.0  # seconds read beyond the excerpt, to have beats to choose from
_BEATS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # an excerpt lasts so many
_NEAR = 0.07  # seconds between a beat and its onset
_ATTACK = 0.01  # seconds before a beat or onset, so that its attack is kept
_TRIES, _PLACES = 8, 4  # places that are looked at; enough that are worth sampling
_AUDIBLE = 10 ** (-15 / 20)  # of a stem in its mix, RMS
_LOUD = 10 ** (-45 / 20)  # of full scale, RMS
_SOUNDING = 0.6  # share of an excerpt's tenths that are loud
_FROM_STEM = 0.6  # share of riffs taken from a stem where there are stems


@dataclass(frozen=True, kw_only=True)
class Dug:
    """An excerpt of a track as it is, before anything is done to it."""

    wave: NDArray[np.float32]  # (samples,) mono
    start: float  # seconds in the track
    end: float  # seconds in the track
    onsets: NDArray[np.int64]  # samples in the excerpt
    stems: tuple[str, ...] = ()  # taken; none: the mix
    sample_type: str = "riff"  # or beat

    @cached_property
    def percussive_share(self) -> float:
        """Of the magnitude spectrum of its first four seconds, 0 to 1."""
        return percussive_share(self.wave[: round(_JUDGED * len(self.wave) / (self.end - self.start))])


def dig(track: Material, recipe: Recipe, *, sample_rate: int, rng: np.random.Generator) -> Dug:
    """The excerpt that fits the recipe best among a few places drawn at random.

    Its length is near the recipe's, at most 60 % of the track. Raises Silent where every place is.
    """
    stem = _stem(track, recipe, rng)
    places = _places(track, stem, recipe, sample_rate, rng)
    if not places and stem:  # heard in a few places only: a producer would take the mix
        stem, places = "", _places(track, "", recipe, sample_rate, rng)
    if not places:
        raise Silent(track.track, _TRIES)
    place = max(places, key=lambda place: place.percussive_share) if recipe.beat else places[0]
    if stem in DRUMS or place.percussive_share >= _PERCUSSIVE:
        return replace(place, stems=(stem,) if stem else (), sample_type="beat")
    if recipe.beat and place.percussive_share >= _SOMEWHAT and not stem:
        return _percussive_part(place)
    return replace(place, stems=(stem,) if stem else ())


def percussive_share(wave: NDArray[np.float32]) -> float:
    """Share of the magnitude spectrum that is percussive, 0 to 1; 0 for silence."""
    spectrum = np.abs(librosa.stft(wave, n_fft=_WINDOW, hop_length=_STEP))
    _, percussive = librosa.decompose.hpss(spectrum, kernel_size=_MEDIAN)
    return float(percussive.sum() / max(float(spectrum.sum()), 1e-9))


def _percussive_part(place: Dug) -> Dug:
    """The excerpt without what rings; the excerpt itself where hardly anything would be left."""
    wave = librosa.effects.percussive(place.wave, n_fft=_WINDOW, hop_length=_STEP, kernel_size=_MEDIAN)
    if not _is_loud(wave) or _rms(wave) < _AUDIBLE * _rms(place.wave):
        return place
    return replace(place, wave=wave.astype(np.float32), stems=(PERCUSSIVE_PART,), sample_type="beat")


def _stem(track: Material, recipe: Recipe, rng: np.random.Generator) -> str:
    """The stem to take, "" for the mix."""
    drums = sorted(DRUMS & track.stems.keys())
    wanted = drums if recipe.beat else sorted(track.stems.keys() - DRUMS)
    from_stem, place = rng.random() < _FROM_STEM or recipe.beat, rng.random()
    return wanted[int(place * len(wanted))] if wanted and from_stem else ""


def _places(track: Material, stem: str, recipe: Recipe, sample_rate: int, rng: np.random.Generator) -> list[Dug]:
    """Excerpts worth sampling, in the order drawn: loud all along and, of a stem, audible in the mix."""
    length = min(recipe.length, 0.6 * track.duration)
    seconds = min(length + _MARGIN, track.duration)
    starts = rng.uniform(0.0, max(0.0, track.duration - seconds), _TRIES)
    enough = _PLACES if recipe.beat and stem not in DRUMS else 1
    path = track.stems[stem] if stem else track.mix
    found: list[Dug] = []
    for start in starts:
        excerpt = _cut(material.read_part(path, float(start), seconds, sample_rate=sample_rate), length, sample_rate)
        if _is_loud(excerpt.wave) and (not stem or _is_audible(excerpt, track.mix, sample_rate)):
            found.append(excerpt)
        if len(found) == enough:
            break
    return found


def _is_loud(wave: NDArray[np.float32]) -> bool:
    loud = [_rms(part) > _LOUD for part in np.array_split(wave, 10)]
    return bool(np.mean(loud) >= _SOUNDING)


def _is_audible(excerpt: Dug, mix: Path, sample_rate: int) -> bool:
    seconds = excerpt.end - excerpt.start
    level = _rms(material.read_part(mix, excerpt.start, seconds, sample_rate=sample_rate).wave)
    return _rms(excerpt.wave) >= _AUDIBLE * level


def _cut(part: Part, length: float, sample_rate: int) -> Dug:
    """An excerpt of a part: from beat to beat where beats are found, else from onset to onset."""
    wave = part.wave
    strength = librosa.onset.onset_strength(y=wave, sr=sample_rate, hop_length=_HOP)
    _, beats = librosa.beat.beat_track(onset_envelope=strength, sr=sample_rate, hop_length=_HOP, trim=False)
    onsets = librosa.onset.onset_detect(onset_envelope=strength, sr=sample_rate, hop_length=_HOP)
    beats, onsets = (np.maximum(0, frames * _HOP - round(_ATTACK * sample_rate)) for frames in (beats, onsets))
    longest = min(len(wave), round(LONGEST * sample_rate))
    wanted = min(round(length * sample_rate), longest)
    beats = _at_onsets(beats, onsets, round(_NEAR * sample_rate))
    span = _from_beats(beats, wanted, round(SHORTEST * sample_rate), longest) or _from_onsets(onsets, wanted, len(wave))
    first, last = span[0], min(span[1], len(wave))
    return Dug(
        wave=wave[first:last],
        start=part.start + first / sample_rate,
        end=part.start + last / sample_rate,
        onsets=onsets[(onsets > first) & (onsets < last)] - first,
    )


def _at_onsets(beats: NDArray[np.int64], onsets: NDArray[np.int64], near: int) -> NDArray[np.int64]:
    """Every beat moved to the onset nearest to it, where one is near."""
    if not len(beats) or not len(onsets):
        return beats
    nearest = onsets[np.abs(onsets[None] - beats[:, None]).argmin(axis=1)]
    return np.where(np.abs(nearest - beats) <= near, nearest, beats)


def _from_beats(beats: NDArray[np.int64], wanted: int, shortest: int, longest: int) -> tuple[int, int] | None:
    """A musical number of beats, as near to the wanted length as there is, from the second on: the first is a guess."""
    spans = [(int(beats[1]), int(beats[1 + count])) for count in _BEATS if 1 + count < len(beats)]
    fitting = [span for span in spans if shortest <= span[1] - span[0] <= longest]
    nearest = min(fitting, key=lambda span: abs(np.log((span[1] - span[0]) / wanted)), default=None)
    return nearest if nearest and 0.6 < (nearest[1] - nearest[0]) / wanted < 1.7 else None


def _from_onsets(onsets: NDArray[np.int64], wanted: int, samples: int) -> tuple[int, int]:
    """From the first onset that leaves room to the onset nearest to the wanted end, if it is within a tenth."""
    first = next((int(onset) for onset in onsets if onset + wanted <= samples), 0)
    nearest = min((int(onset) for onset in onsets), key=lambda onset: abs(onset - first - wanted), default=0)
    close = abs(nearest - first - wanted) <= 0.1 * wanted
    return first, nearest if close else first + wanted


def _rms(wave: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0

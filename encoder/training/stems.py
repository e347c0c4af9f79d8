"""Stems: a folder of music -> a stem cache, the training material of all encoders.

Per source: decode its stem files, render its MIDI file, or decode the recording and separate it where that is asked
for; leave it out where it has too few beats to be music with a pulse; append what remains to the cache
(``stem_cache``). A source that cannot be used is a record with its reason and never stops the rest.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder import audio
from encoder.audio import AudioError
from encoder.training import beats, midi
from encoder.training.midi import MidiError
from encoder.training.sources import Source, discover
from encoder.training.stem_cache import SAMPLE_RATE, Stem, StemCacheWriter, StemTrack

__all__ = ["Prepared", "Source", "StemSettings", "discover", "prepare"]

_LOG = logging.getLogger(__name__)
_AUDIBLE = 1e-4  # peak amplitude; a stem below it (-80 dB) is empty
_SINGLE_STEMS = frozenset({"drum", "oneshot", "stem"})  # kinds with nothing to separate

Status = Literal["stored", "present", "left out", "failed"]


@dataclass(frozen=True, kw_only=True)
class StemSettings:
    """How sources become stems."""

    separate: str | None = None  # demucs model by name ("htdemucs"), or a folder that holds one; None: keep the mix
    device: str = "cpu"  # for demucs and beat_this
    min_beats: int = 32  # after the first downbeat, as in NeuralSampleID section 4.1; 0: no beat filter
    checkpoint_path: Path | None = None  # of beat_this; None: librosa's tracker
    soundfont: Path | None = None  # None: Debian's General MIDI soundfont
    arrangement: int = 0  # above 0: MIDI files only, each played by another band, as tracks of their own
    time_limit: float = 120.0  # seconds to render one stem
    workers: int = 2  # sources decoded or rendered at the same time

    def __post_init__(self) -> None:
        if self.min_beats < 0:
            raise ValueError(f"min_beats is {self.min_beats}, expected 0 (no filter) or more, usually 32")
        if self.time_limit <= 0:
            raise ValueError(f"time_limit is {self.time_limit} s, expected a positive number of seconds")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}, expected 1 or more, usually the number of cores")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of one source."""

    track: str
    status: Status
    stems: tuple[str, ...] = ()
    seconds: float = 0.0  # length of the track
    split: str = ""
    reason: str = ""  # why it was left out or failed
    position: int  # of this source, from 1 to total
    total: int  # sources


@dataclass(frozen=True)
class _StemAudio:
    """One stem in memory."""

    name: str
    waveform: NDArray[np.float32]  # (samples,) at SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A source in memory, or the reason why it is not."""

    source: Source
    status: Status
    stems: tuple[_StemAudio, ...] = ()
    reason: str = ""


def prepare(
    directory: Path,
    out: Path,
    *,
    manifest: Path | None = None,
    splits: Collection[str] | None = None,
    settings: StemSettings | None = None,
) -> Iterator[Prepared]:
    """Appends what a folder offers to the stem cache ``out``, yielding one record per source, in order.

    Tracks already in the cache are passed over, so the same call goes on where an earlier one ended. Raises at once
    FileNotFoundError or ValueError for a folder without music, and MidiError or SeparationError for a soundfont or
    model that is named but not there; later only OSError, where the disk is full.
    """
    settings = settings or StemSettings()
    sources = discover(directory, manifest=manifest, splits=splits)
    if settings.arrangement:
        sources = [replace(s, track=f"{s.track}~{settings.arrangement}") for s in sources if s.form == "midi"]
    if not sources:
        wanted = f" of split {', '.join(sorted(splits))}" if splits is not None else ""
        raise ValueError(f"{directory} holds no recordings, stems or MIDI files{wanted}; check folder and manifest")
    if settings.soundfont:
        midi.find_soundfont(settings.soundfont)
    return _prepared(sources, Path(out), _Loader(settings))


def _prepared(sources: list[Source], out: Path, load: "_Loader") -> Iterator[Prepared]:
    workers = load.settings.workers
    with StemCacheWriter(out) as cache, ThreadPoolExecutor(workers) as executor:

        def load_new(source: Source) -> _Loaded:
            return _Loaded(source=source, status="present") if source.track in cache else load(source)

        for position, loaded in enumerate(_ahead(executor, load_new, sources, workers), start=1):
            if loaded.status == "stored":
                cache.append(_as_track(loaded), [stem.waveform for stem in loaded.stems])
            if loaded.reason:
                _LOG.info("%s %s: %s", loaded.source.track, loaded.status, loaded.reason)
            yield _as_record(loaded, position, len(sources))


def _as_track(loaded: _Loaded) -> StemTrack:
    source = loaded.source
    return StemTrack(
        track=source.track,
        group=source.group,
        split=source.split,
        kind=source.kind,
        stems=tuple(Stem(name=stem.name, start=0, scale=0.0) for stem in loaded.stems),  # placed by the writer
        length=0,
        title=source.title,
        artist=source.artist,
        licence=source.licence,
    )


def _as_record(loaded: _Loaded, position: int, total: int) -> Prepared:
    return Prepared(
        track=loaded.source.track,
        status=loaded.status,
        stems=tuple(stem.name for stem in loaded.stems),
        seconds=max((len(stem.waveform) for stem in loaded.stems), default=0) / SAMPLE_RATE,
        split=loaded.source.split,
        reason=loaded.reason,
        position=position,
        total=total,
    )


class _Loader:
    """Source -> stems in memory, as the settings say; models are loaded once, here, and only if they are needed."""

    def __init__(self, settings: StemSettings) -> None:
        self.settings = settings
        self.separate = _separator(settings)
        self.track_beats = None
        if settings.min_beats:
            self.track_beats = beats.tracker(checkpoint_path=settings.checkpoint_path, device=settings.device)

    def __call__(self, source: Source) -> _Loaded:
        try:
            stems = self._stems(source)
        except (AudioError, MidiError) as error:
            return _Loaded(source=source, status="failed", reason=str(error))
        stems = [stem for stem in stems if np.abs(stem.waveform).max(initial=0) > _AUDIBLE]
        if not stems:
            return _Loaded(source=source, status="left out", reason=f"{source.path}: is silent, expected music")
        if reason := self._beatless(source, stems):
            return _Loaded(source=source, status="left out", reason=reason)
        return _Loaded(source=source, status="stored", stems=tuple(stems))

    def _stems(self, source: Source) -> list[_StemAudio]:
        options = self.settings
        if source.form == "midi":
            stems = midi.render(
                source.path,
                sample_rate=SAMPLE_RATE,
                soundfont=options.soundfont,
                time_limit=options.time_limit,
                arrangement=options.arrangement,
            )
        elif source.form == "recording" and self.separate and source.kind not in _SINGLE_STEMS:
            stems = self.separate(source.path, sample_rate=SAMPLE_RATE)
        else:
            # A list and not a dictionary: a multitrack may hold two stems of one name.
            return [_StemAudio(file.stem, audio.read(file.path, sample_rate=SAMPLE_RATE)) for file in source.files]
        return [_StemAudio(name, waveform) for name, waveform in stems.items()]

    def _beatless(self, source: Source, stems: list[_StemAudio]) -> str:
        """Why the track has too few beats; empty where it has enough, or where nobody asks."""
        if self.track_beats is None:
            return ""
        count = self.track_beats(_mix(stems), SAMPLE_RATE).after_first_downbeat
        if count >= self.settings.min_beats:
            return ""
        return f"{source.path}: has {count} beats after the first downbeat, expected {self.settings.min_beats} or more"


def _separator(settings: StemSettings) -> Callable[..., dict[str, NDArray[np.float32]]] | None:
    """The demucs model the settings name, None where they name none."""
    if settings.separate is None:
        return None
    from encoder.separation import Separator  # demucs takes seconds to import

    return Separator(settings.separate, device=settings.device)


def _mix(stems: list[_StemAudio]) -> NDArray[np.float32]:
    mix = np.zeros(max(len(stem.waveform) for stem in stems), np.float32)
    for stem in stems:
        mix[: len(stem.waveform)] += stem.waveform
    return mix


_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


def _ahead(
    executor: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], depth: int
) -> Iterator[_Result]:
    """Results in the order of the items; at most ``depth`` wait to be taken while one is, so that memory is bounded."""
    pending = deque()
    for item in items:
        pending.append(executor.submit(function, item))
        if len(pending) > depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()

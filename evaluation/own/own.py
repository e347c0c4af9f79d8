"""Own: any folder of music -> a benchmark of sample identification, the same for the same seed, byte for byte.

Part of the tracks become references, others are laid over what is sampled from them, others only stand in the
catalogue (`roles`); queries are made as producers make them (`producer`). Half of the sample-free queries sample a
track that is not in the catalogue, made in the very same way; the other half is other music alone.

    music = Music(path=Path("music"), where=("split=test",))
    benchmark = own.render(OwnSettings(seed=1), OwnSources(music=music), cache)
    own.export(benchmark, directory)        # read back by sample100.load(directory, directory / "audio")

A benchmark is kept in the cache folder under a digest of settings, music and versions; a finished one is not rendered
again, and one that was begun goes on where it stopped:

    own-<digest>/audio/T061.flac, T061.json     a query and the truth about it
    own-<digest>/samples.csv, annotations/ ...  the truth of all, in Sample100-ext's format (`annotations`)
    own-<digest>/benchmark.json                 written last
    midi/, stems/                               what was rendered of the music, for all benchmarks of the folder
                                                (3 MB for a MIDI file, about 12 MB for one that is sampled)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from encoder.audio import AudioError
from encoder.training import midi
from encoder.training.midi import MidiError
from evaluation.benchmark import Benchmark
from evaluation.own import listing, material, own_files, roles, survey
from evaluation.own.listing import Listed, Music
from evaluation.own.material import Material, Unusable
from evaluation.own.own_files import Planned, Progress, Rendered, export
from evaluation.own.roles import Need, Roles
from evaluation.own.survey import Survey, Track

__all__ = ["Music", "OwnSettings", "OwnSources", "export", "render"]

VERSION = 2  # of the rendering; raise it whenever a change here or in what it imports changes a query
_LIBRARIES = ("librosa", "numpy", "pedalboard", "scipy", "soundfile", "soxr")  # that decide about samples
_RATES = (22_050, 44_100)


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """How large a benchmark, and which one."""

    references: int = 60  # tracks that are sampled
    queries: int = 60  # with a sample; every reference is sampled at least once
    sample_free: int = 20  # queries
    distractors: int | None = None  # tracks; None: every track of a group without another role
    interference: int = 20  # tracks that are laid over samples
    seed: int = 0
    sample_rate: int = 22_050  # Hz, of what is rendered
    shortest: float = 15.0  # seconds; shorter tracks are left out
    longest_midi: float = 120.0  # seconds of a MIDI file or of stems that are rendered
    soundfont: Path | None = None  # of MIDI files; None: Debian's General MIDI soundfont

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("references", "sample_free", "distractors", "seed")}
        for name, value in counts.items():
            least = 1 if name == "references" else 0
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, expected {least} or more")
        if self.interference < 1:
            raise ValueError(f"interference is {self.interference}, expected 1 track or more to lay over samples")
        if self.queries < self.references:
            raise ValueError(
                f"{self.queries} queries for {self.references} references, expected as many or more, as every "
                "reference is sampled; ask for fewer references"
            )
        if self.sample_rate not in _RATES:
            raise ValueError(f"sample_rate is {self.sample_rate} Hz, expected one of {_RATES}")
        if not (self.shortest >= 5 and self.longest_midi >= self.shortest):
            raise ValueError(
                f"shortest is {self.shortest:g} s and longest_midi {self.longest_midi:g} s, expected 5 s or more, and "
                "the second no less than the first"
            )

    @property
    def need(self) -> Need:
        unknown = self.sample_free - self.sample_free // 2
        return Need(
            references=self.references,
            unknown=unknown,
            interference=self.interference,
            distractors=self.distractors,
        )


@dataclass(frozen=True, kw_only=True)
class OwnSources:
    """The music that a benchmark is made of."""

    music: Music
    further: Music | None = None  # tracks that may become distractors and nothing else


def render(
    settings: OwnSettings, sources: OwnSources, directory: Path, *, progress: Progress | None = None, workers: int = 2
) -> Benchmark:
    """The benchmark of these settings and this music, rendered into the cache folder `directory` unless it is there.

    Files that cannot be used are left out; `facts` name them with the reason. Raises FileNotFoundError where a source
    is missing, ValueError where there are too few usable tracks or the soundfont is not there, OSError where the cache
    cannot be written.
    """
    if settings.soundfont is not None:
        midi.find_soundfont(settings.soundfont)
    music = listing.read(sources.music)
    further = listing.read(sources.further) if sources.further else ()
    folder = Path(directory) / f"own-{_digest(settings, music, further)}"
    kept = own_files.load(folder)
    if kept is None:
        found = survey.look(music, further, shortest=settings.shortest, soundfont=settings.soundfont)
        _Rendering(settings, found, folder, progress or _silent, workers).run()
        kept = own_files.load(folder)
    if kept is None:
        raise OSError(f"{folder}: files of it vanished while it was rendered; run the same command again")
    return kept


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _digest(settings: OwnSettings, music: Sequence[Listed], further: Sequence[Listed]) -> str:
    request = {
        "versions": _versions(),
        **_described(settings),
        "music": [listed.identity for listed in music],
        "further": [listed.identity for listed in further],
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def _described(settings: OwnSettings) -> dict[str, Any]:
    """The settings, and in place of where the soundfont lies which one it is."""
    kept = {name: value for name, value in asdict(settings).items() if name != "soundfont"}
    return {"midi": survey.midi_renderer(settings.soundfont).soundfont, "settings": kept}


def _versions() -> dict[str, Any]:
    return {"own": VERSION, "material": material.VERSION} | {name: metadata.version(name) for name in _LIBRARIES}


class _Rendering:
    """One rendering: shares out the tracks, makes them ready, renders the queries, keeps the truth.

    A track that proves unusable on the way is left out and the tracks are shared out again, until all are usable.
    """

    def __init__(self, settings: OwnSettings, found: Survey, folder: Path, progress: Progress, workers: int) -> None:
        self._settings, self._folder, self._progress, self._workers = settings, folder, progress, workers
        self._usable, self._left_out = list(found.tracks), dict(found.left_out)
        self._ready: dict[Track, Material] = {}

    def run(self) -> None:
        """Renders until `benchmark.json` is written; raises ValueError where too few tracks are left."""
        while True:
            drawn = self._shared_out()
            (self._folder / "audio").mkdir(parents=True, exist_ok=True)
            if not self._make_ready(drawn):
                continue
            plan = _plan(self._settings, drawn, self._ready)
            rendered = self._render(plan)
            if len(rendered) == len(plan):
                break
        self._keep(drawn, plan, rendered)

    def _shared_out(self) -> Roles:
        try:
            return roles.draw(self._usable, self._settings.need, seed=self._settings.seed)
        except ValueError as error:
            first = "".join(f" (as {track}: {reason})" for track, reason in sorted(self._left_out.items())[:1])
            raise ValueError(f"{error}; {len(self._left_out)} were left out{first}") from error

    def _make_ready(self, drawn: Roles) -> bool:
        """Whether all could be made ready; those that could not are left out from now on."""
        self._ready = {}  # what was ready before may be wanted with stems now; nothing is rendered twice
        made_ready = partial(self._made_ready, {*drawn.references, *drawn.unknown})
        for track, made in zip(drawn.all, self._in_parallel(made_ready, drawn.all), strict=True):
            if isinstance(made, Material):
                self._ready[track] = made
            else:
                self._leave_out(track, made)
        return len(self._ready) == len(drawn.all)

    def _made_ready(self, sampled: Collection[Track], track: Track) -> Material | str:
        wanted = self._settings
        how = {"shortest": wanted.shortest, "longest": wanted.longest_midi, "sample_rate": wanted.sample_rate}
        try:
            return material.make_ready(
                track, self._folder.parent, with_stems=track in sampled, soundfont=wanted.soundfont, **how
            )
        except (AudioError, MidiError) as error:
            return survey.reason(error, track.files)

    def _render(self, plan: Sequence[Planned]) -> list[Rendered]:
        """The queries, but those with a track that is of no use where it is looked at; such tracks are left out."""
        rendered = []
        for made in self._in_parallel(self._rendered, plan):
            if isinstance(made, Rendered):
                rendered.append(made)
            elif made.track in self._usable:
                self._leave_out(made.track, str(made))
        return rendered

    def _rendered(self, planned: Planned) -> Rendered | Unusable:
        try:
            settings = {"seed": self._settings.seed, "sample_rate": self._settings.sample_rate}
            return own_files.render_query(planned, self._folder, **settings)
        except Unusable as error:
            return error

    def _in_parallel(self, do: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Results in the order of the items, whoever is done first."""
        with ThreadPoolExecutor(self._workers) as pool:
            for number, (item, result) in enumerate(zip(items, pool.map(do, items), strict=True), start=1):
                self._progress(item.id, number, len(items))
                yield result

    def _leave_out(self, track: Track, reason: str) -> None:
        self._usable.remove(track)
        self._left_out[track.id] = reason

    def _keep(self, drawn: Roles, plan: Sequence[Planned], rendered: Sequence[Rendered]) -> None:
        own_files.write(
            self._folder,
            references=_numbered("T", [self._ready[track] for track in drawn.references]),
            distractors=_numbered("N", [self._ready[track] for track in drawn.distractors]),
            queries=rendered,
            facts=_facts(self._settings, drawn, plan, rendered, self._left_out),
        )


def _numbered(letter: str, items: Sequence[Any], *, first: int = 1) -> dict[str, Any]:
    """T001, T002 ... -> items, in the form of Sample100's ids."""
    return {f"{letter}{number:03d}": item for number, item in enumerate(items, start=first)}


def _plan(settings: OwnSettings, drawn: Roles, ready: Mapping[Track, Material]) -> list[Planned]:
    """Which query samples which track and has what laid over it; references take turns, so does what is laid over."""
    rng = np.random.default_rng([settings.seed, len(drawn.references)])
    references = list(_numbered("T", drawn.references).items())
    turns = np.resize(rng.permutation(len(references)), settings.queries).tolist()
    known = [references[turn] for turn in turns]
    unknown: list[tuple[str, Track | None]] = [("", track) for track in drawn.unknown]
    alone: list[tuple[str, Track | None]] = [("", None)] * (settings.sample_free - len(unknown))
    laid: Counter[str] = Counter()
    plan = []
    sampled = _numbered("T", [*known, *unknown, *alone], first=len(references) + 1)
    for number, (query, (reference, track)) in enumerate(sampled.items(), start=1):
        other = _least_used(laid, drawn.interference, track.family if track else "", rng)
        plan.append(
            Planned(
                id=query,
                number=number,
                sampled=ready[track] if track else None,
                other=ready[other],
                reference=reference,
                sample_id=f"S{number:03d}" if reference else "",
            )
        )
    return plan


def _least_used(laid: Counter[str], tracks: Sequence[Track], family: str, rng: np.random.Generator) -> Track:
    """One of the tracks of other families that was laid over samples least often; counts it."""
    others = [track for track in tracks if track.family != family]
    least = min(laid[track.id] for track in others)
    chosen = others[int(rng.choice([n for n, track in enumerate(others) if laid[track.id] == least]))]
    laid[chosen.id] += 1
    return chosen


def _facts(
    settings: OwnSettings,
    drawn: Roles,
    plan: Sequence[Planned],
    rendered: Sequence[Rendered],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    relations = [query.relation for query in rendered if query.relation]
    free = [planned for planned in plan if not planned.reference]
    types = Counter(relation.sample_type for relation in relations)
    return {
        "seed": settings.seed,
        **_described(settings),
        "versions": _versions(),
        "references": len(drawn.references),
        "distractors": len(drawn.distractors),
        "interference": len(drawn.interference),
        "queries": len(relations),
        "sample_free": len(free),
        "sampling_an_unknown_track": [planned.id for planned in free if planned.sampled],
        "sampling_nothing": [planned.id for planned in free if not planned.sampled],
        "riffs": types["riff"],
        "beats": types["beat"],
        "from_stems": sum(bool(relation.sample_stems) for relation in relations),
        "rendered_from_midi": sum(track.form == "midi" for track in drawn.all),
        "shared_families": drawn.shared,
        "left_out": dict(sorted(left_out.items())),
    }

"""The calibration flow: a folder of music -> how sure a match is, for this encoder and this way of ranking.

1. Render benchmarks from the music, one for each seed, as `asid evaluate own` does.
2. Ask the product every query, whole and in excerpts, and once more in no more time than a window of a long query has;
   answers are kept, so a killed run goes on.
3. Fit; judge the fit on queries that it was not fitted on.
4. Write the calibration, from where `asid find` takes it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from evaluation import calibration, results, run
from evaluation.calibration import Collected
from evaluation.own import own
from evaluation.own.own import OwnSettings, OwnSources
from evaluation.peers.neural import Neural
from evaluation.run import Step
from flows import assembly
from flows.settings import Settings
from reranker import calibrate, confidence
from reranker.calibrate import Fitted
from reranker.confidence import Calibration
from reranker.correlate import Correlation
from reranker.rank import Ranking

Progress = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Calibrating:
    """What is calibrated, on how much, and where the calibration goes."""

    settings: Settings  # encoder, device and ranking
    benchmarks: tuple[OwnSettings, ...]  # by seed
    out: Path  # the calibration file
    cache: Path  # of rendered audio, of what is stored of it, and of answers
    lengths: tuple[float, ...] = calibration.LENGTHS  # seconds of excerpts
    long: float | None = 180.0  # seconds of a query whose windows are calibrated too; None: none are
    sampled: float = calibrate.SAMPLED  # share of queries that sample something in the catalogue
    command: str = ""  # kept in the calibration

    def __post_init__(self) -> None:
        if self.settings.ranking.by not in ("auto", "correlation"):
            raise ValueError(
                f"ranking: by is {self.settings.ranking.by!r}, expected correlation; only that is calibrated"
            )
        seeds = [benchmark.seed for benchmark in self.benchmarks]
        if not seeds or len(seeds) != len(set(seeds)):
            raise ValueError(f"seeds are {seeds}, expected one or more, each once")
        if not 0 < self.sampled < 1:
            raise ValueError(f"share of sampled queries is {self.sampled}, expected between 0 and 1")


@flow(name="calibrate")
def calibrate_own(sources: OwnSources, how: Calibrating, *, progress: Progress | None = None) -> Calibration:
    """Fit the calibration on queries made of this music; returns what was written.

    Raises what rendering and asking raise, and CalibrationError where the queries do not suffice.
    """
    report = progress or _silent
    peer, window = opened(how), as_window(how)
    with closing(peer), closing(window) if window else nullcontext():
        collected = [_collected(settings, sources, peer, window, how, report) for settings in how.benchmarks]
    fitted = _fitted(collected, peer, how)
    made = replace(fitted.calibration, measured=calibration.measured(fitted))
    confidence.save(how.out, made)
    _publish(made)
    return made


def opened(how: Calibrating) -> Neural:
    """The product as a peer, before anything slow is begun; ValueError where its encoder has no contrast features."""
    return _peer(how, how.settings.ranking, Correlation(), about="the product, as it is calibrated")


def as_window(how: Calibrating) -> Neural | None:
    """The product with as little time for a query as for a window of a long one; None where that is not asked for."""
    ranking, correlation = how.settings.ranking, Correlation()
    if how.long is None or how.long <= ranking.whole:
        return None
    windows = math.ceil((how.long - ranking.overlap) / (ranking.window - ranking.overlap))  # each has as much time
    listing = round(ranking.listing * ranking.window / how.long)  # what windows share is searched once
    efforts = {name: getattr(ranking, name) / windows for name in ("effort", "local")}
    ranking = replace(ranking, listing=max(listing, 1), **efforts)
    correlation = replace(correlation, effort=correlation.effort / windows, verified=correlation.judged(1 / windows))
    return _peer(how, ranking, correlation, about=f"the product, as it searches windows of {how.long:g} s")


def _peer(how: Calibrating, ranking: Ranking, correlation: Correlation, *, about: str) -> Neural:
    how.cache.mkdir(parents=True, exist_ok=True)
    encoder = assembly.encoder(how.settings)
    if not all(encoder.contrast):
        raise ValueError(f"system {encoder.system.name} has no contrast features to correlate; give another --encoder")
    return Neural(
        how.cache / "peers",
        name="asid",
        about=about,
        encoder=encoder,
        classifier=None,
        correlator=assembly.correlating(how.settings, encoder, correlation),
        ranking=ranking,
    )


@task(name="collect-rankings", cache_policy=NO_CACHE, persist_result=False)
def _collected(
    settings: OwnSettings, sources: OwnSources, peer: Neural, window: Neural | None, how: Calibrating,
    progress: Progress,
) -> Collected:  # fmt: skip
    benchmark = own.render(settings, sources, how.cache, progress=_steps(progress))
    folder = how.cache / f"calibration-{run.identity(benchmark)[:16]}"
    return calibration.collect(benchmark, peer, folder, window=window, seconds=how.lengths, progress=progress)


@task(name="fit-calibration", cache_policy=NO_CACHE, persist_result=False)
def _fitted(collected: Sequence[Collected], peer: Neural, how: Calibrating) -> Fitted:
    ranked = [one for benchmark in collected for one in benchmark.ranked]
    return calibrate.fit(
        ranked,
        encoder=peer.facts["encoder"],
        scoring=confidence.scoring(how.settings.ranking, peer.correlator.correlation),
        sampled=how.sampled,
        provenance={
            "command": how.command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seeds": [settings.seed for settings in how.benchmarks],
            "queries": sum(one.whole for one in ranked),
            "catalogue": [benchmark.catalogue for benchmark in collected],  # tracks, by seed
            "versions_of_queries": len(ranked),
            "lengths": list(how.lengths),
            "long": how.long,
            "failed": {query: reason for benchmark in collected for query, reason in benchmark.failed.items()},
            "versions": results.versions(),
        },
    )


def to_json(calibration: Calibration, out: Path) -> dict[str, Any]:
    """What a calibration was fitted on and how good it is."""
    return {
        "calibration": str(out),
        "encoder": calibration.encoder,
        "sampled": calibration.sampled,
        "features": list(calibration.model.features),
        "range": {name: list(bounds) for name, bounds in calibration.range.items()},
        "measured": dict(calibration.measured),
        "provenance": dict(calibration.provenance),
    }


def to_text(calibration: Calibration, out: Path) -> str:
    """The same for people."""
    measured, failed = calibration.measured, calibration.provenance["failed"]
    error = measured["calibration_error"]
    lines = [
        f"{measured['queries']} queries, {measured['sampled']} of them with a sample; judged on queries held out:",
        f"  expected calibration error {error['value']:.3f} in {error['bins']} bins "
        f"(by chance alone {error['by_chance']:.3f})",
        *(_line(threshold) for threshold in measured["thresholds"]),
        f"  smallest false-alarm rate that so many queries support: {measured['least_false_alarm_rate']:.2%}",
        *(f"  failed  {query}: {reason}" for query, reason in failed.items()),
    ]
    return "\n".join([*lines, f"calibration: {out}"])


def _line(threshold: Mapping[str, float]) -> str:
    return (
        f"  {threshold['false_alarms']:.2%} false alarms: confidence over {threshold['confidence']:.3f} "
        f"[{threshold['low']:.3f}, {threshold['high']:.3f}], recall {threshold['recall']:.3f}"
    )


def _publish(made: Calibration) -> None:
    """The thresholds as a table in the Prefect UI."""
    create_table_artifact(key="calibration", table=list(made.measured["thresholds"]) or [{"result": "no threshold"}])


def _steps(progress: Progress) -> Callable[[str, int, int], None]:
    return lambda what, done, total: progress(
        Step(system="benchmark", doing="rendering", what=what, done=done, total=total)
    )


def _silent(step: Step) -> None:
    """Progress that nobody watches."""

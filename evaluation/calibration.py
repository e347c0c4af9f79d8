"""Calibration: what a peer answers to a benchmark -> what `reranker.calibrate` fits, and how good the fit is.

The peer must give every reference that it compared with the query, losers too, as the product does; its answers are
kept per query, so a killed run goes on. Queries that failed are left out and counted.

Long queries are searched in windows, each of which has a part of the time: `window` is a peer that has no more time for
a query than the product has for such a window. It is asked the full queries, so that windows are calibrated too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from encoder import audio
from evaluation import lengths, reliability, results, run
from evaluation.benchmark import Benchmark, Query
from evaluation.peers.interface import Peer
from evaluation.protocols import STRICT
from evaluation.run import Answer, Report, Step
from reranker import calibrate, confidence
from reranker.calibrate import Fitted, Held, Ranked

LENGTHS = (5.0, 10.0)  # seconds of excerpts; rendered queries last 12 to 40 s
RATES = (0.01, 0.05)  # false-alarm rates that are reported, where they can be
_SHORTEST = 0.1  # seconds; a file that decodes to nothing lasts 0


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Rankings with their truth, and the queries that could not be asked, with the reason."""

    ranked: tuple[Ranked, ...]
    catalogue: int  # tracks that the queries were asked against
    failed: Mapping[str, str]


def collect(
    benchmark: Benchmark,
    peer: Peer,
    directory: Path,
    *,
    window: Peer | None = None,
    seconds: Sequence[float] = LENGTHS,
    progress: Report | None = None,
) -> Collected:
    """Ask the peer every query of the benchmark, whole and in excerpts; audio and answers lie in `directory`.

    Peers are prepared with the benchmark's catalogue. Raises what they raise.
    """
    report = progress or _silent
    cut = lengths.shorter(benchmark, directory / "excerpts", lengths=seconds, progress=_steps("cutting", report))
    asked = Benchmark(**{**vars(benchmark), "excerpts": cut})
    peer.prepare(asked.catalogue, _steps("storing", report, system=peer.name))
    identity = run.identity(asked)
    file = directory / "answers.jsonl"
    answers = run.ask(peer, asked, STRICT, file, benchmark_id=identity, progress=report)
    found = _collected(asked, answers, of=identity[:16])
    return found if window is None else _with_windows(found, benchmark, window, directory, identity, report)


def _with_windows(
    found: Collected, benchmark: Benchmark, window: Peer, directory: Path, identity: str, report: Report
) -> Collected:
    """What was found, and what is found of the same queries in as little time as a window of a long query has."""
    window.prepare(benchmark.catalogue, _steps("storing", report, system=window.name))
    file = directory / "windows.jsonl"
    answers = run.ask(window, benchmark, STRICT, file, benchmark_id=f"{identity} windows", progress=report)
    more = _collected(benchmark, answers, of=identity[:16])
    windows = tuple(replace(one, whole=False) for one in more.ranked)
    return replace(
        found,
        ranked=found.ranked + windows,
        failed={**found.failed, **{f"{query}, as a window": reason for query, reason in more.failed.items()}},
    )


def _collected(benchmark: Benchmark, answers: Sequence[Answer], *, of: str) -> Collected:
    ranked, failed = [], {}
    for query, given in zip((*benchmark.queries, *benchmark.excerpts), answers, strict=True):
        if given.failure:
            failed[query.id] = given.failure
        else:
            full = f"{of} {results.full_query(query, benchmark)}"
            relatives, listed = benchmark.relatives(query), len(benchmark.catalogue)
            ranked.append(_ranked(query, given, full=full, listed=listed, relatives=relatives))
    return Collected(ranked=tuple(ranked), catalogue=len(benchmark.catalogue), failed=failed)


def _ranked(query: Query, given: Answer, *, full: str, listed: int, relatives: Collection[str]) -> Ranked:
    found = sorted(given.response.found, key=lambda one: (-one.score, one.reference in query.relevant))
    return Ranked(
        query=full,
        seconds=max(audio.info(query.path).duration, _SHORTEST),
        scores=tuple(one.score for one in found),
        right=tuple(one.reference in query.relevant for one in found),
        listed=listed,
        related=tuple(one.reference in relatives for one in found),
        sampled=bool(query.relevant),
        whole=query.excerpt is None,
    )


# -- how good it is ------------------------------------------------------------------------------------------------


def measured(fitted: Fitted) -> dict[str, Any]:
    """Log loss, calibration error and recall of full queries, each judged by a model fitted without it, as JSON."""
    held, calibration = fitted.held, fitted.calibration
    return {
        "queries": len(held.correct),
        "sampled": int(held.sampled.sum()),
        "sample_free_or_withheld": len(calibration.false),
        "least_false_alarm_rate": calibration.least_rate,
        "log_loss": dict(fitted.losses),
        "calibration_error": {
            "value": reliability.error(held.confidences, held.correct),
            "by_chance": reliability.by_chance(held.confidences),
            "bins": reliability.BINS,
        },
        "thresholds": [
            _at(held, fitted, rate)
            for rate in sorted({*RATES, calibration.least_rate})
            if rate >= calibration.least_rate
        ],
    }


def _at(held: Held, fitted: Fitted, rate: float) -> dict[str, float]:
    """Recall over the threshold that other folds' models give their own false answers."""
    low, high = calibrate.interval(fitted.calibration.false, rate)
    kept = held.confidences > confidence.of_log_odds(confidence.bar(held.false, rate))
    sampled = held.sampled
    return {
        "false_alarms": rate,
        "confidence": fitted.calibration.threshold(rate),
        "low": low,
        "high": high,
        "recall": _share(kept[sampled] & held.correct[sampled]),
        "answered_of_sample_free": _share(kept[~sampled]),
    }


def _share(kept: np.ndarray) -> float | None:
    return float(kept.mean()) if len(kept) else None


def _steps(doing: str, report: Report, *, system: str = "calibration") -> lengths.Progress:
    return lambda what, done, total: report(Step(system=system, doing=doing, what=what, done=done, total=total))


def _silent(step: Step) -> None:
    """Progress that nobody watches."""

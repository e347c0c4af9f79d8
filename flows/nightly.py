"""The nightly evaluation: is as much found as when a run was last accepted?

1. Run `evaluate own` on the given music; the rendering is kept, so every night asks the same queries.
2. Lay the last nights side by side on one page.
3. Compare with the accepted run, paired; the first run ever is accepted.
4. Publish the comparison and links to the pages; fail where a metric dropped by more than chance.
"""

import logging
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_link_artifact, create_table_artifact

from evaluation import accepted
from evaluation.accepted import WATCHED, Change
from evaluation.own.listing import Music
from evaluation.own.own import OwnSettings, OwnSources
from evaluation.pages import dashboard, measures
from evaluation.pages.measures import MEASURES
from flows import logs
from flows.evaluate import Comparison, evaluate_own
from flows.installation import installed, taking_turns

RUNS, CACHE = "evaluations", "evaluation-cache"  # under the data directory


class SignificantDrop(ArithmeticError):
    """A metric is worse than in the accepted run, and chance does not explain it."""


@flow(name="evaluate-nightly")
def evaluate_nightly(
    music: Path,
    size: OwnSettings = OwnSettings(),  # noqa: B008 (frozen)
    *,
    systems: tuple[str, ...] = ("asid",),
    lengths: tuple[float, ...] = (),
    metrics: tuple[str, ...] = WATCHED,
    accept: bool = False,
    keep: int = 30,
) -> str:
    """Evaluate on `music`, compare with the accepted run, publish; says what changed.

    `accept` makes this run the one that later nights are compared with; of earlier nights the last `keep` stay.
    SignificantDrop where a metric dropped; ValueError where the accepted run is of other music, sizes or systems.
    """
    settings = installed()
    with taking_turns(settings.data, "evaluate") as alone:
        if not alone:
            raise BlockingIOError(f"another evaluation is at work in {settings.data}; wait for its end")
        how = Comparison(
            out=settings.data / RUNS / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S"), cache=settings.data / CACHE,
            systems=systems, lengths=lengths, device=settings.device, command=f"flow evaluate-nightly, music {music}",
        )  # fmt: skip
        evaluate_own.fn(size, OwnSources(music=Music(path=music)), how)
        return compared(how.out, metrics=metrics, accept=accept, keep=keep)


def compared(run: Path, *, metrics: Sequence[str], accept: bool, keep: int) -> str:
    """Lay a finished run beside the accepted one, publish, judge; `accept` accepts it instead."""
    runs = run.parent
    before = accepted.accepted(runs)
    if accept or before is None:
        accepted.accept(run)
    forget(runs, keep=keep)
    page = dashboard.write(runs, runs / "dashboard.html")
    create_link_artifact(key="evaluation-dashboard", link=page.absolute().as_uri(), link_text="All nights side by side")
    if accept or before is None:
        return f"{run.name} accepted"
    changes = accepted.compare(run, before, metrics=metrics)
    publish(changes, before)
    return judged(changes, before)


def judged(changes: Sequence[Change], before: Path) -> str:
    """One line of what changed; SignificantDrop with that line where something dropped."""
    told = "; ".join(str(change) for change in changes)
    dropped = [change for change in changes if change.mark == "worse"]
    logs.tell("evaluated", level=logging.ERROR if dropped else logging.INFO, state="worse" if dropped else "passed",
              reason=told)  # fmt: skip
    if dropped:
        raise SignificantDrop(
            f"worse than the accepted run {before.name}: {'; '.join(str(change) for change in dropped)}; "
            "find the cause, or accept the new figures with `asid accept`"
        )
    return told or "nothing to compare"


def publish(changes: Sequence[Change], before: Path) -> None:
    """The comparison as a table in the Prefect UI."""
    rows = [
        {
            "system": change.system,
            "metric": MEASURES[change.metric].label,
            "difference [95 %]": measures.text(vars(change), signed=True),
            "verdict": change.mark or "within chance",
        }
        for change in changes
    ]
    about = f"Less the accepted run {before.name}; paired over the same queries."
    create_table_artifact(key="evaluation-against-accepted", table=rows, description=about)


def forget(runs: Path, *, keep: int) -> None:
    """Delete all but the last nights; the accepted one stays."""
    if keep < 1:
        raise ValueError(f"keep is {keep}, expected 1 night or more")
    nights = sorted(path.parent for path in runs.glob("*/summary.json"))
    for run in nights[:-keep]:
        if run != accepted.accepted(runs):
            shutil.rmtree(run)

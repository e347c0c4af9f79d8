"""Tables: the summary and the rows of a run -> tables of text, the same for report.md and report.html.

A table is rows of cells under a head; rows may stand in groups. A cell that differs from the baseline by more than
chance, its paired interval excluding 0, is marked; each comparison stands alone, nothing is corrected for their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.pages import measures
from evaluation.pages.measures import DASH, MEASURES, Mark, Measure

_TROUBLES = {  # keys of facts whose values name what went wrong: a mapping to reasons, or a list
    "failed": "failed",
    "failed_queries": "query failed",
    "missing": "missing",
    "unusable": "cannot be used",
    "unreadable": "cannot be read",
    "left_out": "left out",
}
_PLACES = {  # measures by length and level of the sample, and what they are shares of: keys of counts
    "right_query_iou": "matches",
    "tempo_within_2_percent": "matches",
    "transposition_within_half_semitone": "matches",
    "transposition_told": "matches",
    "repetitions_listed": "repetitions",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text, and whether it is significantly better or worse than the baseline's."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A name and a cell for each further column; `group` is the heading it stands under."""

    name: str
    cells: tuple[Cell, ...]
    group: str = ""
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a head, which begins with the column of names."""

    title: str
    about: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: bool = True  # whether the cells are numbers, which are set apart from text

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) + 1 != len(self.head):
                raise ValueError(
                    f"table {self.title!r}: row {row.name!r} has {len(row.cells)} cells, expected {len(self.head) - 1}"
                )

    @property
    def grouped(self) -> dict[str, list[Row]]:
        """Rows by group, in order."""
        return {
            group: [row for row in self.rows if row.group == group]
            for group in dict.fromkeys(r.group for r in self.rows)
        }


def of_metrics(summary: Mapping[str, Any]) -> Table:
    """Every metric of every system with its interval, marked against the baseline."""
    about = (
        f"95 % intervals over queries. ▲ better, ▼ worse than {summary['baseline']}: the paired interval excludes 0."
    )
    return Table(
        title="Metrics",
        about=about,
        head=("metric (unit)", *summary["systems"]),
        rows=_by_measure(summary, summary["systems"], signed=False),
    )


def of_differences(summary: Mapping[str, Any]) -> Table:
    """Every metric of every other system less the baseline's, with its paired interval."""
    names, baseline = summary["differences"], summary["baseline"]
    rows = _by_measure(summary, names, signed=True)
    compared = sum(cell.text != DASH for row in rows for cell in row.cells)
    about = (
        f"System less {baseline} on the same queries, paired 95 % intervals; ▲ better, ▼ worse where they exclude 0. "
        f"Of {compared} such comparisons, about {round(compared / 20)} would do so by chance if nothing differed."
    )
    return Table(title=f"Differences to {baseline}", about=about, head=("metric (unit)", *names), rows=rows)


def of_classes(summary: Mapping[str, Any]) -> Table:
    """mAP and hit rates of the full queries of each class."""
    return _by_part(
        summary,
        section="by_class",
        names={part: f"{part}, n={count}" for part, count in summary["counts"]["classes"].items()},
        keys=("map", "hit_rate_1", "hit_rate_10"),
        title="By class",
        about="Full queries. A query belongs to a class where all its samples do.",
    )


def of_lengths(summary: Mapping[str, Any]) -> Table:
    """Hit rates of the excerpts of each length."""
    return _by_part(
        summary,
        section="by_length",
        names={part: f"{part} s, n={count}" for part, count in summary["counts"]["excerpts"].items()},
        keys=("hit_rate_1", "hit_rate_3", "hit_rate_10"),
        title="By query length",
        about="Excerpts of the queries; intervals over the full queries they are cut from.",
    )


def of_places(summary: Mapping[str, Any]) -> Table:
    """How right matches are explained, by length and level of the sample, with how many each share is of."""
    right, parts = summary["counts"]["right"], summary["counts"]["samples"]
    shown = [m for m in MEASURES.values() if m.key in _PLACES]
    rows = tuple(
        Row(
            name=f"{part}, n={count}",
            group=f"{measure.label} ({measure.unit})",
            cells=tuple(
                _of(summary["by_sample"][system][part][measure.key], right[system][part][_PLACES[measure.key]])
                for system in summary["systems"]
            ),
        )
        for measure in shown
        if any(summary["by_sample"][system][part][measure.key] for system in summary["systems"] for part in parts)
        for part, count in parts.items()
    )
    about = (
        "Full queries that sample; n: how many there are. A match is right where the first-ranked reference is; each "
        "figure is of the right matches, of repetitions of those in them. 95 % intervals over queries."
    )
    return Table(
        title="Places by sample length and level",
        about=about,
        head=("sample", *summary["systems"]),
        rows=rows,
    )


def of_troubles(summary: Mapping[str, Any]) -> Table:
    """What was asked for and could not be used: queries, tracks, files, with the reason where one is known."""
    places = {"run": summary, "benchmark": summary["benchmark"], **summary["peers"]}
    rows = [
        Row(name=what, cells=(Cell(text=place), Cell(text=kind), Cell(text=reason)))
        for place, facts in places.items()
        for key, kind in _TROUBLES.items()
        for what, reason in _reasons(facts.get(key))
    ]
    about = f"{len(rows)} left out or failed." if rows else "Nothing failed, nothing was left out."
    return Table(
        title="What went wrong", about=about, head=("what", "where", "how", "reason"), rows=tuple(rows), numeric=False
    )


def of_systems(summary: Mapping[str, Any]) -> Table:
    """What identifies each system: its digest, and what else it says of itself."""
    rows = tuple(
        Row(
            name=name,
            cells=(
                Cell(text=str(facts.get("about", DASH))),
                Cell(text=str(facts.get("digest", DASH))),
                Cell(text=listed(facts, without=("about", "digest", "rejection_study"))),
            ),
        )
        for name, facts in summary["peers"].items()
    )
    about = "The digest changes whenever answers may change: of checkpoints, or of a program with its options."
    return Table(title="Systems", about=about, head=("system", "about", "digest", "facts"), rows=rows, numeric=False)


def of_benchmark(summary: Mapping[str, Any]) -> Table:
    """What makes the benchmark again."""
    facts = {key: value for key, value in summary["benchmark"].items() if key not in _TROUBLES and value is not None}
    rows = tuple(Row(name=key.replace("_", " "), cells=(Cell(text=_plain(value)),)) for key, value in facts.items())
    return Table(title="Benchmark", about="What makes it again.", head=("fact", "value"), rows=rows, numeric=False)


def of_rejection(summary: Mapping[str, Any]) -> Table:
    """The rejection study, where it was made: excerpts against what they sample, noise against what it does not."""
    studies = {name: facts["rejection_study"] for name, facts in summary["peers"].items() if "rejection_study" in facts}
    rows = tuple(
        Row(
            name=name,
            cells=(
                Cell(text=measures.text({"value": study["auroc"], "low": study["low"], "high": study["high"]})),
                Cell(text=f"{study['positives']} of {study['positive_tracks']} tracks"),
                Cell(text=f"{study['negatives']} of {study['negative_tracks']} tracks"),
                Cell(text=study["shortfall"] or DASH),
            ),
        )
        for name, study in studies.items()
    )
    return Table(
        title="Rejection study",
        about="Pairs of one excerpt and one reference: it samples it, or is noise. 95 % intervals over tracks.",
        head=("system", "AUROC (0-1)", "excerpts that sample", "excerpts of noise", "too few"),
        rows=rows,
        numeric=False,
    )


def listed(facts: Mapping[str, Any], *, without: Sequence[str] = ()) -> str:
    """Facts as "name: value; name: value", without what has a place of its own."""
    left_out = {*without, *_TROUBLES}
    kept = {key: value for key, value in facts.items() if key not in left_out and value is not None}
    return "; ".join(f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in kept.items()) or DASH


def _by_measure(summary: Mapping[str, Any], names: Sequence[str], *, signed: bool) -> tuple[Row, ...]:
    """A row for each metric that some system has; of differences if signed, else of values."""
    values = summary["differences" if signed else "systems"]
    return tuple(
        Row(
            name=measure.label,
            unit=measure.unit,
            group=measure.group,
            cells=tuple(
                _cell(values[name].get(key), summary["differences"].get(name, {}).get(key), measure, signed)
                for name in names
            ),
        )
        for key, measure in MEASURES.items()
        if any(values[name].get(key) for name in names)
    )


def _cell(interval, difference, measure: Measure, signed: bool) -> Cell:
    return Cell(text=measures.text(interval, signed=signed), mark=measures.mark(difference, measure))


def _of(interval, count: int) -> Cell:
    return Cell(text=DASH if interval is None else f"{measures.text(interval)} of {count}")


def _by_part(summary, *, section: str, names: Mapping[str, str], keys: Sequence[str], title: str, about: str) -> Table:
    """A row for each part of the queries and each metric of `keys`, grouped by metric."""
    systems = summary["systems"]
    rows = tuple(
        Row(
            name=name,
            group=f"{MEASURES[key].label} ({MEASURES[key].unit})",
            cells=tuple(Cell(text=measures.text(summary[section][system][part].get(key))) for system in systems),
        )
        for key in keys
        for part, name in names.items()
    )
    return Table(title=title, about=about, head=(title.removeprefix("By "), *systems), rows=rows)


def _reasons(troubles: Any) -> Iterator[tuple[str, str]]:
    """What failed and why, from a mapping of reasons or a list of names; a list of records says it in its own words."""
    if isinstance(troubles, Mapping):
        yield from ((str(what), str(reason)) for what, reason in troubles.items())
    elif isinstance(troubles, list | tuple):
        yield from ((_named(one), _reason(one)) for one in troubles)


def _named(one: Any) -> str:
    return (
        " ".join(str(value) for key, value in one.items() if key != "reason") if isinstance(one, Mapping) else str(one)
    )


def _reason(one: Any) -> str:
    return str(one.get("reason", DASH)) if isinstance(one, Mapping) else DASH


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return listed(value)
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)

"""Report: the rows and the summary of a run -> report.md, report.html and figures/*.png, written for people.

report.html is one self-contained page: figures inlined for light and for dark screens, no request to anywhere. The same
rows and summary give the same bytes.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from evaluation.bootstrap import DRAWS
from evaluation.pages import drawing, figures, outcomes, tables
from evaluation.pages.drawing import DARK, LIGHT
from evaluation.pages.measures import MEASURES
from evaluation.pages.tables import Table

ARROWS = {"": "", "better": "▲", "worse": "▼"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure, as PNG for light and for dark screens."""

    name: str  # file name without suffix
    about: str
    light: bytes
    dark: bytes

    @property
    def path(self) -> str:
        """Where the light one lies, seen from the report."""
        return f"figures/{self.name}.png"

    @property
    def urls(self) -> tuple[str, str]:
        """Both as data URLs, light and dark."""
        light, dark = (base64.b64encode(data).decode() for data in (self.light, self.dark))
        return f"data:image/png;base64,{light}", f"data:image/png;base64,{dark}"


def write(directory: Path, frame: pd.DataFrame, summary: Mapping[str, Any]) -> Path:
    """Write the report of a run into `directory`, which is made where it is missing; the path of report.html.

    `frame` has the columns of results.parquet, `summary` is what summary.json holds.
    """
    pictures = draw(frame, seed=summary["seed"], draws=summary["counts"]["bootstrap_draws"])
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        (directory / picture.path).write_bytes(picture.light)
    (directory / "report.md").write_text(markdown(summary, pictures), encoding="utf-8")
    page = directory / "report.html"
    page.write_text(html(frame, summary, pictures), encoding="utf-8")
    return page


def draw(frame: pd.DataFrame, *, seed: int, draws: int = DRAWS) -> tuple[Picture, ...]:
    """All figures of a run; `seed` and `draws` of the bootstrap as in its summary."""
    light, dark = (figures.draw(frame, theme, seed=seed, draws=draws) for theme in (LIGHT, DARK))
    return tuple(
        Picture(name=name, about=figure.get_suptitle(), light=drawing.png(figure), dark=drawing.png(dark[name]))
        for name, figure in light.items()
    )


def markdown(summary: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The report as Markdown, which refers to the figures by path."""
    context = {"title": _title(summary), "summary": summary, "facts": _facts(summary), "pictures": pictures}
    return render("report.md", tables=_tables(summary), **context)


def html(frame: pd.DataFrame, summary: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The report as one page, with what became of each query."""
    became = outcomes.of_rows(frame)
    dark = drawing.looks(frame, DARK)
    return render(
        "report.html",
        title=_title(summary),
        summary=summary,
        facts=_facts(summary),
        tables=_tables(summary),
        pictures=pictures,
        outcomes=became,
        verdicts=sorted({outcome.verdict for outcome in became}),
        colours={light.system: (light.colour, dark[place].colour) for place, light in enumerate(drawing.looks(frame))},
    )


def render(template: str, **context: Any) -> str:
    """A template of this room; in .html everything is escaped, in .md by the filters `md` and `code`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": _escape, "code": _code}
    return environment.get_template(template).render(arrows=ARROWS, measures=tuple(MEASURES.values()), **context)


def _title(summary: Mapping[str, Any]) -> str:
    benchmark = summary["benchmark"].get("name", "unnamed benchmark")
    return f"Evaluation: {benchmark}, {summary['protocol']['name']} protocol"


def _tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """By name, in the order of the report; those that have nothing to tell are left out."""
    made = {
        "metrics": tables.of_metrics(summary),
        "differences": tables.of_differences(summary),
        "classes": tables.of_classes(summary),
        "lengths": tables.of_lengths(summary),
        "places": tables.of_places(summary),
        "rejection": tables.of_rejection(summary),
        "troubles": tables.of_troubles(summary),
        "systems": tables.of_systems(summary),
        "benchmark": tables.of_benchmark(summary),
    }
    return {name: table for name, table in made.items() if table.rows or name == "troubles"}


def _facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What reproduces the run, by name."""
    counts = summary["counts"]
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return {
        "command": summary["command"],
        "created": summary["created"],
        "queries": f"{counts['sampled']} sampled, {counts['sample_free']} sample-free, "
        f"{sum(counts['excerpts'].values())} excerpts",
        "intervals": f"95 %, bootstrap over queries, {counts['bootstrap_draws']} draws, seed {summary['seed']}",
        "baseline": summary["baseline"],
        "versions": versions,
    }


def _escape(text: Any) -> str:
    """Text as one line of Markdown that means itself, in a table too; only what could mean something is escaped."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}<>|~]|\](?=[(\[:])|&(?=[#\w]))", r"\\\1", line)


def _code(text: str) -> str:
    """Text as one line of Markdown code, in a table too; fenced by more backticks than it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}".replace("|", r"\|")

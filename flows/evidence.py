"""Evidence: what `asid find` keeps besides what it prints, and how `asid verify` repeats it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from encoder.whole import require_place
from evaluation.evidence import bundle, exports, provenance
from evaluation.evidence.bundle import Verified
from evaluation.evidence.replies import Reply
from flows import assembly
from flows.settings import Settings
from reranker.search import Searcher


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be kept of a result; refused before anything is searched where it could not be written."""

    report: Path | None = None
    exports: tuple[Path, ...] = ()
    bundle: Path | None = None

    def __post_init__(self) -> None:
        if self.report is not None and self.report.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"report {self.report}: suffix is {self.report.suffix!r}, expected .html")
        for path in self.exports:
            exports.require_format(path)
        if self.bundle is not None:
            bundle.require_new(self.bundle)
        for path in filter(None, (self.report, *self.exports, self.bundle)):
            require_place(path)


def keep(
    wanted: Wanted, replies: Sequence[Reply], searcher: Searcher, *, command: str, include_self: bool = False
) -> tuple[Path, ...]:
    """Write what is wanted; the paths written."""
    written = [path for one in wanted.exports for path in exports.write(replies, one)]
    if wanted.report is None and wanted.bundle is None:
        return tuple(written)
    made = provenance.of(searcher, command=command, include_self=include_self)
    if wanted.report is not None:
        from evaluation.evidence import page  # matplotlib, which an answer without pictures can do without

        written.append(page.write(wanted.report, replies, made))
    if wanted.bundle is not None:
        written.append(bundle.write(wanted.bundle, replies, made, searcher))
    return tuple(written)


def verify(directory: Path, settings: Settings) -> Verified:
    """Repeat the result in a bundle against the catalogue of the settings, which rank as the bundle was ranked.

    With the calibration in the bundle, where there is one: others give other confidences.
    """
    encoder = assembly.encoder(settings)
    if (kept := directory / bundle.CALIBRATION).is_file():
        settings = replace(settings, calibration=kept)
    with assembly.references(settings, encoder, read_only=True) as references:
        return bundle.verify(directory, assembly.searcher(settings, references, encoder))


def to_text(verified: Verified) -> str:
    """A line for each difference and note, and the verdict."""
    lines = [*(f"differs  {line}" for line in verified.differences), *(f"note     {line}" for line in verified.notes)]
    count = len(verified.differences)
    verdict = (
        f"{count} difference{'s' if count > 1 else ''}: the result is not repeated" if count else "result repeated"
    )
    return "\n".join([*lines, verdict])


def to_json(verified: Verified) -> dict[str, Any]:
    """The same as JSON values."""
    return {"repeated": not verified.differences, **asdict(verified)}

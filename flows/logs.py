"""Logs: what happens to each track and query, for operators; one JSON object a line on stderr where ASID_LOG=json.

    {"time": "2026-11-21T03:00:00.123+00:00", "level": "INFO", "message": "ingested", "flow": "ingest-watched",
     "run": "0196...", "path": "/music/a.flac", "state": "failed", "reason": "no audio"}

Without ASID_LOG nothing is written here. The logger is called `asid`: PREFECT_LOGGING_EXTRA_LOGGERS=asid shows its
lines in the Prefect UI as well.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from prefect.runtime import flow_run

_LOGGER = logging.getLogger("asid")


class OneObjectALine(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            **getattr(record, "told", {}),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Write as ASID_LOG says; calling it again changes nothing. ValueError where it asks for another form."""
    form = os.environ.get("ASID_LOG", "")
    if form not in ("", "json"):
        raise ValueError(f"ASID_LOG is {form!r}, expected json or nothing")
    _LOGGER.setLevel(logging.INFO)
    if form and not any(isinstance(one.formatter, OneObjectALine) for one in _LOGGER.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneObjectALine())
        _LOGGER.addHandler(handler)
        _LOGGER.propagate = False  # else Prefect's console says it again


def tell(message: str, *, level: int = logging.INFO, **told: Any) -> None:
    """Log one event with its fields; inside a flow run, with the run's id and flow."""
    if not _LOGGER.isEnabledFor(level):
        return
    run = {"flow": flow_run.flow_name, "run": flow_run.id} if flow_run.id else {}
    _LOGGER.log(level, message, extra={"told": run | {key: value for key, value in told.items() if value != ""}})

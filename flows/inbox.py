"""The inbox: an audio file that is dropped into a folder is a query; its answer lies beside it under answered/.

    inbox/song.flac    ->    inbox/answered/song.flac, song.flac.html, song.flac.json

A file is moved first and its JSON written last, so that an audio file under answered/ without one is still to be
answered: what is interrupted is taken up at the next tick, what has its JSON never again.
"""

import logging
from pathlib import Path

from prefect import flow

from flows import arrivals, logs
from flows.installation import installed, made, taking_turns
from flows.settings import Settings

ANSWERED = "answered"
_LONGEST = 200  # bytes of a name before its suffix; a file system takes 255, answers have longer suffixes


@flow(name="answer-inbox")
def answer_inbox(folder: Path | None = None, *, settle: float = 10.0, include_self: bool = False) -> str:
    """Answer what has come into the folder (None: inbox/ under the data directory); says how much that was.

    Files changed in the last `settle` seconds wait for the next tick. FileNotFoundError where a folder that is named is
    not there.
    """
    settings = installed()
    with taking_turns(settings.data, "inbox") as alone:
        if not alone:
            return "the last tick is still at work"
        return tick(folder or made(settings.data / "inbox"), settings, settle=settle, include_self=include_self)


def tick(folder: Path, settings: Settings, *, settle: float, include_self: bool) -> str:
    """One look at the folder, and the answers to what is there."""
    arrived = arrivals.look(folder, settle=settle, below=False)
    for path in arrived.refused:
        logs.tell("refused", level=logging.WARNING, path=path, state="refused", reason="leads out of the inbox")
    answered = folder / ANSWERED
    answered.mkdir(exist_ok=True)
    for path in arrived.ready:
        path.rename(free(answered, path.name))
    todo = [path for path in arrivals.look(answered, settle=0, below=False).ready if not _json(path).exists()]
    if todo:
        from flows.find import find_samples  # seconds of imports, which an idle tick can do without

        find_samples.fn(todo, settings, include_self=include_self, reports=answered)
    return f"{len(todo)} answered, {len(arrived.waiting)} waiting, {len(arrived.refused)} refused"


def free(folder: Path, name: str) -> Path:
    """The name in the folder, numbered where it is taken: a second song.flac becomes song-2.flac.

    An answer that was left behind takes it too: it is not that of the file that comes now. One so long that its
    answer's would be no file's is cut, and bytes of it that are no text are written as escapes.
    """
    text, suffix = Path(name).stem.encode(errors="backslashreplace"), Path(name).suffix
    stem = text[:_LONGEST].decode(errors="ignore")
    path, number = folder / f"{stem}{suffix}", 1
    while any(taken.exists() for taken in (path, _json(path), path.with_name(f"{path.name}.html"))):
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _json(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")

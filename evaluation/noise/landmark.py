"""Landmark: the same queries put to the landmark fingerprinter, where the user has it installed (peers/audfprint.py).

All queries of a run go through the program at once, for starting it takes longer than an answer. Its first alignment
is its answer; a query without one, "NOMATCH", is a miss.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import soundfile

from evaluation.noise.identify import Answer, judged
from evaluation.noise.queries import RATE, Excerpt, NoiseSettings
from evaluation.peers.audfprint import Audfprint, ranked, read

_OF_QUERY = re.compile(r"(?:Matched .* s in |NOMATCH )(?P<query>.*query-\d+\.wav) ")


def ask(peer: Audfprint, excerpts: Sequence[Excerpt], settings: NoiseSettings) -> Iterator[Answer]:
    """An answer for every excerpt, length and signal-to-noise ratio; the peer is prepared with the catalogue.

    ValueError where the program says nothing of a query.
    """
    asked = [(n, length, snr) for n in range(len(excerpts)) for length in settings.lengths for snr in settings.snrs]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for place, (number, length, snr) in enumerate(asked):
            files.append(Path(folder) / f"query-{place:06d}.wav")
            soundfile.write(files[-1], excerpts[number].heard(length=length, snr=snr), RATE, subtype="PCM_16")
        printed = by_query(peer.printed(files))
    for place, (number, length, snr) in enumerate(asked):
        name = f"query-{place:06d}.wav"
        if name not in printed:
            raise ValueError(f"{peer.name} said nothing of {name}, expected a match or NOMATCH; is it another version?")
        found = first(printed[name], peer.names)
        yield judged(number, excerpts[number], length, snr, found, seconds=float("nan"))


def first(printed: str, names: Mapping[str, str]) -> tuple[Path, float] | None:
    """Recording and offset of the first alignment printed; `names` are paths by name in the table."""
    for found in ranked(read(printed), names, without=()):
        place = found.occurrences[0]
        return Path(found.reference), place.reference_span[0] - place.query_span[0]
    return None


def by_query(printed: str) -> dict[str, str]:
    """The lines about each query by its file's name."""
    lines: dict[str, str] = {}
    for line in printed.splitlines():
        if about := _OF_QUERY.match(line):
            name = Path(about["query"]).name
            lines[name] = lines.get(name, "") + line + "\n"
    return lines

"""`--quality fast` and `best` on queries of minutes: what is found, what is told wrongly, seconds, side by side.

    asid evaluate own MUSIC --where split=validation ...          # renders a benchmark: own-DIGEST in the cache
    asid ingest MORE_MUSIC $(python -m benchmarks.quality OWN --list) --data DIR
    python -m benchmarks.quality OWN --data DIR [--seconds 180]

The sampled queries of the benchmark are laid end to end into tracks of that length, so that each samples several
references; the catalogue holds these and whatever else DIR does. `found`: share of the sampled references among the
matches told, `right`: share of the matches told that are sampled, both at the calibrated bar. `listed`: share of the
sampled references that were compared with any window. Paired interval over tracks.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
import soundfile
from numpy.typing import NDArray

from benchmarks import held_out
from encoder import audio
from encoder.encode import Encoder
from evaluation.benchmark import Benchmark
from evaluation.own import own_files
from flows import assembly
from flows.settings import Settings
from reranker import shortlist
from reranker.rank import PATIENCE
from reranker.search import Searcher
from store.references import References

RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Long:
    """A track of several queries."""

    waveform: NDArray[np.float32]
    sampled: frozenset[Path]  # files of the references


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path, help="folder of a rendered benchmark")
    parser.add_argument("--list", action="store_true", help="print the files of its catalogue, to be ingested")
    parser.add_argument("--data", type=Path, help="a catalogue that holds these, and more")
    parser.add_argument("--seconds", type=float, default=180.0, help="of each track")
    parser.add_argument("--most", type=int, default=16, help="tracks that are asked")
    given = parser.parse_args()
    benchmark = own_files.load(given.benchmark)
    if benchmark is None:
        parser.error(f"{given.benchmark} holds no finished benchmark; render one by `asid evaluate own`")
    if given.list:
        print("\n".join(str(path) for path in benchmark.catalogue.values()))
        return
    settings = Settings(data=given.data)
    encoder = assembly.encoder(settings)
    tracks = list(laid(benchmark, given.seconds))[: given.most]
    with assembly.references(settings, encoder, read_only=True) as stored:
        counts = stored.counts()
        rows = [asked(replace(settings, ranking=replace(settings.ranking, quality=quality)), stored, encoder, tracks)
                for quality in PATIENCE]  # fmt: skip
    print(f"{counts.stored} tracks, {counts.duration / 3600:.1f} h, encoder {encoder.digest[:12]}")
    print(f"{len(tracks)} queries of {given.seconds:g} s, {sum(len(t.sampled) for t in tracks)} sampled references")
    print(table(rows).round(3).to_string())


def laid(benchmark: Benchmark, seconds: float) -> Iterator[Long]:
    """The sampled queries end to end, cut into tracks where one is long enough."""
    parts, sampled, total = [], set(), 0.0
    for query in (query for query in benchmark.queries if query.relevant):
        parts.append(audio.read(query.path, sample_rate=RATE))
        sampled |= {benchmark.references[name].absolute() for name in query.relevant}
        total += len(parts[-1]) / RATE
        if total >= seconds:
            yield Long(waveform=np.concatenate(parts), sampled=frozenset(sampled))
            parts, sampled, total = [], set(), 0.0


def asked(settings: Settings, stored: References, encoder: Encoder, tracks: list[Long]) -> pandas.DataFrame:
    """One row for each track."""
    searcher, rows = assembly.searcher(settings, stored, encoder), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "query.wav"
        for track in tracks:
            soundfile.write(path, track.waveform, RATE)
            began = time.perf_counter()
            told = {match.reference.path for match in searcher(path).matches}
            row = {"seconds": time.perf_counter() - began, "told": len(told), "right": len(told & track.sampled)}
            listed = len(compared(searcher, path) & track.sampled)
            rows.append(
                row | {name: n / len(track.sampled) for name, n in (("found", row["right"]), ("listed", listed))}
            )
    return pandas.DataFrame(rows)


def compared(searcher: Searcher, path: Path) -> set[Path]:
    """The references that are compared with any window of the query."""
    query = searcher.encoder.encode(path)
    cut, how = searcher._windows(query), (searcher.ranking, searcher.correlator.correlation)
    numbers = sorted(
        {number for part in shortlist.parts(query, cut, searcher.references, *how) for number in part.features}
    )
    return {track.path for track in searcher.references.tracks(numbers).values()}


def table(rows: list[pandas.DataFrame]) -> pandas.DataFrame:
    """A row for each quality; what it finds more than the first."""
    made = []
    for quality, own in zip(PATIENCE, rows, strict=True):
        more = (own["found"] - rows[0]["found"]).to_numpy()
        low, high = held_out.interval(more[None])
        row = {"quality": quality, "found": own["found"].mean(), "more": more.mean(), "low": low, "high": high}
        row |= {"listed": own["listed"].mean(), "right": own["right"].sum() / max(own["told"].sum(), 1)}
        row |= {"seconds": own["seconds"].median(), "slowest": own["seconds"].max()}
        made.append(row | {"ratio": own["seconds"].sum() / rows[0]["seconds"].sum()})
    return pandas.DataFrame(made).set_index("quality")


if __name__ == "__main__":
    main()

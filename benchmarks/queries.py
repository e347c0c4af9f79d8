"""Whole queries against a catalogue of your own: seconds by length and by ranking, side by side in one run.

    asid ingest MUSIC --data DIR
    python -m benchmarks.queries --data DIR [--seconds 20 180] [--quality best]

Queries are stored recordings laid end to end, a fifth faster and with noise 12 dB below them, so that every stage has
its work: encode, candidates, correlation, places. The limit is what encoding's and correlation's products would cost at
the speed this machine multiplies large matrices, on as many threads as are used.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from benchmarks.encoder import matrix_speed, operations
from encoder import audio
from encoder.encode import Encoder
from flows import assembly
from flows.settings import Settings
from reranker.correlate import Correlation
from reranker.rank import PATIENCE, Ranking
from store.references import References

RANKED_BY = {
    "similarity": {"by": "similarity"},
    "reranker": {"by": "reranker"},
    "correlation, unverified": {"by": "correlation", "verify": False},
    "correlation": {"by": "correlation"},
}
_FASTER, _NOISE = 1.2, 0.25  # tempo, noise over the recordings


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="a catalogue that holds music")
    arguments.add_argument("--seconds", type=float, nargs="+", default=[20.0, 180.0], help="lengths of the queries")
    arguments.add_argument("--quality", choices=list(PATIENCE), default="fast")
    arguments.add_argument("--rounds", type=int, default=3, help="of which the median is told")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    settings = Settings(data=given.data, ranking=Ranking(quality=given.quality))
    encoder = assembly.encoder(settings)
    with assembly.references(settings, encoder, read_only=True) as stored, tempfile.TemporaryDirectory() as folder:
        counts = stored.counts()
        made = [query(stored, Path(folder), seconds, given.seed) for seconds in given.seconds]
        rows = [row(settings, stored, encoder, path, by, given.rounds) for path in made for by in RANKED_BY]
    threads, peak = torch.get_num_threads(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{counts.stored} tracks, {threads} threads, seed {given.seed}, largest memory {peak:.2f} GiB")
    print(pandas.DataFrame(rows).round(3).to_string(index=False))


def query(stored: References, folder: Path, seconds: float, seed: int) -> Path:
    """A query of that length out of the catalogue's recordings."""
    rng, rate = np.random.default_rng(seed), 16_000
    tracks, parts = stored.catalogue.tracks("stored"), []
    while sum(map(len, parts)) < seconds * rate * _FASTER:
        parts.append(audio.read(tracks[rng.integers(len(tracks))].path, sample_rate=rate)[: 30 * rate])
    heard: NDArray[np.float32] = soxr.resample(np.concatenate(parts), rate * _FASTER, rate)[: round(seconds * rate)]
    heard = heard + _NOISE * heard.std() * rng.standard_normal(len(heard)).astype(np.float32)
    path = folder / f"{seconds:g}.wav"
    soundfile.write(path, heard / np.abs(heard).max(), rate)
    return path


def row(
    settings: Settings, stored: References, encoder: Encoder, path: Path, by: str, rounds: int
) -> dict[str, float | str]:
    """One line of the table."""
    searcher = assembly.searcher(replace(settings, ranking=replace(settings.ranking, **RANKED_BY[by])), stored, encoder)
    searcher(path)  # the first call compiles
    spent = [clocked(lambda: searcher(path)) for _ in range(rounds)]
    seconds = soundfile.info(path).duration
    products = seconds / encoder.grid.hop * operations(encoder.system)
    if searcher.correlator is not None:
        products += correlated(searcher.correlator.correlation, seconds, stored, searcher.ranking)
    limit = products / matrix_speed() / torch.get_num_threads()
    middle = float(np.median(spent))
    return {
        "query, s": seconds, "ranked by": by, "s": middle, "slowest": max(spent), "x real time": seconds / middle,
        "limit, s": limit, "times the limit": middle / limit,
    }  # fmt: skip


def correlated(config: Correlation, seconds: float, stored: References, ranking: Ranking) -> float:
    """Operations of the products of frames: of all references, coarse and fine, or of stretches, fine."""
    total = stored.counts().duration
    if total <= ranking.reach(seconds):
        fine = min(total, config.effort * ranking.patience / seconds)
        compared = fine + (total / config.coarse**2 if total > fine else 0)  # seconds
    else:
        compared = min(total, ranking.patience * ranking.local / seconds)
    cells = compared * seconds / config.contrast.seconds**2
    return 2.0 * cells * len(config.transpositions) * stored.identity.semitones


def clocked(call) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

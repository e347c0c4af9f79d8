"""What does each part of the ranking give, and what does it cost? One table, each part left out in turn.

    asid evaluate own MUSIC --where split=validation ...       # renders a benchmark into the cache, own-DIGEST
    python -m benchmarks.ranking ~/.cache/asid/own-DIGEST      # some ten minutes for 80 queries, 100 tracks

Each sampled query of the benchmark is compared with its whole catalogue. `mAP`: of the right reference's place. `over`:
what the part adds, with a 95 % interval over queries. `recall`: share of the queries that are first and score over the
best wrong reference of all queries but 1 in 20. Milliseconds are CPU time of the comparison (of a few queries, without
encoding), `ratio` what they would be without that part. The limit is what the products of all frames with all frames
would cost at the speed this machine multiplies large matrices, once for each transposition.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas
import torch
from numpy.typing import NDArray

from benchmarks import held_out
from benchmarks.encoder import matrix_speed
from encoder import audio, contrast
from encoder.encode import Encoder
from evaluation.benchmark import Query
from evaluation.own import own_files
from reranker import correlate
from reranker.correlate import Correlation, Features

Peaks = NDArray[np.float32]  # (pieces, spans, tempi, transpositions, references), highest cosines
Score = Callable[[Peaks, Correlation], NDArray[np.float32]]
_TIMED = 5  # queries


def as_shipped(peaks: Peaks, config: Correlation) -> NDArray[np.float32]:
    """(references,) squares of the surplus, added up at the best common tempo and transposition."""
    return _added(np.square(correlate.surplus(peaks, config.surplus)).sum(axis=(0, 1)), config)


def each_its_own(peaks: Peaks, config: Correlation) -> NDArray[np.float32]:
    """Every piece at the tempo and transposition that suit it best."""
    return np.square(correlate.surplus(peaks, config.surplus)).max(axis=(2, 3)).sum(axis=(0, 1))


def best_piece(peaks: Peaks, config: Correlation) -> NDArray[np.float32]:
    """The strongest piece alone: neither length nor repetition counts."""
    return _added(np.square(correlate.surplus(peaks, config.surplus)).max(axis=(0, 1)), config)


def single_pieces(peaks: Peaks, config: Correlation) -> NDArray[np.float32]:
    """Pieces one by one, never two that follow each other."""
    return as_shipped(peaks[:, :1], config)


def mean_cosine(peaks: Peaks, config: Correlation) -> NDArray[np.float32]:
    """The highest cosines themselves: no background, no piece is more telling than another."""
    there = np.where(peaks > -1, peaks, 0).sum(axis=(0, 1))
    return _added(there, config)


def _added(cells: NDArray[np.float32], config: Correlation) -> NDArray[np.float32]:
    return (cells * config.belief[..., None]).reshape(-1, cells.shape[2]).max(axis=0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the ranking, by what is done without it."""

    name: str
    without: dict = field(default_factory=dict)  # changes of Correlation
    score: Score = as_shipped
    coarse: int = 1
    plain: bool = False  # contrast that is not learned


PARTS = (
    Part(name="as shipped"),
    Part(name="tempo variants", without={"tempo": (1.0, 1.0)}),
    Part(name="transposition variants", without={"transposition": 0}),
    Part(name="both", without={"tempo": (1.0, 1.0), "transposition": 0}),
    Part(name="great changes count less", without={"doubt": (0.0, 0.0)}),
    Part(name="one tempo and transposition for all", score=each_its_own),
    Part(name="length and repetition", score=best_piece),
    Part(name="two pieces as one", score=single_pieces),
    Part(name="surplus over the background", score=mean_cosine),
    Part(name="frames of 64 ms (128 ms)", coarse=2),
    Part(name="learned contrast (plain)", plain=True),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query and what is right, by place in the catalogue."""

    features: dict[bool, Features]  # by whether contrast is plain
    right: NDArray[np.bool_]  # (references,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path, help="folder of a rendered benchmark")
    parser.add_argument("--queries", type=int, default=80, help="sampled queries, the first of the benchmark")
    parser.add_argument("--encoder", type=Path, help="checkpoint; none: the shipped one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    benchmark = own_files.load(given.benchmark)
    if benchmark is None:
        parser.error(f"{given.benchmark} holds no finished benchmark; render one by `asid evaluate own`")
    encoder = Encoder(given.encoder)
    catalogue = {name: heard(encoder, path) for name, path in benchmark.catalogue.items()}
    sampled = [query for query in benchmark.queries if query.relevant][: given.queries]
    asked = [opened(encoder, query, list(catalogue)) for query in sampled]
    tables = {
        plain: {number: features[plain] for number, features in enumerate(catalogue.values())}
        for plain in (False, True)
    }
    rows = table(asked, tables)
    print(rows.to_json(orient="records", indent=2) if given.json else rows.round(3).to_string(index=False))
    if not given.json:
        print(about(asked, tables[False], rows, encoder))


def heard(encoder: Encoder, path: Path) -> dict[bool, Features]:
    """Learned and plain contrast of a file, (frames, semitones) each."""
    made = encoder.system.plain_contrast()
    waveform = audio.read(path, sample_rate=encoder.grid.sample_rate)
    blocks = list(encoder.contrast_stream([waveform]))
    learned = np.concatenate([rows.reshape(-1, rows.shape[2]) for _, rows in blocks])
    spectrum = torch.cat([frames[:, : len(rows) * encoder.grid.step] for frames, rows in blocks], dim=1)
    return {False: learned, True: contrast.features(spectrum, made)[: len(learned)]}


def opened(encoder: Encoder, query: Query, names: list[str]) -> Asked:
    return Asked(features=heard(encoder, query.path), right=np.isin(names, list(query.relevant)))


def table(asked: list[Asked], references: dict[bool, dict[int, Features]]) -> pandas.DataFrame:
    """One row for each part."""
    kept: dict[tuple[bool, int], list[Peaks]] = {}
    rows, base = [], None
    for part in PARTS:
        key, config = (part.plain, part.coarse), replace(Correlation(), **part.without)
        if key not in kept:
            kept[key] = [searched(one, references, Correlation(), part)[1] for one in asked]
        found = [part.score(cut(peaks, config), config) for peaks in kept[key]]
        precision = np.array([1 / place(s, one.right) for s, one in zip(found, asked, strict=True)])
        spent = np.mean([timed(one, references, config, part) for one in asked[:_TIMED]])
        row = {"without": part.name, "mAP": precision.mean(), "HR@1": (precision == 1).mean()}
        row |= {"recall": recall(found, asked), "CPU ms": spent}
        if base is None:
            base = precision, spent
        low, high = held_out.interval((base[0] - precision)[None])
        row |= {"over": (base[0] - precision).mean(), "low": low, "high": high, "ratio": spent / base[1]}
        rows.append(row)
    return pandas.DataFrame(rows)


@torch.inference_mode()
def searched(one: Asked, references: dict[bool, dict[int, Features]], config: Correlation, part: Part):
    """Numbers of the references that are long enough, and peaks of all: -1 throughout for the others."""
    everything = references[part.plain]
    numbers, peaks = correlate.search(one.features[part.plain], everything, config, coarse=part.coarse)
    whole = np.full((*peaks.shape[:4], len(everything)), -1, np.float32)
    whole[..., numbers] = peaks
    return numbers, whole


def cut(peaks: Peaks, config: Correlation) -> Peaks:
    """Only the tempi and transpositions of a smaller grid."""
    whole = Correlation()
    tempi = np.isclose(whole.tempi[:, None], config.tempi).any(axis=1)
    transpositions = np.isin(whole.transpositions, config.transpositions)
    return peaks[:, :, tempi][:, :, :, transpositions]


def place(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> int:
    """Of the best right reference; ties count against it."""
    return int((scores[~right] >= scores[right].max()).sum()) + 1


def recall(found: list[NDArray[np.float32]], asked: list[Asked]) -> float:
    """Share of the queries whose right reference is first, and over the best wrong one of all but 5 % of them."""
    wrong = np.array([scores[~one.right].max() for scores, one in zip(found, asked, strict=True)])
    right = np.array([scores[one.right].max() for scores, one in zip(found, asked, strict=True)])
    bar = np.sort(wrong)[::-1][int(0.05 * len(wrong))]
    return float(((right > wrong) & (right > bar)).mean())


def timed(one: Asked, references: dict[bool, dict[int, Features]], config: Correlation, part: Part) -> float:
    """CPU milliseconds of search and score."""
    began = time.process_time()
    part.score(searched(one, references, config, part)[1], config)
    return 1000 * (time.process_time() - began)


def about(asked: list[Asked], references: dict[int, Features], rows: pandas.DataFrame, encoder: Encoder) -> str:
    """What the table was made of, and the limit."""
    frames = np.mean([len(one.features[False]) for one in asked[:_TIMED]])
    held, bins = sum(map(len, references.values())), next(iter(references.values())).shape[1]
    products = 2 * frames * held * bins * len(Correlation().transpositions)
    limit = 1000 * products / matrix_speed()
    facts = dict(queries=len(asked), tracks=len(references), encoder=encoder.digest[:12], torch=torch.__version__)
    share = limit / rows["CPU ms"][0]
    return f"{json.dumps(facts)}\nlimit of the products: {limit:.0f} CPU ms, {share:.2f} of what is spent as shipped"


if __name__ == "__main__":
    main()

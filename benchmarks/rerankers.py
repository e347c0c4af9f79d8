"""What does a reranker add to its encoder, and how does it tell true pairs from confounding ones?

    python -m benchmarks.rerankers STEM_CACHE ENCODER+RERANKER [ENCODER+RERANKER ...]     checkpoints; the shipped: .+.

Every query view of 1,024 pairs of artists that training never saw is scored against every reference view, by
similarity of fingerprints and by the reranker. `AUROC`: of true against all wrong pairs; `confounding`: against the ten
that are most similar to each query. `over`: HR@1 more than by similarity, with a 95 % interval over pairs. Rows after
the first also have their HR@1 over the first row's.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import held_out
from encoder.encode import Encoder
from encoder.training import augment
from encoder.training.makers import pairs_of
from encoder.training.stem_cache import StemCache
from reranker import checkpoint, sides
from reranker.sides import Sides

SEED = 8_500_000  # neither training, nor what a reranker's epoch is chosen by
_CONFOUNDING = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="stem cache of `asid prepare stems`")
    parser.add_argument("systems", nargs="+", help="ENCODER+RERANKER")
    given = parser.parse_args()
    rows, base = [], None
    for name in given.systems:
        row, hits = scored(StemCache.open(given.cache), name)
        base = hits if base is None else base
        low, high = held_out.interval((hits - base)[None])
        rows.append(row | {"over the first": (hits - base).mean(), "low ": low, "high ": high})
    print(pandas.DataFrame(rows).round(3).to_string(index=False))


def scored(cache: StemCache, name: str) -> tuple[dict[str, float | str], NDArray[np.float64]]:
    """A row, and (pairs,) whether the reranker puts the right reference first."""
    encoder, classifier = opened(name)
    asked = pairs(cache, encoder)
    similarities, scores = asked.similarities, sides.logits(classifier, asked)
    first = [hits(values) for values in (similarities, scores)]
    low, high = held_out.interval((first[1] - first[0])[None])
    row = {"system": name, "encoder": encoder.digest[:12], "HR@1 by similarity": first[0].mean()}
    row |= {"HR@1": first[1].mean(), "over": (first[1] - first[0]).mean(), "low": low, "high": high}
    wrong = asked.tracks.unsqueeze(1) != asked.tracks.unsqueeze(0)
    hardest = similarities.masked_fill(~wrong, -torch.inf).topk(_CONFOUNDING).indices
    for label, values in ((" by similarity", similarities), ("", scores)):
        row[f"AUROC{label}"] = sides.auroc(values, asked.tracks)
        row[f"confounding{label}"] = above(values, hardest)
    return row, first[1]


def opened(name: str) -> tuple[Encoder, torch.nn.Module]:
    encoder, classifier = (None if part == "." else Path(part) for part in name.split("+"))
    loaded = Encoder(encoder)
    return loaded, checkpoint.load(classifier, encoder=loaded.digest).eval()


def pairs(cache: StemCache, encoder: Encoder) -> Sides:
    """The pairs, encoded; made in batches, so that few waveforms are in memory."""
    system = encoder.system
    maker = pairs_of(cache, system, split="validation", seed=SEED, pairing=system.pairing.unseen)
    batches = (maker.batch(n, held_out.BATCH) for n in range(held_out.PAIRS // held_out.BATCH))
    parts = [sides.of_views(augment.views(b, encoder.front_end, encoder.grid), encoder) for b in batches]
    names = ("queries", "references", "query_fingerprints", "reference_fingerprints", "tracks")
    return Sides(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def hits(scores: Tensor) -> NDArray[np.float64]:
    """(pairs,) whether the right reference scores strictly highest."""
    return ((scores >= scores.diagonal().unsqueeze(1)).sum(1) == 1).double().numpy()


def above(scores: Tensor, hardest: Tensor) -> float:
    """Share of (true, confounding) pairs in which the true one scores higher, over all queries; ties are halves."""
    wrong = scores.gather(1, hardest).flatten()
    right = scores.diagonal().unsqueeze(1)
    return ((right > wrong).double() + (right == wrong).double() / 2).mean().item()


if __name__ == "__main__":
    main()

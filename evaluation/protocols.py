"""Protocols: how a table was made, by name; a protocol's sentence is printed with every table.

`strict` is what we quote. Everything in the catalogue competes, AP divides by all relevant references, the wrong ones
go first among equal scores, a rejected candidate leaves the ranking: reranker.rank.by_reference, the product's rule.
Candidates per query segment and threshold are the product's defaults; a system with settings of its own is asked as it
is, and its facts say so.

`published` is what the released NeuralSampleID code computes, so that its tables can be compared like with like.
Reproduced:
- distractors are dropped before ranking: they take places among the candidates, but are never a wrong answer;
- AP divides by the relevant references found among the first 20, and is 0 where there are none;
- full queries (its mAP): 3 candidates per query segment; a candidate scoring 0.5 or less counts 0, but its reference
  stays in the ranking, behind or even, so a classifier that rejects everything still ranks what the index returned;
- excerpts (its hit rates): 5 candidates per query segment, counted again for each query segment that returned them;
  a candidate scoring under 0.5 is dropped;
- equal scores rank in the order of the catalogue, whoever is right.
Not reproduced, as each is a slip and not a rule:
- hit rates computed with the nodes of the track's last annotated segment, whatever segment was asked about;
- an index trained on the noise tracks alone;
- AUROC with the model in train mode, against random node matrices in place of references;
- a catalogue cut down to the class for the figures by class;
- the baseline's ranking by distance, farthest first.
Detection, calibration and localisation have no counterpart there: both protocols measure them alike, each on its own
ranking.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.benchmark import Query
from evaluation.peers.interface import Found, Response
from reranker.rank import Ranking, Scored, by_reference
from reranker.windows import sureness
from store.segment_ids import track_of


@dataclass(frozen=True, kw_only=True)
class Rule:
    """From scored pairs of segments to the scores of references, for peers that have such pairs."""

    candidates: int = Ranking().candidates  # per query segment; k_probe
    threshold: float = Ranking().threshold
    survives_at_threshold: bool = True  # whether a score equal to the threshold survives
    rejected: Literal["leaves", "stays with 0"] = "leaves"
    deduplicate: bool = True  # a candidate counts once, however many query segments returned it

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"rule: candidates is {self.candidates}, expected 1 or more per query segment")
        if self.rejected not in ("leaves", "stays with 0"):
            raise ValueError(f"rule: rejected is {self.rejected!r}, expected 'leaves' or 'stays with 0'")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What competes, what AP divides by, and the rule of ranking for full queries and for excerpts."""

    name: str
    about: str  # one sentence, printed with every table
    distractors_compete: bool
    divide_by: Literal["relevant", "found"]  # what AP divides by
    cut: int | None  # ranks that AP looks at; None: all
    ties: Literal["worst first", "as returned"]
    full: Rule
    excerpt: Rule

    def __post_init__(self) -> None:
        if self.cut is not None and self.cut < 1:
            raise ValueError(f"protocol {self.name}: cut is {self.cut}, expected 1 or more ranks, or None for all")

    def rule(self, query: Query) -> Rule:
        """The rule for this query."""
        return self.full if query.excerpt is None else self.excerpt


STRICT = Protocol(
    name="strict",
    about=(
        "strict: distractors compete in the ranking, AP divides by the number of all relevant references, "
        "ties rank worst first, and a rejected candidate leaves the ranking."
    ),
    distractors_compete=True,
    divide_by="relevant",
    cut=None,
    ties="worst first",
    full=Rule(),
    excerpt=Rule(),
)
PUBLISHED = Protocol(
    name="published",
    about=(
        "published: as the released NeuralSampleID code, distractors are dropped before ranking, AP divides by the "
        "relevant references found among the first 20, and on full queries a rejected candidate counts 0 but its "
        "reference stays; not comparable with strict figures."
    ),
    distractors_compete=False,
    divide_by="found",
    cut=20,
    ties="as returned",
    full=Rule(candidates=3, survives_at_threshold=False, rejected="stays with 0"),
    excerpt=Rule(candidates=5, deduplicate=False),
)
PROTOCOLS = {protocol.name: protocol for protocol in (STRICT, PUBLISHED)}


def named(name: str) -> Protocol:
    """The protocol of that name; ValueError for another."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def rank(scored: Scored, rule: Rule) -> dict[int, float]:
    """Track number -> score under the rule, best first, ties by track number.

    A pair's row stands for a query segment that returned the candidate; a candidate has its best score over its rows.
    Without de-duplication it counts once per row.
    """
    if rule == Rule(candidates=rule.candidates, threshold=rule.threshold):
        return by_reference(scored, threshold=rule.threshold)
    ids, inverse, rows = np.unique(scored.segment_ids, return_inverse=True, return_counts=True)
    best = np.full(len(ids), -np.inf)
    np.maximum.at(best, inverse, scored.scores)
    survives = best >= rule.threshold if rule.survives_at_threshold else best > rule.threshold
    worth = np.where(survives, best * (1 if rule.deduplicate else rows), 0.0)
    kept = survives if rule.rejected == "leaves" else np.ones(len(ids), bool)
    tracks, owner = np.unique(track_of(ids[kept]), return_inverse=True)
    totals = np.bincount(owner, weights=worth[kept], minlength=len(tracks))
    order = np.lexsort((tracks, -totals))
    return {int(tracks[i]): float(totals[i]) for i in order}


def ranking(response: Response, query: Query, *, distractors: Collection[str], protocol: Protocol) -> tuple[Found, ...]:
    """What competes under the protocol, best first; the query's own recording (its aliases) never does."""
    dropped = query.aliases if protocol.distractors_compete else query.aliases | set(distractors)
    found = [one for one in response.found if one.reference not in dropped]
    if protocol.ties == "worst first":
        found.sort(key=lambda one: one.reference in query.relevant)
        found.sort(key=sureness, reverse=True)  # the product's order; stable
    return tuple(found)

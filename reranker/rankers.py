"""Rankers: the systems that rank candidates in a way of their own, and what ranks where nobody says.

    correlation    for encoders with contrast features (asid): finds most samples, and tells where they are
    own            the sequence of exact identification, the reduction of versions, the graph of sounds
    similarity     for all others; a reranker is used where one is asked for, since it belongs to one encoder

A system that ranks its own way adds its network's kind to OWN.
"""

from collections.abc import Callable
from typing import Protocol

from encoder.adaptive_graph import AdaptiveGraph
from encoder.clews import Clews
from encoder.encode import Encoder
from encoder.encoding import Encoding
from encoder.grafprint import GraFPrint
from encoder.systems import System
from reranker.rank import Match
from reranker.sequence import SequenceRanker
from reranker.sound_graph import SoundGraphRanker
from reranker.versions import VersionRanker
from store.candidates import Candidates
from store.references import References


class Ranker(Protocol):
    """Ranks the references of a query's candidates."""

    def __call__(self, query: Encoding, candidates: Candidates, references: References) -> tuple[Match, ...]:
        """One match a reference, best first."""


OWN: dict[type, Callable[[Encoder], Ranker]] = {
    GraFPrint: lambda encoder: SequenceRanker(),
    Clews: lambda encoder: VersionRanker(),
    AdaptiveGraph: lambda encoder: SoundGraphRanker(encoder.network),
}


def resolved(by: str, system: System) -> str:
    """`by` itself, or for "auto" what suits the system."""
    if by != "auto":
        return by
    if system.plain_contrast() is not None:
        return "correlation"
    return "own" if type(system.network) in OWN else "similarity"


def own(encoder: Encoder) -> Ranker:
    """The ranking that the encoder's system has of its own; ValueError where it has none."""
    made = OWN.get(type(encoder.system.network))
    if made is None:
        raise ValueError(f"system {encoder.system.name} has no ranking of its own; use --rank-by similarity")
    return made(encoder)

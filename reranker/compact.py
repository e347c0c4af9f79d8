"""Compact node matrices: fit the form in which a catalogue keeps them to an encoder, and measure what it costs.

The basis comes from node matrices of both views of training pairs, clean references and queries under other music; the
cost is measured on pairs of the validation split, with the reranker that reads them: AUROC of true against all wrong
pairs, and how often the true reference scores highest, with the whole node matrices of the references and with what
the compact form gives back. Query node matrices are never stored and stay whole.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from encoder.encode import Encoder
from encoder.training.makers import pairs_of
from encoder.training.stem_cache import StemCache
from reranker.cross_attention import CrossAttention
from reranker.sides import Sides, auroc, encoded, first, logits
from store.node_form import CompactForm, NodeForm

COORDINATES = 64  # 32 nodes of 64 bytes are 2 KiB
_SEED = 9_000_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a form costs on validation pairs."""

    form: str
    bytes: int  # of a segment's node matrix
    auroc: float
    hit_rate_1: float


def fit(cache: StemCache, encoder: Encoder, *, coordinates: int = COORDINATES, pairs: int = 384) -> CompactForm:
    """The compact form of this encoder's node matrices, from training pairs."""
    sides = encoded(pairs_of(cache, encoder.system, split="train", seed=_SEED).batch(0, pairs), encoder)
    nodes = torch.cat([sides.references, sides.queries]).flatten(0, 1)
    return CompactForm.fit(nodes.cpu().numpy(), coordinates=coordinates, digest=encoder.digest)


def cost(
    cache: StemCache, encoder: Encoder, classifier: CrossAttention, forms: list[NodeForm], *, pairs: int = 384
) -> list[Cost]:
    """What each form costs on the same validation pairs."""
    system = encoder.system
    unseen = pairs_of(cache, system, split="validation", seed=_SEED, pairing=system.pairing.unseen)
    sides = encoded(unseen.batch(0, pairs), encoder)
    return [_cost(form, sides, encoder, classifier) for form in forms]


def _cost(form: NodeForm, sides: Sides, encoder: Encoder, classifier: CrossAttention) -> Cost:
    kept = form.kept(sides.references.cpu().numpy().astype(np.float16))
    references = torch.from_numpy(form.whole(kept)).float().to(sides.references.device)
    with torch.inference_mode():
        # A search has the fingerprints of candidates from their stored node matrices too.
        fingerprints = encoder.network.fingerprints(references)
    changed = replace(sides, references=references, reference_fingerprints=fingerprints)
    scores = logits(classifier, changed)
    return Cost(
        form=form.name,
        bytes=kept[0].nbytes,
        auroc=auroc(scores, sides.tracks),
        hit_rate_1=first(scores),
    )

"""Cross-attention: node matrices of a query and a reference segment -> the score that one samples the other.

Equations 3 to 5 of NeuralSampleID: the query nodes attend to the reference nodes (several heads), the attended nodes
are averaged over the query nodes, and a two-layer network makes one logit of the mean.

A search scores every segment of a query against many reference segments, and the plain form repeats for each pair
what depends on one side only. `CrossAttention.scores` gives the same numbers from the factorised form: each segment is
projected once, and because the mean over query nodes, the output projection and the first layer of the classifier are
linear, they move in front: the mean is taken over the attention weights, and the two linear maps go into the projected
values of the reference. With 32 nodes of 512 channels, a pair then costs 0.5 million multiply-adds (the attention
logits) in place of 35 million.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Queries and references of a block: the attention logits (16 KiB a pair) stay in the cache of a CPU, or fill a GPU.
_BLOCK_ON_CPU, _BLOCK_ON_GPU = (16, 8), (128, 64)
_REFERENCES = 64  # projected at once


@dataclass(frozen=True, kw_only=True)
class CrossAttentionConfig:
    """Sizes of the classifier; the defaults are the paper's."""

    channels: int = 512  # of a node
    nodes: int = 32  # rows of the position embedding; segments may have fewer nodes
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.3
    matching: bool = False  # let the classifier see how well the nodes match; off: the paper's

    def __post_init__(self) -> None:
        for name in ("channels", "nodes", "heads", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"cross-attention: {name} is {getattr(self, name)}, expected a positive integer")
        if self.channels % self.heads:
            raise ValueError(f"cross-attention: {self.heads} heads do not divide {self.channels} channels, change one")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"cross-attention: dropout is {self.dropout}, expected 0 or more and less than 1")


class CrossAttention(nn.Module):
    """Node matrices of a query and a reference segment -> logit."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        self.positions = nn.Parameter(0.02 * torch.randn(config.nodes, channels))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.hidden = nn.Linear(channels, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.logit = nn.Linear(config.hidden, 1)
        self.norm = nn.LayerNorm(channels) if config.matching else nn.Identity()
        self.matching = Matching(config) if config.matching else None
        if config.matching:
            # Equal at first, so that before any training a node attends to the nodes that are like it; and what is
            # seen in them counts for nothing, so that the similarities alone rank.
            self.key.load_state_dict(self.query.state_dict())
            nn.init.zeros_(self.logit.weight)

    def forward(self, query_nodes: Tensor, reference_nodes: Tensor, similarities: Tensor | None = None) -> Tensor:
        """Logits (pairs,) of (pairs, nodes, channels) against (pairs, nodes, channels); higher: more likely a match.

        `similarities` (pairs,), the inner products of the fingerprints, are needed with `matching` only.
        """
        rows = torch.arange(len(query_nodes), device=query_nodes.device).unsqueeze(1)
        known = None if similarities is None else similarities.unsqueeze(1)
        return self.among(query_nodes, reference_nodes, rows, known).squeeze(1)

    def among(
        self, query_nodes: Tensor, reference_nodes: Tensor, rows: Tensor, similarities: Tensor | None = None
    ) -> Tensor:
        """Logits (queries, candidates): of each query's candidates, `rows` of the references.

        Each reference is projected once, however many queries it is a candidate of. `similarities` as `rows`.
        """
        x, y = self.placed(query_nodes), self.placed(reference_nodes)
        q, k, v = self._heads(self.query(x)), self._heads(self.key(y)), self._heads(self.value(y))
        keys, values = k[rows].transpose(1, 2), v[rows].transpose(1, 2)  # (queries, heads, candidates, nodes, channels)
        weights = (q @ keys.flatten(2, 3).mT / q.shape[3] ** 0.5).unflatten(3, rows.shape[1:] + k.shape[2:3])
        normalisers = weights.logsumexp(dim=4)  # (queries, heads, query nodes, candidates)
        shares = (weights - normalisers.unsqueeze(4)).exp().mean(dim=2)  # the mean over query nodes is linear
        attended = (shares.unsqueeze(3) @ values).squeeze(3).transpose(1, 2).flatten(2)
        hidden = self.hidden(self.output(attended))  # (queries, candidates, hidden)
        if self.matching is None:
            return self.logit(self.dropout(F.relu(hidden))).squeeze(2)
        more, direct = self.matching(normalisers.mean(dim=2).transpose(1, 2), similarities)
        return self.logit(self.dropout(F.relu(hidden + more))).squeeze(2) + direct

    def score(self, query_nodes: Tensor, reference_nodes: Tensor, similarities: Tensor | None = None) -> Tensor:
        """Scores (pairs,) in 0 ... 1 in the plain form; see `forward` for shapes."""
        return self(query_nodes, reference_nodes, similarities).sigmoid()

    def scores(
        self,
        query_nodes: Tensor,
        reference_nodes: Tensor,
        pairs: Tensor | None = None,
        *,
        similarities: Tensor | None = None,
    ) -> Tensor:
        """Scores of many pairs in the factorised form, without dropout and gradients.

        query_nodes (queries, nodes, channels), reference_nodes (references, nodes, channels), of any floating type.
        pairs (p, 2): rows (query, reference) to score -> (p,). Without pairs: all of them -> (queries, references).
        `similarities`, of the same shape as the result, are needed with `matching` only. Beside arguments and result
        it needs memory for the projected queries (as large as the queries in float32) and about 30 MiB; on a GPU,
        200 MiB.
        """
        return Factorised(self)(query_nodes, reference_nodes, pairs, similarities=similarities)

    def placed(self, nodes: Tensor) -> Tensor:
        """Nodes plus their positions; segments of fewer nodes use the first positions."""
        count, channels = nodes.shape[1:]
        if channels != self.config.channels or count > self.config.nodes:
            raise ValueError(
                f"node matrices are {count} x {channels}, expected at most {self.config.nodes} nodes "
                f"of {self.config.channels} channels; use the reranker trained for this encoder"
            )
        return self.norm(nodes.to(self.positions.dtype)) + self.positions[:count]

    def _heads(self, x: Tensor) -> Tensor:
        """(segments, nodes, channels) -> (segments, heads, nodes, channels / heads)."""
        return x.unflatten(2, (self.config.heads, -1)).transpose(1, 2)


class Matching(nn.Module):
    """What the paper's classifier cannot see: how well the nodes match, and the similarity of the fingerprints.

    The softmax over the reference nodes divides by a normaliser and forgets it; its logarithm, averaged over the query
    nodes, is large where every query node has a counterpart (one figure a head).
    """

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.heads + 1, config.hidden, bias=False)
        self.direct = nn.Linear(config.heads + 1, 1)
        with torch.no_grad():
            # The encoder's own judgement at first, and one right pair in four.
            self.direct.weight.zero_()[0, -1] = 2.0
            self.direct.bias.fill_(-1.1)

    def forward(self, normalisers: Tensor, similarities: Tensor | None) -> tuple[Tensor, Tensor]:
        """(..., heads) and (...) -> what is added to the hidden layer (..., hidden) and to the logit (...)."""
        if similarities is None:
            raise ValueError("this classifier needs the similarities of the fingerprints; give them")
        # Similarities of hard pairs lie around 0.6 +- 0.2: spread to the scale of the other features.
        spread = 5.0 * (similarities.to(normalisers) - 0.6)
        features = torch.cat([normalisers, spread.unsqueeze(-1)], dim=-1)
        return self.hidden(features), self.direct(features).squeeze(-1)


class ProjectedReferences(NamedTuple):
    """What the factorised form keeps of reference segments."""

    keys: Tensor  # (heads, segments, nodes, channels / heads)
    values: Tensor  # (segments, heads * nodes, hidden), through the output projection and the first layer


class Factorised:
    """The same scores for many pairs: each segment projected once, what is linear moved in front of the pairs.

    Made from the present weights: after further training, make another. Without dropout and gradients.
    """

    @torch.no_grad()
    def __init__(self, network: CrossAttention) -> None:
        self.placed, heads = network.placed, network.config.heads
        scale = (network.config.channels // heads) ** -0.5
        self.query_weight, self.query_bias = network.query.weight * scale, network.query.bias * scale
        self.key_weight, self.key_bias, self.heads = network.key.weight.detach(), network.key.bias.detach(), heads
        self.matching = network.matching
        onward = network.hidden.weight @ network.output.weight  # (hidden, channels)
        per_head = onward.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, hidden, channels / heads)
        self.value_weight = (per_head @ network.value.weight.unflatten(0, (heads, -1))).flatten(0, 1)
        # The weights of each query node sum to one, so that the value bias comes through as a constant.
        passed = onward @ network.value.bias + network.hidden.weight @ network.output.bias
        self.constant = passed + network.hidden.bias
        self.logit_weight, self.logit_bias = network.logit.weight.detach(), network.logit.bias.detach()
        self.rows, columns = _BLOCK_ON_CPU if self.constant.device.type == "cpu" else _BLOCK_ON_GPU
        self.pairs_at_once = self.rows * columns

    @torch.no_grad()
    def __call__(
        self,
        query_nodes: Tensor,
        reference_nodes: Tensor,
        pairs: Tensor | None = None,
        *,
        similarities: Tensor | None = None,
    ) -> Tensor:
        """See `CrossAttention.scores`."""
        if pairs is None:
            return self._grid(query_nodes, reference_nodes, similarities)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"pairs has shape {tuple(pairs.shape)}, expected (pairs, 2): rows (query, reference)")
        return self._listed(query_nodes, reference_nodes, pairs.to(query_nodes.device), similarities)

    def _grid(self, query_nodes: Tensor, reference_nodes: Tensor, similarities: Tensor | None) -> Tensor:
        queries = self._queries(query_nodes)
        rows = _slices(queries.shape[1], self.rows)
        columns = self.pairs_at_once // max(1, min(queries.shape[1], self.rows))
        result = queries.new_empty(queries.shape[1], len(reference_nodes))
        for chunk in _slices(len(reference_nodes), _REFERENCES):
            projected = self._references(reference_nodes[chunk])
            for few in _slices(len(projected.values), columns):
                references = ProjectedReferences(projected.keys[:, few], projected.values[few])
                for some in rows:
                    known = None if similarities is None else similarities[some, chunk][:, few].T
                    result[some, chunk][:, few] = self._block(queries[:, some], references, known)
        return result

    def _listed(
        self, query_nodes: Tensor, reference_nodes: Tensor, pairs: Tensor, similarities: Tensor | None
    ) -> Tensor:
        used, rows = pairs[:, 0].unique(return_inverse=True)
        queries = self._queries(query_nodes[used])
        distinct, members = _by_reference(pairs[:, 1])
        result = queries.new_empty(len(pairs))
        for chunk in _slices(len(distinct), _REFERENCES):
            projected = self._references(reference_nodes[distinct[chunk]])
            for i, places in enumerate(members[chunk]):
                reference = ProjectedReferences(projected.keys[:, i : i + 1], projected.values[i : i + 1])
                for part in places.split(self.pairs_at_once):
                    known = None if similarities is None else similarities[part].unsqueeze(0)
                    result[part] = self._block(queries.index_select(1, rows[part]), reference, known)[:, 0]
        return result

    def _queries(self, nodes: Tensor) -> Tensor:
        """(segments, nodes, channels) -> (heads, segments, nodes, channels / heads)."""
        return self._by_head(F.linear(self.placed(nodes), self.query_weight, self.query_bias))

    def _references(self, nodes: Tensor) -> ProjectedReferences:
        """Keys and values of (segments, nodes, channels)."""
        x = self.placed(nodes)
        values = F.linear(x, self.value_weight).unflatten(2, (self.heads, -1))  # (segments, nodes, heads, hidden)
        return ProjectedReferences(
            self._by_head(F.linear(x, self.key_weight, self.key_bias)), values.transpose(1, 2).flatten(1, 2)
        )

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).permute(2, 0, 1, 3).contiguous()

    def _block(self, queries: Tensor, references: ProjectedReferences, similarities: Tensor | None) -> Tensor:
        """Scores (queries, references) of all pairs of one block; similarities are (references, queries)."""
        (heads, q, query_nodes, _), (r, reference_nodes) = queries.shape, references.keys.shape[1:3]
        logits = references.keys.flatten(1, 2) @ queries.flatten(1, 2).transpose(1, 2)
        weights = logits.view(heads * r, reference_nodes, q * query_nodes)
        # Softmax over the reference nodes, in place: new memory at this size costs as much as the arithmetic.
        peaks = weights.amax(dim=1, keepdim=True)
        totals = weights.sub_(peaks).exp_().sum(dim=1, keepdim=True)
        weights = weights.div_(totals).view(heads, r, reference_nodes, q, query_nodes).mean(dim=-1)
        weights = weights.permute(1, 3, 0, 2).reshape(r, q, heads * reference_nodes)
        hidden = weights @ references.values + self.constant  # (references, queries, hidden)
        if self.matching is None:
            return self._logit(hidden).sigmoid().T
        normalisers = (peaks + totals.log()).view(heads, r, q, query_nodes).mean(dim=-1).permute(1, 2, 0)
        more, direct = self.matching(normalisers, similarities)
        return (self._logit(hidden + more) + direct).sigmoid().T

    def _logit(self, hidden: Tensor) -> Tensor:
        return F.linear(F.relu(hidden), self.logit_weight, self.logit_bias).squeeze(-1)


def _by_reference(references: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The distinct references, and for each the positions where it stands."""
    order = references.argsort(stable=True)
    distinct, counts = references[order].unique_consecutive(return_counts=True)
    return distinct, order.split(counts.tolist())


def _slices(length: int, size: int) -> list[slice]:
    """Consecutive slices of up to `size` that cover `length`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]

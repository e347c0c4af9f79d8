"""The compact form is fitted to an encoder, and its cost is that of the reranker that reads it."""

from dataclasses import replace

import pytest
import torch

from encoder.training.makers import pairs_of
from reranker import compact, sides
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from store.node_form import FULL, CompactForm


@pytest.fixture
def classifier(encoder):
    torch.manual_seed(0)
    config = CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes, matching=True)
    made = CrossAttention(config).eval()
    torch.nn.init.normal_(made.logit.weight)  # zero when untrained
    return made


def test_all_coordinates_cost_nothing_and_one_costs_much(cache, encoder, classifier):
    every, one = (compact.fit(cache, encoder, coordinates=count, pairs=6) for count in (encoder.channels, 1))
    full, fine, coarse = compact.cost(cache, encoder, classifier, [FULL, every, one], pairs=6)
    assert (full.bytes, fine.bytes, coarse.bytes) == (
        2 * encoder.nodes * encoder.channels,
        encoder.nodes * encoder.channels,
        encoder.nodes,
    )
    asked = sides.encoded(pairs_of(cache, encoder.system, split="validation", seed=compact._SEED).batch(0, 6), encoder)
    scores = sides.logits(classifier, asked)

    def off(form):
        references = torch.from_numpy(form.whole(form.kept(asked.references.numpy()))).float()
        changed = replace(asked, references=references)
        return (sides.logits(classifier, changed) - scores).abs().mean().item()

    assert off(every) < off(one) / 5
    assert full.auroc == pytest.approx(sides.auroc(scores, asked.tracks), abs=1e-3)


def test_the_form_belongs_to_the_encoder_and_is_the_same_every_time(cache, encoder):
    first, second = (compact.fit(cache, encoder, coordinates=4, pairs=6) for _ in range(2))
    assert isinstance(first, CompactForm)
    assert first.name == second.name
    assert first.digest == encoder.digest

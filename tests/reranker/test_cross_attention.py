"""The classifier: equal to the released one, and its factorised form equal to the plain one."""

import numpy as np
import pytest
import torch

from encoder.released import PublishedError
from reranker import cross_attention
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.published import from_released, import_classifier

SMALL = CrossAttentionConfig(channels=24, nodes=6, heads=3, hidden=10)


def released(weights):
    network = CrossAttention(CrossAttentionConfig())
    network.load_state_dict(from_released(weights, network.config))
    return network.eval()


@pytest.fixture
def small():
    """A small classifier whose scores differ widely from pair to pair, in double precision: what is equal is exact."""
    torch.manual_seed(0)
    network = CrossAttention(SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return network.double()


def segments(count, *, nodes=6, channels=24, seed=0):
    return torch.randn(count, nodes, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("form", ["plain", "factorised"])
@torch.no_grad()
def test_scores_equal_the_released_classifier(released_weights, outputs, seed, form):
    network, expected = released(released_weights("classifier", seed)), outputs("clf_direct")
    random = np.random.RandomState(90 + seed)
    q, r = (torch.from_numpy(random.standard_normal((6, 512, 32)).astype(np.float32)).mT for _ in range(2))
    own = torch.arange(6).repeat(2, 1).T  # rows (i, i)
    score = {"plain": network.score, "factorised": lambda a, b: network.scores(a, b, own)}[form]
    for name, found in [
        ("scores", score(q, r)),
        ("scores_swapped", score(r, q)),
        ("scores_21nodes", score(q[:, :21], r[:, :21])),
    ]:
        np.testing.assert_allclose(found, expected[f"{name}_{seed}"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("variant", ["", "graphon_sorted_"])
@torch.no_grad()
def test_scores_of_real_node_matrices_equal_the_released_classifier(released_weights, outputs, variant):
    # With active graph blocks nodes reach 3800 and logits hundreds: exp must not overflow.
    network, recorded = released(released_weights("classifier")), outputs("proc_1")
    nodes, pairs = torch.from_numpy(recorded[f"{variant}nodes"]).mT, torch.from_numpy(recorded["pairs"])
    expected = recorded[f"{variant}scores"]
    np.testing.assert_allclose(network.score(nodes[pairs[:, 0]], nodes[pairs[:, 1]]), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(network.scores(nodes, nodes, pairs), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_head_of_one_node_each_is_worked_by_hand():
    network = CrossAttention(CrossAttentionConfig(channels=2, nodes=2, heads=1, hidden=1)).eval()
    for layer in (network.query, network.key, network.value, network.output):
        layer.weight.copy_(torch.eye(2))
        layer.bias.zero_()
    network.positions.zero_()
    network.hidden.weight.copy_(torch.tensor([[1.0, 2.0]]))
    network.hidden.bias.fill_(0.5)
    network.logit.weight.fill_(2.0)
    network.logit.bias.fill_(-1.0)
    # One reference node takes the whole attention: 1 x 0.25 + 2 x 0.5 + 0.5 = 1.75, then 2 x 1.75 - 1 = 2.5
    query, reference = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[0.25, 0.5]]])
    assert network(query, reference).item() == pytest.approx(2.5)
    assert network.score(query, reference).item() == pytest.approx(1 / (1 + np.exp(-2.5)))
    # Nodes (1, 0) and (0, 0) with query (sqrt(2) ln 3, 0): logits ln 3 and 0, weights 3/4 and 1/4, mean (0.75, 0)
    query = torch.tensor([[[np.sqrt(2) * np.log(3), 0.0]]], dtype=torch.float32)
    reference = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    # 0.75 + 0.5 = 1.25, then 2 x 1.25 - 1 = 1.5
    assert network(query, reference).item() == pytest.approx(1.5)


@torch.no_grad()
def test_the_grid_of_the_factorised_form_equals_the_plain_form_across_blocks(small, monkeypatch):
    # 37 queries in blocks of 16, 70 references projected 64 at once and scored 3 at once
    monkeypatch.setattr(cross_attention, "_BLOCK_ON_CPU", (16, 3))
    queries, references = segments(37), segments(70, seed=1)
    grid = small.scores(queries, references)
    expected = torch.stack([small.score(query.expand(70, -1, -1), references) for query in queries])
    assert expected.std() > 0.1
    torch.testing.assert_close(grid, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_list_of_pairs_equals_the_plain_form_in_any_order_and_with_repeats(small, monkeypatch):
    monkeypatch.setattr(cross_attention, "_BLOCK_ON_CPU", (4, 4))
    queries, references = segments(9), segments(80, seed=1)
    generator = torch.Generator().manual_seed(2)
    pairs = torch.stack([torch.randint(n, (500,), generator=generator) for n in (9, 80)], dim=1)
    pairs[:40] = torch.tensor([3, 7])  # one reference more often than a block holds
    expected = small.score(queries[pairs[:, 0]], references[pairs[:, 1]])
    torch.testing.assert_close(small.scores(queries, references, pairs), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_half_precision_node_matrices_and_different_numbers_of_nodes_are_scored(small):
    queries, references = segments(3, nodes=4).half(), segments(5, nodes=6, seed=1).half()
    expected = torch.stack([small.score(query.expand(5, -1, -1), references) for query in queries])
    torch.testing.assert_close(small.scores(queries, references), expected, rtol=0, atol=1e-12)


def test_at_full_size_in_single_precision_the_two_forms_agree_to_a_millionth(released_weights):
    network = released(released_weights("classifier"))
    queries, references = segments(5, nodes=32, channels=512), segments(7, nodes=32, channels=512, seed=1)
    with torch.no_grad():
        expected = torch.stack([network.score(query.expand(7, -1, -1), references) for query in queries])
    assert expected.std() > 0.1
    torch.testing.assert_close(network.scores(queries, references), expected, rtol=0, atol=1e-6)


def test_the_factorised_form_ignores_dropout_and_makes_no_gradients(small):
    queries, references = segments(3), segments(4, seed=1)
    expected = small.scores(queries, references)
    assert not expected.requires_grad
    assert torch.equal(small.train().scores(queries, references), expected)


def test_no_pairs_and_no_references_give_empty_scores(small):
    queries, references = segments(2), segments(3)
    assert small.scores(queries, references, torch.zeros(0, 2, dtype=torch.long)).shape == (0,)
    assert small.scores(queries, references[:0]).shape == (2, 0)
    assert small.scores(queries[:0], references).shape == (0, 3)


def test_training_reaches_every_weight_and_uses_dropout(small):
    small.train()
    torch.manual_seed(1)
    query, reference = segments(8), segments(8, seed=1)
    logits = small(query, reference)
    assert logits.shape == (8,)
    assert not torch.equal(logits, small(query, reference))
    logits.square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_the_position_embedding_starts_small_and_is_learned():
    network = CrossAttention(CrossAttentionConfig())
    assert network.positions.requires_grad
    assert network.positions.shape == (32, 512)
    assert network.positions.std() < 0.1
    # 4 x (512 x 512 + 512) + 512 x 128 + 128 + 128 + 1 + positions 32 x 512
    assert sum(p.numel() for p in network.parameters()) == 1_116_417 + 32 * 512


def test_wrong_shapes_are_refused(small):
    with pytest.raises(ValueError, match="node matrices are 7 x 24, expected at most 6 nodes of 24 channels"):
        small(segments(1, nodes=7), segments(1))
    with pytest.raises(ValueError, match="node matrices are 6 x 12, expected"):
        small.scores(segments(1), segments(1, channels=12))
    with pytest.raises(ValueError, match=r"pairs has shape \(3,\), expected \(pairs, 2\)"):
        small.scores(segments(1), segments(1), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"heads": 5}, "5 heads do not divide 512 channels"),
        ({"nodes": 0}, "nodes is 0, expected a positive integer"),
        ({"dropout": 1.0}, "dropout is 1.0, expected 0 or more and less than 1"),
    ],
)
def test_impossible_sizes_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        CrossAttentionConfig(**change)


def test_the_released_file_is_imported_and_another_network_is_refused(released_weights, tmp_path):
    weights, path = released_weights("classifier"), tmp_path / "classifier.pth"
    torch.save(weights, path)
    q, r = (segments(2, nodes=32, channels=512, seed=seed) for seed in (0, 1))
    imported = import_classifier(path)
    assert not imported.training
    torch.testing.assert_close(imported(q, r), released(weights)(q, r), rtol=0, atol=0)
    torch.save({"state_dict": {"encoder.stem.0.weight": torch.zeros(1)}}, path)
    with pytest.raises(PublishedError, match="attn.in_proj_weight is missing; is it the classifier's file"):
        import_classifier(path)
    torch.save({**weights, "positional_embedding": torch.zeros(1, 16, 512)}, path)
    with pytest.raises(PublishedError, match=r"1 weights have another shape \(positional_embedding \(16, 512\)\)"):
        import_classifier(path)


def matching_network():
    torch.manual_seed(3)
    network = CrossAttention(CrossAttentionConfig(channels=32, nodes=6, heads=4, hidden=16, matching=True)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_with_matching_the_factorised_form_equals_the_plain_one_for_a_grid_and_for_listed_pairs():
    network = matching_network()
    queries, references, similarities = torch.randn(5, 6, 32), torch.randn(7, 6, 32), torch.rand(5, 7)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(7))
    with torch.no_grad():
        plain = network.score(queries[pairs[:, 0]], references[pairs[:, 1]], similarities.flatten())
    grid = network.scores(queries, references, similarities=similarities)
    listed = network.scores(queries, references, pairs, similarities=similarities.flatten())
    torch.testing.assert_close(grid.flatten(), plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(listed, plain, atol=1e-6, rtol=0)


def test_with_matching_a_segment_matches_itself_better_than_another_even_untrained():
    torch.manual_seed(3)
    network = CrossAttention(CrossAttentionConfig(channels=32, nodes=6, heads=4, hidden=16, matching=True)).eval()
    nodes = torch.randn(8, 6, 32)
    q = network._heads(network.query(network.placed(nodes)))
    k = network._heads(network.key(network.placed(nodes)))
    normalisers = (
        (torch.einsum("ahnc,bhmc->abhnm", q, k) / 8**0.5).logsumexp(-1).mean((-1, -2))
    )  # (queries, references)
    assert (normalisers.diagonal() > normalisers.masked_fill(torch.eye(8, dtype=torch.bool), -9e9).amax(1)).all()


def test_candidates_of_several_queries_score_as_the_pairs_they_are():
    network, generator = matching_network(), torch.Generator().manual_seed(6)
    queries, references = (torch.randn(count, 6, 32, generator=generator) for count in (3, 4))
    rows = torch.tensor([[0, 3], [3, 1], [2, 2]])
    similarities = torch.rand(3, 2, generator=generator)
    found = network.among(queries, references, rows, similarities)
    for k in range(2):
        pairs = network(queries, references[rows[:, k]], similarities[:, k])
        torch.testing.assert_close(found[:, k], pairs)


def test_untrained_the_similarities_alone_rank():
    torch.manual_seed(7)
    network = CrossAttention(CrossAttentionConfig(channels=32, nodes=6, heads=4, hidden=16, matching=True)).eval()
    similarities = torch.tensor([[0.5, 0.9, 0.7]])
    found = network.among(torch.randn(1, 6, 32), torch.randn(3, 6, 32), torch.arange(3)[None], similarities)
    assert found.argsort(descending=True).tolist() == [[1, 2, 0]]
    assert (found[0, 1] - found[0, 0]).item() == pytest.approx(2.0 * 5.0 * 0.4)


def test_matching_needs_similarities():
    with pytest.raises(ValueError, match="similarities"):
        matching_network()(torch.randn(1, 6, 32), torch.randn(1, 6, 32))

"""Adaptive neighbourhoods: equal to the released code where that is meant, and better where the paper means more."""

from pathlib import Path

import numpy as np
import pytest
import torch

from encoder import adaptive_graph
from encoder.adaptive_graph import AdaptiveGraph

RECORDED = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "an_gnn"
_NAMES = {
    "graph_conv.layers.0.weight": "block.convolution.weight",
    "graph_conv.layers.0.bias": "block.convolution.bias",
    "graph_conv.relation.fc1": "block.convolution.relation.0",
    "graph_conv.relation.fc2": "block.convolution.relation.2",
    "graph_conv.relation.fc3": "block.convolution.relation.4",
    "fc.": "block.back.",
}


def recorded(name):
    if not RECORDED.is_dir():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(RECORDED / f"{name}.npz"))


def graph_layers(expected, kind, **sizes):
    """The layers with the released weights, whose tied block stands twice in the file."""
    layers, weights = AdaptiveGraph(variant=kind, **sizes).layers(expected["x"].shape[1]), {}
    for key, value in expected.items():
        _, _, name = key.partition("sd/backbone.")
        if not name:
            continue
        number, part, name = name.split(".", 2)
        if part == "0":
            released = next(old for old in _NAMES if name.startswith(old))
            name = name.replace(released, _NAMES[released], 1)
        else:
            name = name.replace("fc1.0", "0").replace("fc1.1", "1").replace("fc2.0", "3").replace("fc2.1", "4")
            name = f"feed_forward.{number}.layers.{name}"
        shape = layers.state_dict()[name].shape
        weights[name] = torch.from_numpy(np.asarray(value)).reshape(shape)
    layers.load_state_dict(weights)
    return layers.eval()


def equal(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("gnn_ang", "published"), ("gnn_knn", "knn")])
def test_every_stage_equals_the_released_code(name, kind):
    expected = recorded(name)
    layers, x = graph_layers(expected, kind), torch.from_numpy(expected["x"])
    with torch.no_grad():
        equal(layers.block.convolution(x), expected["graphconv_out"])
        equal(layers.block(x), expected["block1_out"])
        equal(layers.feed_forward[0](layers.block(x)), expected["ffn1_out"])
        equal(layers(x), expected["model_out_eval"])


@pytest.mark.parametrize(("name", "kind"), [("gnn_ang", "published"), ("gnn_knn", "knn")])
def test_in_training_without_dropped_paths_it_equals_the_released_code(name, kind):
    expected = recorded(name)
    layers = graph_layers(expected, kind, drop_path=0.0).train()
    with torch.no_grad():
        equal(layers(torch.from_numpy(expected["x"])), expected["model_out_train_nodroppath"])


def test_scales_weights_and_edges_of_both_rounds_equal_the_released_code():
    expected = recorded("gnn_ang")
    layers = graph_layers(expected, "published")
    with torch.no_grad():
        for x, sigma, edges in (("x", "sigma", "S"), ("ffn1_out", "sigma_block2", "S_block2")):
            nodes = torch.from_numpy(expected[x])
            scales = layers.block.convolution.scales(nodes)
            equal(scales, expected[sigma])
            weights = adaptive_graph.similarities(nodes, scales, 3)
            equal(adaptive_graph.normalised(weights), expected[edges])
            if x == "x":
                equal(weights, expected["W_masked"])


def test_links_to_the_nearest_equal_those_of_the_released_code():
    expected = recorded("gnn_knn")
    links = adaptive_graph.nearest(torch.from_numpy(expected["x"]), 3)
    np.testing.assert_array_equal(links.T, expected["A_src_dst"])  # recorded from row to column


def test_the_mlp_equals_the_released_code():
    expected = recorded("mlp")
    network = adaptive_graph.mlp(32, 16, 0.5).eval()
    network.load_state_dict({k[10:]: torch.from_numpy(v) for k, v in expected.items() if k.startswith("sd/layers.")})
    equal(network(torch.from_numpy(expected["x"])), expected["out"])


@pytest.mark.parametrize(
    ("kind", "parameters"), [("published", 563_809), ("knn", 529_920), ("mlp", 526_592), ("linear", 262_144)]
)
def test_the_networks_have_the_numbers_of_parameters_of_the_paper(kind, parameters):
    with torch.device("meta"):
        layers = AdaptiveGraph(variant=kind).layers(512)
    assert sum(p.numel() for p in layers.parameters()) == parameters


def gradients(kind):
    """Of the relation network, after a loss on the embeddings of 30 sounds."""
    torch.manual_seed(0)
    layers = AdaptiveGraph(variant=kind, drop_path=0.0).layers(32)
    (layers(torch.randn(30, 32)) * torch.randn(30, 32)).sum().backward()
    return [p.grad for p in layers.block.convolution.relation.parameters()]


def test_the_released_relation_network_never_learns():
    assert all(gradient is None for gradient in gradients("published"))


def test_the_scales_learn_where_edges_carry_their_weights():
    for gradient in gradients("weighted"):
        assert gradient.abs().max() > 1e-6


def test_a_scale_of_nothing_leaves_a_published_sound_alone_and_a_weighted_one_is_not():
    """One sound's relation is 0: it lies infinitely far from all. Softplus makes that 0.69."""
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    x[0] = 5
    scales = torch.ones(8, 1)
    scales[0] = 2.2e-16
    linked = adaptive_graph.similarities(x, scales, 3)
    assert linked[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    convolution = AdaptiveGraph(variant="weighted").layers(4).block.convolution
    torch.nn.init.zeros_(convolution.relation[4].weight)
    torch.nn.init.zeros_(convolution.relation[4].bias)
    np.testing.assert_allclose(convolution.scales(x).detach(), 0.6941, atol=1e-4)


def test_weights_by_hand():
    """Sounds at 0, 2 and 6 on one axis with scales 1, 2, 1, two neighbours: scaled 0, 1, 6.

    W_01 = exp(-1/2), W_12 = exp(-25/2), W_02 = exp(-18) is left out: 2 has 1 for its neighbour, 0 has 1.
    """
    weights = adaptive_graph.similarities(torch.tensor([[0.0], [2.0], [6.0]]), torch.tensor([[1.0], [2.0], [1.0]]), 2)
    near, far = np.exp(-0.5), np.exp(-12.5)
    np.testing.assert_allclose(weights, [[1, near, 0], [near, 1, far], [0, far, 1]], rtol=1e-6)
    sums = weights.sum(0)
    np.testing.assert_allclose(adaptive_graph.normalised(weights)[0, 1], near / np.sqrt(sums[0] * sums[1]), rtol=1e-6)


def test_distances_of_sounds_far_from_the_origin_keep_their_digits():
    """Two sounds 0.02 apart at 10,000: their squares have eight digits before the point."""
    x = torch.tensor([[10_000.0, 0.0], [10_000.0, 0.02]])
    weight = adaptive_graph.similarities(x, torch.ones(2, 1), 2)[0, 1]
    assert weight == pytest.approx(np.exp(-0.5 * 0.02**2 / 2), abs=1e-6)


@pytest.mark.parametrize("kind", adaptive_graph.GRAPHS)
def test_a_sound_alone_is_a_graph_of_one(kind):
    torch.manual_seed(0)
    layers = AdaptiveGraph(variant=kind).layers(32).eval()
    x = torch.randn(5, 32)
    together = torch.cat([layers(one.unsqueeze(0)) for one in x])
    torch.testing.assert_close(layers(x, alone=True), together, rtol=0, atol=1e-6)
    assert (layers(x) - together).abs().max() > 1e-3


def test_a_fingerprint_does_not_hang_on_its_batch():
    torch.manual_seed(0)
    network = AdaptiveGraph().build(bins=32, frames=1).eval()
    features = torch.randn(6, 32, 1)
    nodes, fingerprints = network(features)
    assert nodes.shape == (6, 1, 32)
    torch.testing.assert_close(fingerprints[:1], network(features[:1]).fingerprints)
    torch.testing.assert_close(fingerprints.norm(dim=1), torch.ones(6))


def test_features_are_standardised_by_those_it_was_fitted_on():
    """Of 1, 3 and 5: mean 3, unbiased deviation 2; a channel that never changes is left at 0."""
    network = AdaptiveGraph(variant="linear").build(bins=2, frames=1)
    network.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]))
    assert network.standardised(torch.tensor([[9.0, 7.0]])).tolist() == [[3.0, 0.0]]


def test_dropped_paths_keep_their_mean():
    torch.manual_seed(0)
    layers = AdaptiveGraph(variant="knn", drop_path=0.5).layers(16).feed_forward[0].train()
    x = torch.randn(2000, 16)
    branch = (layers(x) - x)[:, 0]
    assert 0.45 < (branch == 0).float().mean() < 0.55
    layers.drop = 0
    torch.testing.assert_close(branch[branch != 0], 2 * (layers(x) - x)[:, 0][branch != 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(variant="gat"), "variant is 'gat'"),
        (dict(neighbours=0), "neighbours is 0"),
        (dict(drop_path=1.0), "drop_path"),
    ],
)
def test_impossible_sizes_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveGraph(**given)

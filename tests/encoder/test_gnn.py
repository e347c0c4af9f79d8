"""The graph network: shapes from the configuration, and what each of its parts promises."""

from dataclasses import replace

import pytest
import torch

from encoder.gnn import (
    PAPER,
    GraphBlock,
    GraphEncoder,
    GraphNetwork,
    PatchInput,
    Projector,
    Stage,
    StandardInput,
)
from encoder.systems import ASID, NEURALSAMPLEID, named


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("system", [ASID, NEURALSAMPLEID], ids=lambda s: s.name)
def test_every_recipe_makes_32_nodes_of_512_channels_and_128_values(system):
    network = system.build().eval()
    assert network.cells == (8, 4)
    with torch.inference_mode():
        nodes, fingerprints = network(10 * noise(2, system.rows, 128))
    assert nodes.shape == (2, 32, 512)
    assert fingerprints.shape == (2, 128)
    torch.testing.assert_close(fingerprints.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("backend", ["dense", "dgl"])
def test_both_graph_backends_give_the_same_fingerprints_and_gradients(system, backend):
    torch.manual_seed(0)
    plain = system.build()
    other = replace(system, network=replace(system.network, backend=backend)).build()
    other.load_state_dict(plain.state_dict())
    spectra = 10 * noise(4, 36, 32)
    for network in (plain.eval(), other.eval()):
        network(spectra).fingerprints.pow(3).sum().backward()
    torch.testing.assert_close(other(spectra).fingerprints, plain(spectra).fingerprints, rtol=0, atol=1e-5)
    for a, b in zip(plain.parameters(), other.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_a_segment_is_encoded_the_same_alone_and_among_others(system):
    network, spectra = system.build().eval(), 10 * noise(5, 36, 32)
    with torch.inference_mode():
        for together, alone in zip(network(spectra), network(spectra[2:3])):
            torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-5)


def test_silence_and_constants_give_finite_values():
    for system in (NEURALSAMPLEID, ASID):
        network = system.build().eval()
        for level in (0.0, -100.0):
            with torch.inference_mode():
                encoded = network(torch.full((1, system.rows, 128), level))
            assert all(values.isfinite().all() for values in encoded)


def test_the_standard_input_forgets_level_and_half_of_the_colour():
    spectra = 10 * noise(2, 6, 9)
    inputs = StandardInput(6, 9)
    torch.testing.assert_close(inputs(spectra), inputs(spectra + 12), rtol=0, atol=1e-5)
    # A bin raised by 6 dB of which 1 / 6 is level: (5 - 0.5 * 5) / 15 of its own 5 dB over the level remain.
    raised = spectra.clone()
    raised[:, 2] += 6
    change = (inputs(raised) - inputs(spectra))[0, 0]
    torch.testing.assert_close(change[2], torch.full((9,), 2.5 / 15), rtol=0, atol=1e-5)
    torch.testing.assert_close(change[0], torch.full((9,), -0.5 / 15), rtol=0, atol=1e-5)


def test_the_standard_input_keeps_the_upper_70_decibels():
    spectra = torch.zeros(1, 2, 2)
    spectra[0, 0, 0] = -100  # cut to -70; mean -17.5, bin means -35 and 0 or -17.5 and 17.5 about it
    # (-70 + 17.5 + 0.5 * 17.5) / 15 = -43.75 / 15
    assert StandardInput(2, 2)(spectra)[0, 0, 0, 0].item() == pytest.approx(-43.75 / 15)


def test_the_patch_input_scales_each_segment_and_adds_ramps():
    spectra = torch.tensor([[[0.0, 10.0, 5.0], [2.5, 5.0, 7.5]]])
    time, frequency, scaled = PatchInput(2, 3)(spectra)[0]
    assert time.tolist() == [[0, 0.5, 1], [0, 0.5, 1]]
    assert frequency.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert scaled.tolist() == [[0, 1, 0.5], [0.25, 0.5, 0.75]]


def test_bands_are_pooled_apart_or_together():
    config = GraphNetwork(stages=(Stage(channels=1),), node_channels=2, hidden=3, dimensions=4, pooling="bands")
    nodes = noise(1, 6, 2)  # 3 bands of 2 time cells
    projector = Projector(config, bands=3)
    bands = torch.cat([nodes[0, 0:2].mean(0), nodes[0, 2:4].mean(0), nodes[0, 4:6].mean(0)])
    expected = torch.nn.functional.normalize(projector.layers(bands), dim=0)
    torch.testing.assert_close(projector(nodes)[0], expected)
    together = Projector(replace(config, pooling="mean"), bands=3)
    expected = torch.nn.functional.normalize(together.layers(nodes[0].mean(0)), dim=0)
    torch.testing.assert_close(together(nodes)[0], expected)


def test_dilation_and_stochastic_depth_rise_from_block_to_block():
    blocks = [block for stage in NEURALSAMPLEID.build().stages for block in stage.blocks]
    # 12 blocks: dilation index // 4 + 1, at most 3; drop 0.1 * index / 11
    assert [block.aggregate.dilation for block in blocks] == [1] * 4 + [2] * 4 + [3] * 4
    assert [block.path.drop for block in blocks] == pytest.approx([0.1 * i / 11 for i in range(12)])


@pytest.mark.parametrize(("aggregation", "seen"), [("graph", "like"), ("alone", "itself"), ("convolution", "near")])
def test_what_a_node_sees_of_the_others(system, aggregation, seen):
    """Nodes 0 and 14 of a 3 x 5 grid are alike and far apart; 0 and 1 are neighbours and unlike."""
    network = replace(system.network, aggregation=aggregation, neighbours=2)
    torch.manual_seed(0)
    aggregate = GraphBlock(4, network, index=0, total=1).aggregate
    nodes = noise(1, 15, 4)
    nodes[0, 0] = nodes[0, 0].abs()
    nodes[0, 14] = 1.01 * nodes[0, 0]
    nodes[0, 1] = -nodes[0, 0]
    nodes.requires_grad_()
    aggregate(nodes, (3, 5))[0, 0].sum().backward()
    moved = nodes.grad[0].abs().sum(1) > 0
    assert {"itself": moved[0], "near": moved[1], "like": moved[14]}[seen]
    assert not any(
        {"itself": moved[0], "near": moved[1], "like": moved[14]}[other]
        for other in {"like": ("near",), "itself": ("near", "like"), "near": ("like",)}[seen]
    )


def test_nodes_alone_have_as_many_parameters_as_a_graph_and_all_of_them_learn(system):
    graph, alone = (replace(system.network, aggregation=name) for name in ("graph", "alone"))
    graph, alone = (GraphEncoder(config, bins=36, frames=32) for config in (graph, alone))
    assert sum(p.numel() for p in graph.parameters()) == sum(p.numel() for p in alone.parameters())
    alone(10 * noise(4, 36, 32)).fingerprints.pow(3).sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in alone.named_parameters() if "update.linear" in name)


def test_a_dropped_path_leaves_the_segment_as_it_was_and_keeps_the_mean():
    config = replace(PAPER, drop_path=0.5, neighbours=2)
    block = GraphBlock(4, config, index=1, total=2)
    torch.manual_seed(0)
    branch = torch.ones(20_000, 1, 1)
    paths = block.train().path(branch)
    assert set(paths.unique().tolist()) == {0.0, 2.0}  # 1 / (1 - 0.5)
    assert paths.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(block.eval().path(branch), branch)


def test_impossible_sizes_are_refused():
    stage = Stage(channels=4)
    for values, reason in (
        ({"stages": ()}, "no stages"),
        ({"stages": (stage,), "backend": "sparse"}, "backend is 'sparse'"),
        ({"stages": (stage,), "pooling": "median"}, "pooling is 'median'"),
        ({"stages": (stage,), "aggregation": "attention"}, "aggregation is 'attention', expected one of graph, alone"),
    ):
        with pytest.raises(ValueError, match=reason):
            GraphNetwork(**values)
    with pytest.raises(ValueError, match="no system is called 'x', expected one of: asid"):
        named("x")

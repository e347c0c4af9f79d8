"""GraFPrint's network: equal to what the released dense graph code computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoder.grafprint import GraFPrint, GraFPrintNetwork, GroupedLinear, Halving, from_released
from encoder.released import PublishedError

# The recorded outputs were made with the sizes of NeuralSampleID's patches: 4 x 8 cells, no overlap, 4 s.
RECORDED = GraFPrint(frames=128, kernel=(4, 8), stride=(4, 8), padding=(0, 0))
SMALL = GraFPrint(
    bins=8, frames=8, kernel=(3, 3), padding=(1, 1), channels=(8, 16), blocks=(1, 1), pooled=16, hidden=16, dimensions=8
)


@pytest.fixture(scope="session")
def released(recorded):
    return recorded("simclr_dense_t")[0]


def test_the_network_equals_the_released_dense_graph_code(recorded):
    weights, expected = recorded("simclr_dense_t")
    network = GraFPrintNetwork(RECORDED)
    network.load_state_dict(from_released(weights, RECORDED))
    with torch.inference_mode():
        # In double precision: which of two nearly equally near nodes is a neighbour hangs on the processor's rounding.
        nodes, fingerprints = network.eval().double()(torch.from_numpy(expected["logmel"]).double())
        pooled = network.pooled(nodes[:, 0])
    np.testing.assert_allclose(fingerprints, expected["dense_k3_z"], rtol=0, atol=1e-5)
    # These values reach 62,000 (twelve blocks without a norm at the end): 1e-5 of the largest.
    scale = np.abs(expected["dense_k3_h"]).max()
    np.testing.assert_allclose(pooled, expected["dense_k3_h"], rtol=0, atol=1e-5 * scale)


def test_neighbours_are_not_dilated_as_recorded(recorded):
    weights, expected = recorded("simclr_dense_t")
    dilated = replace(RECORDED, max_dilation=3)
    network = GraFPrintNetwork(dilated)
    network.load_state_dict(from_released(weights, dilated))
    with torch.inference_mode():
        fingerprints = network.eval()(torch.from_numpy(expected["logmel"])).fingerprints
    assert np.abs(fingerprints.numpy() - expected["dense_k3_z"]).max() > 0.01


def test_the_network_has_the_released_parameters_that_can_be_trained(released):
    with torch.device("meta"):
        ours = sum(p.numel() for p in GraFPrintNetwork(RECORDED).parameters())
    # Two of three columns of the downsamplings' 3 x 3 kernels never meet a node: 6 * (64*128 + 128*256 + 256*512).
    dead = 6 * (64 * 128 + 128 * 256 + 256 * 512)
    assert ours == 18_366_856 - dead


def test_overlapping_patches_make_1024_nodes_and_one_mean_node_is_kept():
    assert GraFPrint().nodes == 1024  # 64 / 2 x 32
    network = GraFPrintNetwork(SMALL).eval()
    encoded = network(torch.randn(2, 8, 8))
    assert encoded.node_matrices.shape == (2, 1, 16)
    torch.testing.assert_close(network.fingerprints(encoded.node_matrices), encoded.fingerprints)
    torch.testing.assert_close(encoded.fingerprints.norm(dim=1), torch.ones(2))


def test_a_constant_segment_has_a_finite_fingerprint_and_loudness_does_not_matter():
    network = GraFPrintNetwork(SMALL).eval()
    assert torch.isfinite(network(torch.full((1, 8, 8), -100.0)).fingerprints).all()
    spectra = torch.randn(3, 8, 8)
    torch.testing.assert_close(network(spectra + 12.0).fingerprints, network(spectra).fingerprints, atol=1e-4, rtol=0)


def test_halving_is_a_strided_convolution_along_the_nodes():
    halving, x = Halving(4, 6).eval(), torch.randn(2, 10, 4)
    kernel = halving.linear.linear.weight.view(6, 3, 4).transpose(1, 2)
    plain = F.conv1d(x.transpose(1, 2), kernel, halving.linear.linear.bias, stride=2, padding=1)
    expected = plain.transpose(1, 2) / (1 + halving.linear.norm.eps) ** 0.5  # untrained batch norm
    torch.testing.assert_close(halving(x), expected, atol=1e-6, rtol=1e-5)


def test_a_grouped_linear_map_is_a_grouped_convolution():
    layer, x = GroupedLinear(12, groups=3), torch.randn(2, 5, 12)
    torch.nn.init.normal_(layer.bias)
    expected = F.conv1d(x.transpose(1, 2), layer.weight.unsqueeze(2), layer.bias, groups=3).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)


def test_every_weight_is_trained_and_training_drops_whole_branches():
    network = GraFPrintNetwork(SMALL).train()
    network(torch.randn(4, 8, 8)).fingerprints[:, 0].sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    block, x = network.blocks[1][0], torch.randn(5, 32, 16)
    block.path.drop = 1.0 - 1e-6
    assert torch.equal(block(x), x)  # both branches dropped
    block.path.drop = 0.5
    kept = (block(x.repeat(40, 1, 1)) == x.repeat(40, 1, 1)).all(dim=(1, 2))
    assert 0.15 < kept.float().mean() < 0.35  # each branch of a segment by itself: a quarter loses both


def test_foreign_weights_are_refused(released):
    with pytest.raises(PublishedError, match=r"1 weights are unexpected \(encoder\.extra\)"):
        from_released({**released, "encoder.extra": torch.zeros(1)}, RECORDED)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"blocks": (1,)}, "1 entries in blocks for 2 stages"),
        ({"channels": (8, 15)}, "15 channels in 4 groups"),
        ({"bins": 6, "frames": 7, "channels": (8, 16, 16), "blocks": (1, 1, 1)}, "21 patches cannot be halved"),
        ({"neighbours": 17}, "17 neighbours with dilation 1 among 16 nodes"),
    ],
)
def test_impossible_sizes_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        GraFPrint(**{**vars(SMALL), **change})


def test_spectra_of_another_size_are_refused():
    with pytest.raises(ValueError, match="spectra of 8 x 9, expected 8 x 8"):
        SMALL.build(bins=8, frames=9)

"""ResNet-IBN: equal to what the released ResNet18-IBN computes; other sizes follow the same plan."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.released import PublishedError
from encoder.resnet_ibn import RESNET18, RESNET50, Block, ResNetIBN, ResNetIBNNetwork, from_released

SMALL = ResNetIBN(stem=4, channels=(8, 16), blocks=(1, 2), strides=(1, 2), instance_stages=1, dimensions=12)


def test_the_network_equals_the_released_resnet18_ibn(recorded):
    weights, expected = recorded("resnet_ibn")
    network = ResNetIBNNetwork(RESNET18)
    network.load_state_dict(from_released(weights, RESNET18))
    with torch.inference_mode():
        pooled, fingerprints = network.eval()(torch.from_numpy(expected["resnet_in"]))
        outputs = network.head(pooled[:, 0])
    scale = max(1.0, np.abs(expected["resnet_out"]).max())
    np.testing.assert_allclose(outputs, expected["resnet_out"], rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(fingerprints, expected["resnet_z"], rtol=0, atol=1e-5)


# ResNet-50 has 23,508,032 parameters without its classifier (He et al.), of which the stem takes colour: 2 * 64 * 49
# more than one channel. The linear map adds 2048 * 2048 + 2048, the generalised mean 1.
@pytest.mark.parametrize(
    ("config", "parameters"), [(RESNET18, 32_767_425), (RESNET50, 23_508_032 - 6_272 + 4_196_352 + 1)]
)
def test_the_networks_have_the_published_numbers_of_parameters(config, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNetIBNNetwork(config).parameters()) == parameters


def test_pooled_features_are_a_node_matrix_of_one_node_from_which_the_fingerprint_follows():
    network = SMALL.build(bins=84, frames=54).eval()
    encoded = network(torch.rand(2, 84, 54))
    assert encoded.node_matrices.shape == (2, 1, 16)
    torch.testing.assert_close(network.fingerprints(encoded.node_matrices), encoded.fingerprints)
    torch.testing.assert_close(encoded.fingerprints.norm(dim=1), torch.ones(2))


def test_silence_has_a_finite_fingerprint():
    assert torch.isfinite(SMALL.build(bins=84, frames=54).eval()(torch.zeros(1, 84, 54)).fingerprints).all()


def test_instance_norm_in_early_stages_only_and_an_activation_behind_the_second_norm_where_asked():
    network = ResNetIBNNetwork(SMALL)
    names = [type(stage[0].narrow_norm).__name__ for stage in network.stages]
    assert names == ["HalfInstanceNorm", "BatchNorm2d"]
    plain, activated = (
        Block(4, 4, inner=4, stride=1, instance=False, activated=activated).eval() for activated in (False, True)
    )
    activated.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 5, 5)
    assert not torch.allclose(plain(x), activated(x))
    torch.nn.init.constant_(plain.spread_norm.bias, 100.0)  # never negative: the activation changes nothing
    activated.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(x), activated(x))


def test_every_weight_is_trained():
    network = ResNetIBNNetwork(replace(SMALL, instance_stages=2))
    network(torch.rand(3, 84, 54)).fingerprints[:, 0].sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_missing_weights_are_named(recorded):
    weights, _ = recorded("resnet_ibn")
    weights.pop("layer2.0.bn1.IN.bias")
    with pytest.raises(PublishedError, match=r"1 weights are missing \(layer2\.0\.bn1\.IN\.bias\)"):
        from_released(weights, RESNET18)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"strides": (1,)}, "1 entries in strides for 2 stages"),
        ({"instance_stages": 3}, "instance_stages is 3, expected 0 to 2"),
        ({"expansion": 3}, "8 channels with expansion 3"),
        ({"expansion": 8}, "2 inner channels or more"),
    ],
)
def test_impossible_sizes_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(SMALL, **change)

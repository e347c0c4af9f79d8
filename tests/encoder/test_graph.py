"""The graph over the nodes of a segment: neighbours worked by hand, and two backends that agree."""

import pytest
import torch

from encoder.graph import gather, max_relative, neighbours

# Four nodes in the plane. Directions: 0, 10, 90 and 95 degrees; lengths 1, 4, 1 and 1.
FOUR = torch.tensor([[[1.0, 0.0], [3.939, 0.695], [0.0, 1.0], [-0.087, 0.996]]])


def random_nodes(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_by_cosine_ignores_length_and_the_nearest_by_distance_does_not():
    # By angle node 1 is nearest to node 0; by distance it is 3.02 away, nodes 2 and 3 only 1.41 and 1.47.
    assert neighbours(FOUR, 2)[0, 0].tolist() == [0, 1]
    assert neighbours(FOUR, 3, metric="euclidean")[0, 0].tolist() == [0, 2, 3]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_node_is_its_own_first_neighbour(metric):
    nearest = neighbours(random_nodes(3, 20, 8), 4, dilation=2, metric=metric)
    assert nearest.shape == (3, 20, 4)
    assert torch.equal(nearest[..., 0], torch.arange(20).expand(3, 20))


def test_a_dilation_takes_every_second_of_twice_as_many_neighbours():
    nodes = random_nodes(2, 16, 6)
    assert torch.equal(neighbours(nodes, 3, dilation=2), neighbours(nodes, 6)[..., ::2])


def test_gathering_stays_inside_each_segment():
    nodes = torch.arange(6.0).view(2, 3, 1)  # segment 0 holds 0, 1, 2; segment 1 holds 3, 4, 5
    index = torch.tensor([[[0, 2], [1, 1], [2, 0]], [[0, 2], [1, 1], [2, 0]]])
    expected = torch.tensor([[[0, 2], [1, 1], [2, 0]], [[3, 5], [4, 4], [5, 3]]]).unsqueeze(-1)
    assert torch.equal(gather(nodes, index), expected.float())


def test_max_relative_is_the_largest_difference_to_a_neighbour_channel_by_channel():
    # k = 2 joins nodes 0 and 1, and nodes 2 and 3, each also with itself (difference 0).
    expected = torch.tensor([[[2.939, 0.695], [0.0, 0.0], [0.0, 0.0], [0.087, 0.004]]])
    torch.testing.assert_close(max_relative(FOUR, 2), expected)


@pytest.mark.parametrize("backend", ["dense", "dgl"])
def test_with_one_neighbour_a_node_sees_only_itself(backend):
    nodes = random_nodes(2, 8, 4)
    torch.testing.assert_close(max_relative(nodes, 1, backend=backend), torch.zeros_like(nodes))


@pytest.mark.parametrize(("k", "dilation"), [(1, 1), (5, 1), (3, 2), (5, 3), (16, 2)])
def test_dense_and_dgl_backends_agree_in_values_and_gradients(k, dilation):
    nodes, direction = random_nodes(3, 32, 24), random_nodes(3, 32, 24, seed=1)
    values, gradients = [], []
    for backend in ("dense", "dgl"):
        x = nodes.clone().requires_grad_()
        result = max_relative(x, k, dilation=dilation, backend=backend)
        (result * direction).sum().backward()
        values.append(result.detach())
        gradients.append(x.grad)
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["dense", "dgl"])
def test_segments_of_a_batch_do_not_see_each_other(backend):
    nodes = random_nodes(4, 12, 8)
    alone = torch.cat([max_relative(segment, 4, backend=backend) for segment in nodes.split(1)])
    torch.testing.assert_close(max_relative(nodes, 4, backend=backend), alone)


def test_more_neighbours_than_nodes_are_refused():
    with pytest.raises(ValueError, match=r"k \* dilation is 10, expected at most the 8 nodes"):
        max_relative(random_nodes(1, 8, 4), 5, dilation=2)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="graph backend is 'sparse', expected one of"):
        max_relative(random_nodes(1, 8, 4), 2, backend="sparse")

"""NT-Xent against plain loops, and gradient caching against one big batch."""

import math

import pytest
import torch
from torch import nn

from encoder.gnn import GraphBlock, GraphNetwork, Stage
from encoder.training.losses import backward_side_by_side, cached_backward, nt_xent


def unit(*shape, seed=0):
    return nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_hand(references, queries, tracks, temperature, moments=None, covers=None):
    """-log exp(s_ij) / sum of exp(s_ik) over j and all k that show nothing of i, for all views i with positive j."""
    moments = moments or [0] * len(tracks)
    views = [(track, moment, (), v) for track, moment, v in zip(tracks, moments, references)]
    views += [(t, m, c, v) for t, m, c, v in zip(tracks, moments, covers or [()] * len(tracks), queries)]
    n, total = len(references), 0.0
    for i, (track, moment, over, view) in enumerate(views):
        positive = (i + n) % (2 * n)
        rivals = [
            k
            for k, (t, m, o, _) in enumerate(views)
            if (t, m) != (track, moment) and t not in over and track not in o and not set(o) & set(over)
        ]
        similarity = {k: float(view @ views[k][3]) / temperature for k in [positive, *rivals]}
        total += math.log(sum(math.exp(s) for s in similarity.values())) - similarity[positive]
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("tracks", [[0, 1, 2, 3, 4], [7, 3, 7, 7, 2]])
def test_the_loss_equals_the_plain_loop(tracks, temperature):
    references, queries = unit(5, 8, seed=1), unit(5, 8, seed=2)
    loss = nt_xent(references, queries, torch.tensor(tracks), temperature=temperature)
    assert loss.item() == pytest.approx(by_hand(references, queries, tracks, temperature), rel=1e-5)


def test_another_moment_of_a_track_is_a_negative_and_what_lies_over_a_query_none():
    references, queries = unit(6, 8, seed=1), unit(6, 8, seed=2)
    tracks, moments = [0, 0, 2, 2, 4, 5], [0, 1, 0, 0, 0, 0]
    covers = [(4,), (), (9, 5), (), (9,), (0,)]  # track 9 is not in the batch, but lies over two queries
    found = nt_xent(
        references,
        queries,
        torch.tensor(tracks),
        temperature=0.2,
        moments=torch.tensor(moments),
        covers=torch.tensor([[*over, *[-1] * (2 - len(over))] for over in covers]),
    )
    expected = by_hand(references, queries, tracks, 0.2, moments, covers)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    for changes in ({"moments": None}, {"covers": None}):
        other = dict(moments=moments, covers=covers) | changes
        assert by_hand(references, queries, tracks, 0.2, **other) != pytest.approx(expected, rel=1e-3)


def test_two_perfect_pairs_at_right_angles():
    views = torch.eye(2)
    # Every view: its positive has similarity 1, the two views of the other pair 0: log(e + 2) - 1 = 0.5514
    loss = nt_xent(views, views, torch.tensor([0, 1]), temperature=1.0)
    assert loss.item() == pytest.approx(math.log(math.e + 2) - 1)


def test_pairs_of_one_track_have_no_rivals():
    # Nothing but the positive is left: log(e^s) - s = 0
    assert nt_xent(unit(3, 4), unit(3, 4, seed=1), torch.tensor([5, 5, 5]), temperature=0.05).item() == 0.0


def test_half_precision_fingerprints_are_compared_in_full():
    half = unit(4, 8).bfloat16()
    assert nt_xent(half, half, torch.arange(4), temperature=0.05).dtype == torch.float32


class Pair(nn.Module):
    """A network that counts how many segments it has seen at once."""

    def __init__(self, *, drop=0.0):
        super().__init__()
        config = GraphNetwork(stages=(Stage(channels=6),), neighbours=2, expansion=1, drop_path=drop)
        self.block = GraphBlock(6, config, index=1, total=2)
        self.last = nn.Linear(6, 5)
        self.largest = 0
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):  # statistics of a batch would differ from those of its portions
                module.eval()

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        return nn.functional.normalize(self.last(self.block(x, (1, 1)).mean(dim=1)), dim=1)


def loss(fingerprints):
    references, queries = fingerprints.chunk(2)
    return nt_xent(references, queries, torch.arange(len(references)), temperature=0.1)


def gradients(network, portions, backward=cached_backward):
    network.zero_grad()
    value = backward(network, portions, loss)
    return value, [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize("backward", [cached_backward, backward_side_by_side])
def test_portions_give_the_gradients_of_the_whole_batch(backward):
    torch.manual_seed(0)
    network, batch = Pair().train(), torch.randn(12, 7, 6)
    whole, expected = gradients(network, [batch])
    network.largest = 0
    value, found = gradients(network, batch.split(5), backward)
    assert network.largest == 5
    assert value.item() == pytest.approx(whole.item(), rel=1e-5)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_both_runs_of_a_portion_drop_the_same_paths():
    torch.manual_seed(0)
    network, batch = Pair(drop=0.5).train(), torch.randn(12, 7, 6)
    outputs, forward = [], network.forward
    network.forward = lambda x: outputs.append(forward(x)) or outputs[-1]
    cached_backward(network, batch.split(4), loss)
    first, second = outputs[:3], outputs[3:]
    for a, b in zip(first, second, strict=True):
        assert not a.requires_grad
        assert b.requires_grad
        torch.testing.assert_close(a, b)
    assert not torch.allclose(forward(batch[:4]), first[0])  # another state drops other paths


def test_the_portions_of_a_batch_drop_different_paths():
    torch.manual_seed(0)
    network = Pair(drop=0.5).train()
    same = torch.randn(8, 7, 6)
    outputs, forward = [], network.forward
    network.forward = lambda x: outputs.append(forward(x)) or outputs[-1]
    cached_backward(network, [same, same], loss)
    assert not torch.allclose(outputs[0], outputs[1])


def test_the_loss_is_returned_without_its_graph():
    network = Pair().train()
    for portions in (torch.randn(4, 7, 6).split(4), torch.randn(4, 7, 6).split(2)):
        assert not cached_backward(network, portions, loss).requires_grad

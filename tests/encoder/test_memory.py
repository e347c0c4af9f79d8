"""Memory: what is remembered counts as a larger batch would, but for what shows the same, and is forgotten in turn."""

import pytest
import torch
from torch import nn

from encoder.systems import GRAFPRINT_SMALL, RESNET18_IBN_SMALL
from encoder.training import train
from encoder.training.losses import nt_xent
from encoder.training.memory import Memory, Remembered, nothing_new, shown


def unit(*shape, seed):
    return nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_views_of_other_tracks_count_as_those_of_the_batch_do():
    references, queries, others = unit(3, 8, seed=1), unit(3, 8, seed=2), unit(4, 8, seed=3)
    tracks = torch.tensor([0, 1, 2])
    remembered = Remembered(others, torch.tensor([[5], [6], [7], [8]]))
    found = nt_xent(references, queries, tracks, temperature=0.2, remembered=remembered)
    z, among = torch.cat([references, queries]), torch.cat([references, queries, others])
    logits = (z @ among.T / 0.2).index_put((torch.arange(6), torch.arange(6)), torch.tensor(-torch.inf))
    assert found.item() == pytest.approx(nn.functional.cross_entropy(logits, torch.arange(6).roll(3)).item(), rel=1e-5)


def test_what_shows_the_same_track_is_no_negative_nor_is_what_is_empty():
    views = shown(torch.tensor([0, 1]), torch.tensor([[3, -1], [-1, -1]]))
    assert views.tolist() == [[0, -1, -1], [1, -1, -1], [0, 3, -1], [1, -1, -1]]
    remembered = Remembered(unit(5, 8, seed=1), torch.tensor([[0, -1], [2, 1], [3, -1], [4, -1], [-1, -1]]))
    expected = [[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [1, 0, 1, 0, 1], [0, 1, 0, 0, 1]]
    assert nothing_new(views, remembered).long().tolist() == expected


def test_an_empty_memory_changes_nothing():
    references, queries, tracks = unit(3, 8, seed=1), unit(3, 8, seed=2), torch.tensor([0, 1, 2])
    plain = nt_xent(references, queries, tracks, temperature=0.05)
    empty = Memory(6, 8, tracks=1).recalled()
    assert nt_xent(references, queries, tracks, temperature=0.05, remembered=empty).item() == plain.item()
    assert Memory(0, 8, tracks=1).recalled() is None


def test_the_newest_views_stay():
    memory = Memory(3, 2, tracks=1)
    for number in range(3):
        memory.take(torch.full((2, 2), float(number), requires_grad=True), torch.full((2, 1), number))
    assert memory.shown.tolist() == [[2], [2], [1]]
    assert memory.fingerprints[:, 0].tolist() == [2, 2, 1]
    assert not memory.fingerprints.requires_grad


@pytest.mark.parametrize("sizes", [{}, {"chunk": 3}, {"lanes": 2}])
def test_a_run_that_remembers_goes_on_after_a_stop_as_one_that_was_not_stopped(cache, system, changed, tmp_path, sizes):
    remembering = changed(system, schedule=dict(epochs=2, steps=3, remembered=9, **sizes))
    whole = list(train.train(cache, remembering, tmp_path / "whole"))
    next(train.train(cache, remembering, tmp_path / "stopped"))
    resumed = list(train.train(cache, remembering, tmp_path / "stopped"))
    assert [r.epoch for r in resumed] == [2]
    assert resumed[0].loss == pytest.approx(whole[1].loss, rel=1e-3)
    plain = list(train.train(cache, changed(remembering, schedule=dict(remembered=0)), tmp_path / "plain"))
    assert whole[1].loss > plain[1].loss + 0.1  # more negatives than the batch's own


def test_a_loss_that_compares_no_views_refuses_a_memory(cache, changed, tmp_path):
    with pytest.raises(ValueError, match="remembered is 9, which this training has no use for"):
        next(train.train(cache, changed(RESNET18_IBN_SMALL, schedule={"remembered": 9}), tmp_path))
    assert train._unread(GRAFPRINT_SMALL) == []

"""The joint objective of ResNet-IBN: its value by hand, the direction of a step, and training with it."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from encoder import checkpoint
from encoder.constant_q import ConstantQ
from encoder.resnet_ibn import ResNetIBN
from encoder.segments import SegmentGrid
from encoder.systems import KINDS, RESNET18_IBN_SMALL
from encoder.training import state, train
from encoder.training.augment import Views
from encoder.training.classes import ClassObjective, triplet
from encoder.training.pairing import Pairing


def views(tracks, covers=None):
    spectra = torch.zeros(len(tracks), 1, 1)
    return Views(spectra, spectra, torch.tensor(tracks), None, None if covers is None else torch.tensor(covers))


def head(weights):
    layer = torch.nn.Linear(2, len(weights), bias=False)
    layer.weight.data = torch.tensor(weights)
    return layer


def test_the_objective_by_hand():
    references = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    queries = torch.tensor([[0.8, 0.6], [1.0, 0.0]])
    objective = ClassObjective(beta=0.5, gamma=2.0, margin=0.3, scale=2.0)
    loss = objective(references, queries, views([0, 1]), head([[3.0, 0.0], [0.0, 0.5]]))
    # Query 0: positive 0.8, negative 0.6: 0.1 over the margin. Query 1: positive 0, negative 1: 1.3. Mean 0.7.
    # Class vectors are unit vectors; logits 2 * cosine of the right and of the other class:
    # references (2, 0), (2, 0); queries (1.6, 1.2), (0, 2).
    wrong_by = [-2.0, -2.0, -0.4, 2.0]
    entropy = sum(math.log(1 + math.exp(by)) for by in wrong_by) / 4
    assert loss.item() == pytest.approx(0.5 * entropy + 2.0 * 0.7, rel=1e-5)


def test_triplets_that_keep_the_margin_and_views_of_the_same_track_do_not_count():
    assert triplet(torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.9]), margin=0.3).item() == pytest.approx(0.7)
    assert triplet(torch.tensor([0.9]), torch.tensor([0.5]), margin=0.3).item() == 0
    references, queries = F.normalize(torch.randn(3, 2), dim=1), F.normalize(torch.randn(3, 2), dim=1)
    only = ClassObjective(beta=0.0, gamma=1.0, margin=2.0)
    layer = head([[1.0, 0.0]] * 3)
    assert only(references, queries, views([1, 1, 1]), layer).item() == 0
    # Track 1 lies over the first query, which is therefore no negative of the second reference.
    covered = only(references, queries, views([0, 1, 2], covers=[[1], [-1], [-1]]), layer)
    similarities = queries @ references.T
    pairs = [(0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    expected = sum(max(0.0, (similarities[i, j] - similarities[i, i] + 2).item()) for i, j in pairs) / 5
    assert covered.item() == pytest.approx(expected, rel=1e-5)


def step(loss):
    """Similarity of positives before and after a step of plain gradient descent on the fingerprints."""
    torch.manual_seed(0)
    x = torch.randn(8, 16, requires_grad=True)
    y = (x + 0.5 * torch.randn(8, 16)).detach().requires_grad_()

    def positive():
        return F.cosine_similarity(x, y).mean()

    before = positive().item()
    z, w = F.normalize(x, dim=1), F.normalize(y, dim=1)
    similarities = z @ w.T
    others = ~torch.eye(8, dtype=torch.bool)
    loss(similarities.diagonal().unsqueeze(1).expand(8, 8)[others], similarities[others]).backward()
    with torch.no_grad():
        for side in (x, y):
            side -= side.grad
    return before, positive().item()


def test_a_step_brings_positives_together_and_the_released_sign_drives_them_apart():
    before, after = step(lambda positive, negative: triplet(positive, negative, margin=2.0))
    assert after > before
    before, after = step(lambda positive, negative: triplet(negative, positive, margin=2.0))
    assert after < before


@pytest.fixture(scope="module")
def classifying(system):
    """The small system of the tests with a residual network on magnitudes at 22,050 Hz and the class objective."""
    return replace(
        system,
        front_end=ConstantQ(n_fft=2048, bins=24, f_min=220.0, bins_per_octave=6),
        network=ResNetIBN(stem=4, channels=(8, 8), blocks=(1, 1), strides=(1, 2), instance_stages=1, dimensions=8),
        grid=SegmentGrid(sample_rate=22_050, frames=40, step=20, minimum_samples=22_050),
        pairing=Pairing(gain=3.0, transposition=1.0, tempo=(0.9, 1.1)),
        objective=ClassObjective(scale=8.0),
    )


def test_training_goes_on_with_the_class_vectors_where_it_stopped(cache, classifying, tmp_path):
    whole = list(train.train(cache, classifying, tmp_path / "whole"))
    next(train.train(cache, classifying, tmp_path / "left"))
    (rest,) = train.train(cache, classifying, tmp_path / "left")
    assert rest.loss == pytest.approx(whole[1].loss, rel=1e-4)
    ends = [torch.load(tmp_path / name / state.FILE, weights_only=True) for name in ("whole", "left")]
    torch.testing.assert_close(*(end["head"]["weight"] for end in ends), rtol=1e-3, atol=1e-5)
    assert ends[0]["head"]["weight"].shape == (12, 8)  # a vector for each track of the split train


def test_class_vectors_are_learned_but_no_part_of_the_checkpoint(cache, classifying, tmp_path):
    run = train._Run(cache, classifying, tmp_path, torch.device("cpu"))
    before = run.head.weight.detach().clone()
    run.advance()
    assert not torch.equal(run.head.weight, before)
    loaded = checkpoint.load(tmp_path / train.FILE, *KINDS)
    assert loaded.config == classifying
    assert loaded.restore(loaded.config.build()) is not None
    assert not any("head.weight" in name and weight.shape[0] == 12 for name, weight in loaded.weights.items())


def test_a_temperature_that_classes_have_no_use_for_is_refused(cache, changed, tmp_path):
    warmer = changed(RESNET18_IBN_SMALL, schedule={"temperature": 0.1})
    with pytest.raises(ValueError, match="temperature is 0.1, which this training has no use for; leave it away"):
        next(train.train(cache, warmer, tmp_path))


def test_decibel_effects_of_magnitudes_are_refused(classifying):
    with pytest.raises(ValueError, match="ConstantQ has magnitudes; expected mixes=1"):
        replace(classifying, pairing=Pairing(mixes=2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"beta": -1.0}, "beta is -1.0, expected 0 or more"),
        ({"beta": 0.0, "gamma": 0.0}, "one of them above 0"),
        ({"margin": 3.0}, "expected a margin from 0 to 2"),
        ({"scale": 0.0}, "a scale above 0"),
    ],
)
def test_impossible_objectives_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        ClassObjective(**change)

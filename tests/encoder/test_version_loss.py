"""Version loss: equal to the released code with its gradients, and to numbers worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.training.version_loss import loss_of_reduced, version_loss

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews"


def fixture(name):
    if not (FIXTURES / name).is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(FIXTURES / name))


def test_loss_and_gradient_equal_the_released_ones():
    expected = fixture("loss.npz")
    works, tracks = torch.from_numpy(expected["label"]), torch.from_numpy(expected["idx"])
    cases = [key[:-3] for key in expected if key.endswith("__z")]
    assert len(cases) == 12
    for case in cases:
        _, positive, negative = case.split("_")
        embeddings = torch.from_numpy(expected[f"{case}__z"]).requires_grad_()
        loss = version_loss(embeddings, works, tracks, positive=positive, negative=negative)
        loss.total.backward()
        terms = torch.stack([loss.total, *loss]).detach().numpy()
        np.testing.assert_allclose(terms, expected[f"{case}__vals"][:3], rtol=1e-5, atol=1e-12, err_msg=case)
        np.testing.assert_allclose(embeddings.grad, expected[f"{case}__grad"], rtol=0, atol=1e-6, err_msg=case)


def test_loss_of_reduced_distances_equals_the_released_one():
    expected = fixture("loss_from_reduced.npz")
    loss = loss_of_reduced(*(torch.from_numpy(expected[name]) for name in ("dpos", "dneg", "label", "idx")))
    assert loss.align.item() == pytest.approx(expected["align"].item(), abs=1e-5)
    assert loss.uniform.item() == pytest.approx(expected["uniform"].item(), abs=1e-5)


def test_the_terms_are_worked_by_hand():
    works, tracks = torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7])
    near = torch.tensor([[0.0, 0.4, 9.0], [0.6, 0.0, 9.0], [9.0, 9.0, 0.0]])
    far = torch.tensor([[9.0, 9.0, 0.1], [9.0, 9.0, 0.1], [0.1, 0.1, 9.0]])
    loss = loss_of_reduced(near, far, works, tracks)
    assert loss.align.item() == pytest.approx(0.5)  # both orders of the one pair of versions
    assert loss.uniform.item() == pytest.approx(math.log(1e-6 + math.exp(-0.5)) - math.log(1e-6), rel=1e-6)
    assert loss.total.item() == pytest.approx(loss.align.item() + loss.uniform.item())


def test_a_track_drawn_twice_is_neither_its_own_version_nor_foreign():
    works, tracks = torch.tensor([0, 0, 0, 1]), torch.tensor([5, 5, 6, 7])
    near = torch.full((4, 4), 0.5)
    near[0, 1] = near[1, 0] = 100.0
    assert loss_of_reduced(near, torch.ones(4, 4), works, tracks).align.item() == pytest.approx(0.5)


def test_a_batch_of_one_work_has_no_uniformity_and_keeps_its_labels():
    embeddings = torch.randn(3, 4, 8, requires_grad=True)
    works = torch.zeros(3, dtype=torch.int64)
    loss = version_loss(embeddings, works, torch.arange(3))
    loss.total.backward()
    assert loss.uniform.item() == 0
    assert works.tolist() == [0, 0, 0]  # released: two of them are -1 afterwards
    assert embeddings.grad.abs().sum() > 0


def test_works_without_versions_have_no_alignment():
    loss = version_loss(torch.randn(3, 4, 8, requires_grad=True), torch.arange(3), torch.arange(3))
    loss.total.backward()
    assert loss.align.item() == 0


def test_uniformity_stays_exact_and_keeps_its_gradient_at_any_distance():
    far = torch.tensor([[0.0, 40.0], [40.0, 0.0]], requires_grad=True)
    loss = loss_of_reduced(far, far, torch.arange(2), torch.arange(2)).uniform
    loss.backward()
    # exp(-200) / 1e-6 = 1.4e-81 is 0 in single precision; 1.9e-18 at a distance of 11, and 1e-6 away from 1, is not
    assert loss.item() == pytest.approx(0, abs=1e-30)
    far = torch.tensor([[0.0, 11.0], [11.0, 0.0]])
    uniform = loss_of_reduced(far, far, torch.arange(2), torch.arange(2)).uniform
    assert uniform.item() == pytest.approx(math.exp(-55) * 1e6, rel=1e-4)

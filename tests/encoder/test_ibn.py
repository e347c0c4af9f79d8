"""IBN and GeM layers: which half is normalised how, and equality with the released CLEWS layers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.ibn import GeneralisedMean, HalfInstanceNorm

LAYERS = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews" / "layers.npz"


@pytest.fixture(scope="module")
def released():
    if not LAYERS.is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return {name: torch.from_numpy(values) for name, values in np.load(LAYERS).items()}


def test_layers_equal_the_released_ones(released):
    norm = HalfInstanceNorm(6, first="batch").eval()
    torch.testing.assert_close(norm(released["ibn_in"]), released["ibn_out_eval_default"], rtol=0, atol=1e-5)
    pool = GeneralisedMean(above_one=True)
    torch.testing.assert_close(pool.theta.detach(), released["gem_p"].flatten(), rtol=0, atol=1e-6)
    torch.testing.assert_close(pool(released["gem_in"]), released["gem_out"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("first", "instance"), [("batch", slice(2, 5)), ("instance", slice(0, 2))])
def test_the_instance_half_forgets_level_and_colour_and_the_batch_half_does_not(first, instance):
    norm = HalfInstanceNorm(5, first=first).eval()  # an odd channel goes to the second half
    x = torch.randn(2, 5, 8, 9)
    louder = norm(3 * x + 1)
    # Before any training, batch norm in eval mode divides by sqrt(1 + 1e-5) only.
    expected = (3 * x + 1) / math.sqrt(1 + 1e-5)
    expected[:, instance] = norm(x)[:, instance]
    torch.testing.assert_close(louder, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(louder[:, instance].mean(dim=(2, 3)), torch.zeros_like(x[:, instance, 0, 0]))


def test_the_generalised_mean_is_worked_by_hand():
    # cube root of (1 + 8 + 27 + 0) / 4 = cube root of 9; the negative value counts as (nearly) zero
    pooled = GeneralisedMean()(torch.tensor([[[[1.0, 2.0], [3.0, -5.0]]]]))
    assert pooled.shape == (1, 1)
    assert pooled.item() == pytest.approx(9 ** (1 / 3))


def test_the_exponent_starts_as_asked_and_learns():
    for above_one in (False, True):
        pool = GeneralisedMean(exponent=2.5, above_one=above_one)
        assert pool.exponent.item() == pytest.approx(2.5)
        pool(torch.rand(1, 2, 9)).sum().backward()
        assert pool.theta.grad.item() != 0
    with torch.no_grad():
        pool.theta.fill_(-50)
    assert pool.exponent.item() >= 1


def test_impossible_layers_are_refused():
    with pytest.raises(ValueError, match="first is 'both', expected 'batch' or 'instance'"):
        HalfInstanceNorm(4, first="both")
    with pytest.raises(ValueError, match="channels is 1, expected at least 2"):
        HalfInstanceNorm(1, first="batch")
    with pytest.raises(ValueError, match="exponent is 1, expected more than 1"):
        GeneralisedMean(exponent=1, above_one=True)

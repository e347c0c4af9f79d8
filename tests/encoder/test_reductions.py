"""Reductions: equal to the released code where that is right, and to numbers worked by hand where it is not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.reductions import mean_squared_differences, reduce

FIXTURES = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews"
inf = float("inf")


def fixture(name):
    if not (FIXTURES / f"{name}.npz").is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(FIXTURES / f"{name}.npz"))


def recorded(expected):
    """Names of reductions with their recorded values; the released tie-breaking noise of 1e-7 switched off or on."""
    for key, values in expected.items():
        if key.startswith("out_"):
            yield key[4:].removesuffix("|noisy"), values, 5e-7 if key.endswith("|noisy") else 3e-7


def greedy(distances, excluded, count):
    """Pairs without replacement as a plain loop over one pair of tracks."""
    cells, found = np.where(excluded, inf, distances), []
    for _ in range(min(count, *cells.shape)):
        row, column = np.unravel_index(cells.argmin(), cells.shape)
        if cells[row, column] < inf:
            found.append(cells[row, column])
        cells[row], cells[:, column] = inf, inf
    return np.mean(found) if found else inf


@pytest.mark.parametrize("case", ["8x8", "9x7", "1x12"])
def test_reductions_equal_the_released_ones(case):
    expected = fixture(f"redux_{case}")
    for name, values, tolerance in recorded(expected):
        found = reduce(torch.from_numpy(expected["dist"]), name)
        np.testing.assert_allclose(found, values, rtol=0, atol=tolerance, err_msg=name)


def test_masked_reductions_equal_the_released_ones_but_for_fully_masked_candidates():
    expected = fixture("redux_masked")
    gone = expected["mask"].all(axis=(2, 3))
    assert gone.any()
    for name, values, tolerance in recorded(expected):
        found = reduce(torch.from_numpy(expected["dist"]), name, torch.from_numpy(expected["mask"])).numpy()
        np.testing.assert_allclose(found[~gone], values[~gone], rtol=0, atol=tolerance, err_msg=name)
        assert (found[gone] == inf).all(), name  # released: 0, the nearest there can be (min: 1e12, max: -1e12)


def test_masks_of_any_shape_equal_the_released_ones_but_for_meanmin():
    expected = fixture("redux_masked_arbitrary")
    for name, values, tolerance in recorded(expected):
        found = reduce(torch.from_numpy(expected["dist"]), name, torch.from_numpy(expected["mask"]))
        if "meanmin" not in name:
            np.testing.assert_allclose(found, values, rtol=0, atol=tolerance, err_msg=name)


def test_meanmin_weighs_every_row_alike():
    distances = torch.tensor([[1.0, 5.0, 6.0], [4.0, 9.0, 7.0], [0.0, 0.0, 0.0]])
    excluded = torch.tensor([[False, False, False], [False, True, True], [True, True, True]])
    # rows: 1 and 4, the third has no cell -> 2.5; released: rows weigh as many cells as are left, (3 * 1 + 4) / 4
    assert reduce(distances, "meanmin", excluded).item() == 2.5


def test_ties_are_resolved_one_at_a_time():
    tied = torch.tensor([[3.0, 3.0, 9.0], [3.5, 4.0, 5.0], [8.0, 6.0, 7.0]])
    # greedy takes one 3 of the first row, then 3.5 or 4 outside its column; released takes both 3s: 3.667 on average
    assert reduce(tied, "bpwr-2").item() in (3.25, 3.5)
    equal = torch.full((2, 4, 4), 2.0)
    torch.testing.assert_close(reduce(equal, "bpwr"), torch.tensor([2.0, 2.0]))
    all_but_diagonal = torch.eye(4) * 7
    assert reduce(all_but_diagonal, "bpwr-4").item() in (0.0, 7 / 4)  # four zeros, or three and what is left


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5), (1, 6), (23, 31)])
def test_pairs_without_replacement_equal_a_plain_greedy_loop(shape):
    rng = np.random.default_rng(0)
    distances, excluded = rng.random((40, *shape), np.float32), rng.random((40, *shape)) < 0.4
    excluded[3], excluded[4, 1:] = True, True
    for count in (1, 2, 5, 100):
        found = reduce(torch.from_numpy(distances), f"bpwr-{count}", torch.from_numpy(excluded))
        expected = [greedy(d, e, count) for d, e in zip(distances, excluded, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [  # [[1, 2], [3, 8]] with the 8 left out
        ("mean", 2), ("min", 1), ("max", 3), ("meanmin", 2), ("minmean", 1.5), ("best-2", 1.5), ("best-9", 2),
        ("worst-1", 3), ("worst-2", 2.5), ("bpwr-1", 1), ("bpwr", 1), ("sminmean", 1.75), ("smax", 3),
    ],
)  # fmt: skip
def test_every_reduction_is_worked_by_hand(name, value):
    distances = torch.tensor([[1.0, 2.0], [3.0, 8.0]])
    assert reduce(distances, name, distances == 8).item() == pytest.approx(value)


def test_gradient_goes_to_the_chosen_cells_alone():
    expected = fixture("redux_bpwr5_grad")
    distances = torch.from_numpy(expected["dist"]).requires_grad_()
    (reduce(distances, "bpwr-5") * torch.from_numpy(expected["w"])).sum().backward()
    np.testing.assert_allclose(distances.grad, expected["grad"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["mean", "min", "max", "smeanmin", "minmean", "best-3", "worst-3", "bpwr-3"])
def test_excluded_cells_leave_the_gradient_finite(name):
    distances = torch.rand(3, 4, 4, requires_grad=True)
    excluded = torch.zeros(3, 4, 4, dtype=torch.bool)
    excluded[0], excluded[1, 2:] = True, True
    reduce(distances, name, excluded)[1:].sum().backward()
    assert distances.grad.isfinite().all()
    assert (distances.grad[excluded] == 0).all()
    assert distances.grad[1].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["median", "best", "bpwr-0", "best-", "ssmin", "min-3"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=f"no reduction is called '{name}', expected mean, min"):
        reduce(torch.zeros(2, 2), name)


def test_distances_equal_the_released_ones():
    expected = fixture("pairwise_nsqeuc")
    found = mean_squared_differences(torch.from_numpy(expected["x"]), torch.from_numpy(expected["y"]))
    np.testing.assert_allclose(found, expected["nsqeuc"], rtol=0, atol=1e-6)


def test_near_duplicates_keep_their_distance():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(3, 1, (20, 256)).astype(np.float32))  # mean square 10
    y = x + 1e-3 * torch.from_numpy(rng.normal(size=(20, 256)).astype(np.float32))
    exact = (x.double() - y.double()).square().mean(dim=1)
    # about 1e-6; released, in single precision: off by up to 8e-6, two in five are 0
    torch.testing.assert_close(mean_squared_differences(x, y).diagonal().double(), exact, rtol=1e-5, atol=0)

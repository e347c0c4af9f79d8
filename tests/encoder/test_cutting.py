"""Cutting: short samples lie where they were, loop without a seam, and chops change places."""

import numpy as np
import pytest

from encoder.training.cutting import fade, rearranged, shortened

WINDOW = 3968


def short(seed, *, chopped=0.0, samples=6000):
    sample = np.arange(1, samples + 1, dtype=np.float32)  # 1, 2, 3 ...: a value tells its place
    return shortened(np.random.default_rng(seed), sample, window=WINDOW, shortest=800, chopped=chopped)


def test_short_samples_lie_in_the_middle_window_and_half_of_them_are_looped():
    sample = np.arange(1, 6001, dtype=np.float32)  # the window begins at (6000 - 3968) / 2 = 1016
    alone = looped = 0
    for seed in range(200):
        found = short(seed)
        assert len(found) == 6000
        assert found.max() <= 1016 + WINDOW  # nothing from behind the reference view
        if (found != 0).mean() > 0.9:
            looped += 1
        else:
            alone += 1
            heard = np.flatnonzero(found)
            assert (found == sample).sum() >= len(heard) - 2 * 80  # in its place, but for the fades
            assert 800 - 1 <= len(heard) <= WINDOW
    assert 70 < alone < 130
    assert alone + looped == 200


def test_a_loop_begins_anew_where_it_ends_and_passes_through_its_own_place():
    for seed in range(40):
        found = short(seed)
        if (found != 0).mean() <= 0.9:
            continue
        starts = 1 + np.flatnonzero((found[1:] == 0) & (found[:-1] == 0))  # a turn fades out and the next one in
        length = int(np.diff(starts).min())
        assert (np.diff(starts) == length).all()
        # Whole samples within a turn are those of the sample itself in one of the turns.
        turn = next(s for s in starts if s + length <= len(found) and found[s + length // 2] == s + length // 2 + 1)
        assert found[turn + 80 : turn + length - 80].tolist() == list(range(turn + 81, turn + length - 79))


@pytest.mark.parametrize("length", [800, 801, 3967])
def test_chops_are_all_there_in_another_order(length):
    part = np.arange(1, length + 1, dtype=np.float32)
    for seed in range(60):
        chopped = rearranged(np.random.default_rng(seed), part)
        assert len(chopped) == length
        silent = np.pad(chopped == 0, (1, 0), constant_values=True)
        starts = np.flatnonzero(silent[1:] & silent[:-1])  # a chop fades out and the next one in
        assert 2 <= len(starts) <= 4
        middles = [chopped[start + 80 : end - 80] for start, end in zip(starts, [*starts[1:], length])]
        assert all((np.diff(middle) == 1).all() for middle in middles)  # whole between their fades
        assert sorted(int(middle[0]) - 81 for middle in middles)[0] == 0
        assert (np.diff([middle[0] for middle in middles]) < 0).any()


def test_chopping_comes_with_its_probability():
    # Whether the values rise: an unchopped sample that is not looped does, 80 samples from its ends.
    def rises(found):
        heard = found[np.flatnonzero(found)[0] + 80 : np.flatnonzero(found)[-1] - 80]
        return (np.diff(heard) > 0).all()

    alone = [found for found in map(short, range(60)) if (found != 0).mean() <= 0.9]
    assert all(map(rises, alone))
    chopped = [found for found in (short(seed, chopped=1.0) for seed in range(60)) if (found != 0).mean() <= 0.9]
    assert chopped
    assert not any(map(rises, chopped))


def test_a_fade_is_short_even_on_what_is_shorter():
    assert fade(1000)[[0, 80, 919, 999]].tolist() == [0, 1, 1, 0]
    assert len(fade(5)) == 5

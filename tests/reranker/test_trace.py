"""Trace: what is multiplied block by block, between semitones and along lines is what multiplying each would give."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from reranker import trace, warp


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("frames", [12, 13, 40, 200])
def test_pieces_meet_the_frames_at_every_place(frames):
    pieces, asked = noise(3, 12, 5), noise(frames, 5, seed=1)
    found = warp._products(pieces, asked)
    assert found.shape == (3, frames - 11)
    for place in range(frames - 11):
        expected = (pieces * asked[place : place + 12]).sum((1, 2))
        torch.testing.assert_close(found[:, place], expected, atol=1e-4, rtol=1e-4)


def test_transposed_patches_are_compared_as_if_each_had_been_made():
    mine, theirs = noise(2, 3, 8, 20), noise(2, 4, 8, 20, seed=1)
    semitones = np.concatenate([np.linspace(-2.3, 1.7, 9), [-1.0, 0.0, 1.0]])
    for semitone, cosines in zip(semitones, warp._transposed_cosines(mine, theirs, semitones), strict=True):
        moved = warp.transposed(mine, semitone).flatten(2)
        expected = cosine_similarity(moved[:, :, None], theirs.flatten(2)[:, None], dim=3)
        torch.testing.assert_close(cosines, expected, atol=1e-4, rtol=1e-4)


def test_along_a_line_each_frame_meets_the_one_it_leads_to(monkeypatch):
    asking, asked = noise(30, 6), noise(50, 6, seed=1)
    lines, ratio = np.array([-4.5, 0.0, 7.25, 30.0]), 1.1
    found = trace._along(asking, asked, lines, ratio)
    where = torch.from_numpy(lines)[:, None] + torch.arange(30) * ratio
    inside = (where >= 0) & (where <= 49)
    assert torch.equal(found != 0, inside)
    scale = (warp.norm(trace._smooth(e.square().sum(1))) for e in (asking, asked))
    expected = (warp.heard_at(asked, where) * asking).sum(2) / (next(scale) * next(scale).mean())
    torch.testing.assert_close(found, torch.where(inside, expected, 0.0))
    monkeypatch.setattr(trace, "_CELLS", 100)  # two frames of the query at once
    torch.testing.assert_close(trace._along(asking, asked, lines, ratio), found)


def test_means_of_neighbours_are_as_faint_as_is_said():
    frames = noise(4001, 6)
    smooth = (frames[1:] + frames[:-1]) / 2  # neighbours are alike
    for part in (0.0, 0.25, 0.5, 0.9):
        between = torch.lerp(smooth[:-1], smooth[1:], part)
        found = trace._faintness(smooth, torch.tensor(part))
        assert float(found) == pytest.approx(float(between.norm() / smooth[:-1].norm()), rel=0.02)
    assert float(trace._faintness(smooth, torch.tensor(0.5))) < 0.9


@pytest.mark.parametrize("offset", [0, 1])
def test_a_query_may_begin_between_two_frames(offset):
    rng = np.random.default_rng(5)
    fine = (rng.random((1000, 24)) > 0.9) * 255  # half frames
    kernel = np.array([0.25, 0.75, 1.0, 0.75, 0.25])
    fine = np.apply_along_axis(lambda bin: np.convolve(bin, kernel, "same"), 0, fine).clip(0, 255).astype(np.uint8)
    reference, query = fine[::2], fine[200 + offset : 600 : 2]
    rough = warp.Warp(tempo_ratio=1.0, transposition=0.0)
    how = {"piece": 16, "tempo_step": 0.06, "seconds": 1.0}
    finer, found = trace.retrace(query, reference, *trace.trace(query, reference, rough, **how), **how)
    assert finer.tempo_ratio == pytest.approx(1.0, abs=0.002)
    (place,) = found
    assert place.query_span == pytest.approx((0, 200), abs=2)
    assert place.reference_span[0] - place.query_span[0] == pytest.approx(100 + offset / 2, abs=0.3)
    assert place.likeness > 0.85

"""Effects: loudness is kept, tanh bends, rooms ring and decay, and nothing happens where nothing is asked for."""

import numpy as np
import pytest
import torch

from encoder.training import effects
from encoder.training.pairing import Pairing

RATE = 16_000


def tone(seconds=1.0, level=0.1):
    return level * torch.sin(2 * torch.pi * 500 * torch.arange(round(seconds * RATE)) / RATE)


def rms(x):
    return x.square().mean(-1).sqrt()


def settings(drive, decay, wet=1.0):
    """The same for every pair; lists where it differs."""
    values = np.broadcast_arrays(*(np.array(v, np.float32) for v in (drive, decay, wet)))
    return effects.Effects(*values, seeds=np.arange(len(values[0])))


def test_saturation_keeps_the_loudness_and_adds_odd_harmonics():
    for level in (0.001, 0.1):
        bent = effects.saturated(tone(level=level), 2.0)
        assert rms(bent).item() == pytest.approx(rms(tone(level=level)).item(), rel=1e-4)
        spectrum = torch.fft.rfft(bent).abs()  # bins of 1 Hz
        assert spectrum[1500] > 0.1 * spectrum[500]  # the third harmonic
        assert spectrum[1000] < 1e-3 * spectrum[500]  # no second: tanh is odd
    assert torch.equal(effects.saturated(torch.zeros(100), 2.0), torch.zeros(100))


def test_a_room_rings_on_and_falls_by_60_db_in_its_time():
    click = torch.zeros(2, RATE)
    click[:, 0] = 1
    noise = torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    wet = effects.reverberated(click, torch.tensor([0.5, 0.2]), torch.ones(2), noise, sample_rate=RATE)
    for room, decay in zip(wet, (0.5, 0.2)):
        early, late = (rms(room[round(t * RATE) + 1 :][:800]) for t in (0.05, 0.05 + decay / 2))
        assert 20 * torch.log10(late / early).item() == pytest.approx(-30, abs=1)
        assert rms(room).item() == pytest.approx(rms(click[0]).item(), rel=1e-4)


def test_the_room_is_a_plain_convolution():
    rng = torch.Generator().manual_seed(1)
    sample, noise = torch.randn(1, 300, generator=rng), torch.randn(1, 50, generator=rng)
    decay, wet = torch.tensor([0.004]), torch.tensor([0.5])
    response = noise[0].double() * 10 ** (-3 * torch.arange(50) / RATE / 0.004)
    response /= response.square().sum().sqrt()
    x = sample[0].double()
    room = torch.stack([sum(response[k] * x[n - k] for k in range(min(50, n + 1))) for n in range(300)])
    expected = x + 0.5 * room
    expected *= rms(x) / rms(expected)
    found = effects.reverberated(sample, decay, wet, noise, sample_rate=RATE)[0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_only_the_chosen_pairs_are_changed_and_none_where_nothing_is_asked_for():
    samples = torch.stack([tone()] * 4)
    untouched = samples.clone()
    changed = effects.applied(samples, settings([0, 1, 0, 1], [0, 0, 0.3, 0.3]), sample_rate=RATE)
    assert torch.equal(samples, untouched)
    assert torch.equal(changed[0], samples[0])
    assert all((changed[i] - samples[i]).abs().max() > 0.005 for i in (1, 2, 3))
    torch.testing.assert_close(rms(changed), rms(samples), rtol=1e-3, atol=0)
    assert effects.applied(samples, settings([0] * 4, 0), sample_rate=RATE) is samples


def test_effects_come_with_their_probability():
    drawn = effects.draw(np.random.default_rng(0), Pairing(saturation=0.3, reverb=0.1), 2000)
    assert (drawn.drive > 0).mean() == pytest.approx(0.3, abs=0.04)
    assert (drawn.decay > 0).mean() == pytest.approx(0.1, abs=0.03)
    assert drawn.decay.max() <= 1  # the longest that reverberates is as long as the noise
    none = effects.draw(np.random.default_rng(0), Pairing(), 100)
    assert not none.drive.any()
    assert not none.decay.any()

"""Constant-Q front end: equal to nnAudio's transform, and a tone stands where its pitch says."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoder.constant_q import ConstantQ

FIXTURE = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "clews" / "cqt_frontend_20s.npz"
RATE = 16_000


@pytest.fixture(scope="module")
def recorded():
    if not FIXTURE.is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(FIXTURE))


@pytest.fixture(scope="module")
def front_end():
    return ConstantQ().build(sample_rate=RATE, frame_hop=320)


def padded(wave, margin=8192):
    return F.pad(torch.from_numpy(wave).view(1, 1, -1), (margin, margin), mode="reflect")[0]


def tone(frequency, seconds=2.0, rate=RATE):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def test_magnitudes_equal_the_released_front_end(front_end, recorded):
    wave = padded(recorded["wave_int16"].astype(np.float32) / 2**15)
    np.testing.assert_allclose(front_end(wave)[0], recorded["cqt_raw"], rtol=0, atol=1e-5)
    pooled = ConstantQ(pool=5).build(sample_rate=RATE, frame_hop=1600)
    np.testing.assert_allclose(pooled(wave)[0], recorded["cqt_pool5"], rtol=0, atol=1e-5)


def test_kernels_equal_the_released_ones(front_end, recorded):
    np.testing.assert_allclose(ConstantQ().frequencies(), recorded["freqs"], rtol=1e-12)
    np.testing.assert_array_equal(front_end.lengths(), recorded["lengths"])
    kernels = front_end.kernels() / np.sqrt(front_end.lengths())[:, None]
    np.testing.assert_allclose(kernels[0].real, recorded["kernel_bin0_real"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(kernels[83].real, recorded["kernel_bin83_real"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(kernels[83].imag, recorded["kernel_bin83_imag"], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("rate", "hop"), [(16_000, 320), (22_050, 512)])
@pytest.mark.parametrize("bin", [0, 33, 83])
def test_a_tone_peaks_in_its_bin_at_half_the_root_of_its_kernel(rate, hop, bin):
    built = ConstantQ().build(sample_rate=rate, frame_hop=hop)
    spectrum = built(padded(tone(32.70 * 2 ** (bin / 12), rate=rate)))[0]
    middle = spectrum[:, spectrum.shape[1] // 2]
    assert middle.argmax() == bin
    # sine = half a complex tone, kernel of unit L1 norm, times the square root of its length
    assert middle[bin].item() == pytest.approx(np.sqrt(built.lengths()[bin]) / 2, rel=0.02)


def test_splitting_octaves_and_rows_changes_nothing(front_end):
    wave = padded(np.random.default_rng(0).normal(size=(300 * 320)).astype(np.float32)).repeat(2, 1)  # 600 rows
    kernels = torch.from_numpy(front_end.kernels()).to(torch.complex64)
    direct = (wave[0].unfold(0, 16_384, 320)[::50].to(torch.complex64) @ kernels.T).abs().T
    for item in front_end(wave):
        torch.testing.assert_close(item[:, ::50], direct, rtol=0, atol=2e-4)


def test_a_tone_played_faster_and_higher_is_read_so(front_end):
    time = np.arange(4 * RATE) / RATE
    rising = np.sin(2 * np.pi * (200 * time + 25 * time**2)).astype(np.float32)  # 200 Hz and 50 Hz more a second
    faster = np.sin(2 * np.pi * 2 ** (3 / 12) * (200 * time + 25 * 1.25 * time**2)).astype(np.float32)
    wave, expected = padded(rising), front_end(padded(faster))[:, :, 10:140]
    read = front_end.warped(wave, tempo=torch.tensor([1.25]), transposition=torch.tensor([3.0]), frames=150)
    read = read[:, :, 10:140] * np.sqrt(2 ** (-3 / 12))  # kernels are longer by as much as pitch rose
    loud = expected > 5
    assert loud.sum() > 100
    assert (read - expected)[loud].abs().median() < 0.05 * expected[loud].median()


def test_without_change_warped_is_the_plain_front_end():
    front_end = ConstantQ(pool=5).build(sample_rate=RATE, frame_hop=1600)
    wave = padded(np.random.default_rng(0).normal(size=32_000).astype(np.float32)).repeat(2, 1)
    read = front_end.warped(wave, tempo=torch.ones(2), transposition=torch.zeros(2), frames=20)
    torch.testing.assert_close(read, front_end(wave))


def test_impossible_front_ends_are_refused(front_end):
    with pytest.raises(ValueError, match="pool is 0, expected more than 0"):
        ConstantQ(pool=0)
    with pytest.raises(ValueError, match=r"frame_hop is 512, expected a multiple of pool \(5\)"):
        ConstantQ(pool=5).build(sample_rate=RATE, frame_hop=512)
    with pytest.raises(ValueError, match="highest bin is at 3951 Hz, expected at most half of 7000 Hz"):
        ConstantQ().build(sample_rate=7000, frame_hop=320)
    with pytest.raises(ValueError, match=r"the lowest bin needs 8229 samples, expected at most n_fft \(8192\)"):
        ConstantQ(n_fft=8192).build(sample_rate=RATE, frame_hop=320)
    with pytest.raises(ValueError, match="warped needs 19904 samples, got 17000"):
        front_end.warped(torch.zeros(1, 17_000), tempo=torch.ones(1), transposition=torch.zeros(1), frames=12)

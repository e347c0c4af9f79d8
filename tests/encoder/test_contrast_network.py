"""Contrast network: untrained it is the plain contrast; what it learns still moves with pitch and time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder import contrast
from encoder.contrast import Contrast
from encoder.contrast_network import ContrastNetwork, LearnedContrast, on_grids

SMALL = LearnedContrast(channels=4, dilations=((1, 1), (2, 1)))


def network(*, seed=None):
    built = ContrastNetwork(SMALL, Contrast(), bins=128).eval()
    if seed is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter in built.last.parameters():
                torch.nn.init.normal_(parameter, std=0.5)
    return built


def spectrum(*, frames=200, seed=0):
    return torch.randn(128, frames, generator=torch.Generator().manual_seed(seed)) * 5 - 40


def test_untrained_it_gives_the_plain_contrast():
    found, plain = network().features(spectrum(frames=201)), contrast.features(spectrum(frames=201))
    assert found.dtype == np.uint8
    assert found.shape == (100, 85)
    assert np.abs(found.astype(int) - plain).max() <= 1  # sums in another order


def test_what_it_has_learned_changes_the_features_and_stays_positive():
    values = network(seed=1)(spectrum()[None])
    assert values.shape == (1, 85, 100)
    assert values.min() >= 0
    assert (values - network()(spectrum()[None])).abs().max() > 0.1


def test_features_move_with_time_and_pitch():
    trained, sound = network(seed=1), torch.full((128, 240), -60.0)
    sound[40:80, 60:180] = spectrum(frames=120, seed=2)[40:80] + 20
    features = trained.features(sound).astype(int)
    later = trained.features(torch.roll(sound, 8, dims=1)).astype(int)  # 8 frames of the spectrum are 4 of features
    higher = trained.features(torch.roll(sound, 18, dims=0)).astype(int)  # 18 bins are an octave
    assert np.abs(later[30:90] - features[26:86]).max() <= 2
    assert np.abs(higher[30:90, 32:70] - features[30:90, 20:58]).max() <= 2


def test_norms_folded_into_convolutions_leave_the_features_as_they_are():
    trained, generator = network(seed=1), torch.Generator().manual_seed(3)
    for norm in (module for module in trained.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    folded = trained.folded()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(spectrum()[None]), trained(spectrum()[None]), atol=1e-4)
    assert isinstance(trained.norm, torch.nn.BatchNorm2d)  # the original can be trained on


def with_strokes():
    strokes = Contrast(bins=3, bins_per_octave=4, frame=0.016)
    built = ContrastNetwork(replace(SMALL, strokes=True), Contrast(), bins=128, strokes=strokes).eval()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for parameter in built.last.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return built


def test_short_windows_are_seen_in_order_of_time_and_move_with_it():
    network, spectra = with_strokes(), torch.full((1, 128 + 2 * 28, 60), -60.0)
    spectra[0, 128 + 2 * 10 + 1, 31] = -20  # the later short window of frame 31: band 10 is semitone 30
    cells = network._cells(spectra)[0]  # signed, positive of bins; then of the earlier and of the later short windows
    assert cells.shape == (12, 85, 30)
    assert cells[:4].abs().max() == 0
    loudest = cells[4:].flatten().argmax().item()
    channel, semitone, frame = np.unravel_index(loudest, cells[4:].shape)
    # Of four channels of later ones, the first of a frame of 64 ms is frame 30, the second frame 31.
    assert (channel, semitone, frame) in {(5, 30, 15), (7, 30, 15)}
    later = torch.roll(spectra, 8, dims=2)
    assert torch.allclose(network(later)[..., 14:], network(spectra)[..., 10:-4], atol=1e-4)


def test_without_what_short_windows_say_it_hears_the_bins_alone():
    silent = torch.full((1, 128 + 2 * 28, 60), -60.0)
    silent[:, :128] = spectrum(frames=60)
    network = with_strokes()
    network.first.weight.data[:, 4:] = 0
    spoken = silent.clone()
    spoken[:, 128:] = torch.randn(1, 56, 60)
    assert torch.equal(network(silent), network(spoken))


@pytest.mark.parametrize("dilation", [(1, 1), (6, 1), (1, 2), (3, 2)])
def test_a_dilated_convolution_is_a_plain_one_on_each_grid(dilation):
    convolution = torch.nn.Conv2d(3, 4, (5, 3), padding=(2 * dilation[0], dilation[1]), dilation=dilation, bias=False)
    x = torch.randn(2, 3, 13, 7, generator=torch.Generator().manual_seed(4))  # no multiple of any dilation
    assert torch.allclose(on_grids(convolution, x), convolution(x), atol=1e-5)


def test_less_than_a_pool_gives_no_frames():
    assert network().features(spectrum(frames=1)).shape == (0, 85)


def test_sizes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="0 channels in 4 blocks, expected 1 or more"):
        LearnedContrast(channels=0)

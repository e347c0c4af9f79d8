"""Short windows: rows under the bins that tell strokes apart, from the front end to a fingerprint."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder import checkpoint
from encoder.contrast_network import LearnedContrast
from encoder.encode import Encoder
from encoder.spectrogram import FrontEnd, LogFrequency
from encoder.training import train

RATE = 16_000
SHORT = LogFrequency(n_fft=512, bins=20, bins_per_octave=4)
BOTH = LogFrequency(short=SHORT)


@pytest.fixture(scope="module")
def sharp(system):
    """The small system with short windows and learned contrast."""
    front_end = replace(system.front_end, bins_per_octave=18, short=SHORT)
    network = replace(system.network, short=(4, 6))
    return replace(system, front_end=front_end, network=network, contrast=LearnedContrast(channels=4))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_bins_stay_and_the_short_windows_lie_a_quarter_of_a_hop_before_and_after_the_middle():
    audio = noise(2, 20_000)
    found, plain = FrontEnd(BOTH)(audio), FrontEnd(LogFrequency())(audio)
    assert found.shape == (2, 128 + 2 * 20, plain.shape[2])
    torch.testing.assert_close(found[:, :128], plain)
    # The middle of frame 0 is sample 1024, a quarter of a hop 128: windows of 512 from 640 and from 896 on
    for row, start in ((0, 640), (1, 896)):
        torch.testing.assert_close(found[:, 128 + row :: 2], FrontEnd(SHORT)(audio[:, start:])[..., : found.shape[2]])


def test_every_row_has_its_frequency():
    centres = BOTH.centres()
    assert len(centres) == BOTH.rows == 168
    assert centres[:2].tolist() == pytest.approx([55, 55 * 2 ** (1 / 18)])
    assert centres[128:132].tolist() == pytest.approx([55, 55, 55 * 2**0.25, 55 * 2**0.25])


def test_without_change_the_warped_spectrum_is_the_plain_one():
    front_end, audio = FrontEnd(BOTH), noise(2, 40_000)
    plain = front_end(audio)
    warped = front_end.warped(audio, tempo=torch.ones(2), transposition=torch.zeros(2), frames=plain.shape[2])
    torch.testing.assert_close(warped, plain, rtol=0, atol=1e-3)


def test_two_strokes_16_ms_apart_are_two_at_any_tempo():
    clicks, front_end = torch.zeros(1, 60_000), FrontEnd(BOTH)
    clicks[0, [20_000, 20_000 + 400]] = 1.0
    for tempo in (0.8, 1.25):
        # At that tempo they are 400 / tempo samples apart, 25 ms / tempo
        rows = front_end.warped(clicks, tempo=torch.tensor([tempo]), transposition=torch.zeros(1), frames=60)[0]
        pairs = rows[128:].unflatten(0, (20, 2)).amax(0).T.flatten()  # windows in the order of time
        middles = (20_000 - 1024 + 128 * tempo) / (256 * tempo), (20_400 - 1024 + 128 * tempo) / (256 * tempo)
        loud = (pairs > pairs.max() - 6).nonzero().flatten().float()
        assert loud.min() == pytest.approx(middles[0], abs=1)
        assert loud.max() == pytest.approx(middles[1], abs=1)


def test_before_training_short_windows_change_no_fingerprint_and_then_they_do(sharp):
    network, spectra = sharp.build().eval(), 10 * noise(3, sharp.rows, 32)
    other = spectra.clone()
    other[:, 36:] = 10 * noise(3, 40, 32, seed=1)
    assert torch.equal(network(spectra).fingerprints, network(other).fingerprints)
    torch.nn.init.normal_(network.short.last.weight)
    nodes = [network(x).node_matrices.unflatten(1, network.cells) for x in (spectra, other)]
    assert not torch.allclose(*nodes)
    added = nodes[0] - nodes[1]  # the same in every band of a time cell
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=0, atol=1e-5)


def test_training_goes_on_from_a_network_without_them(cache, system, sharp, saved, tmp_path):
    plain = replace(sharp, contrast=None)
    run = train._Run(cache, plain, tmp_path, torch.device("cpu"))
    run.begin_with(saved)
    spectra, before = 10 * noise(3, plain.rows, 32), checkpoint.load(saved, *train.KINDS).restore(system.build())
    torch.testing.assert_close(run.network.eval()(spectra).fingerprints, before(spectra[:, :36]).fingerprints)
    list(train.train(cache, plain, tmp_path, start=saved))
    trained = Encoder(tmp_path / train.FILE)
    assert trained.network.short.last.weight.abs().max() > 0


def test_an_encoder_makes_segments_and_contrast_of_them(sharp, tmp_path):
    checkpoint.save(tmp_path / "sharp.safetensors", sharp, sharp.build(), provenance={})
    encoder = Encoder(tmp_path / "sharp.safetensors")
    found = encoder.encode_waveform(0.3 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32))
    assert found.fingerprints.shape == (16, 16)  # 157 frames: (157 - 32) // 8 + 1
    assert found.contrast.shape[2] == 24  # semitones of 36 bins, 18 an octave
    spectrum, rows = next(encoder.contrast_stream([np.zeros(2 * RATE, np.float32)]))
    assert spectrum.shape[0] == 36
    assert rows.shape[2] == 24


def test_short_windows_in_one_of_front_end_and_network_are_refused(system, sharp):
    for half in ({"front_end": sharp.front_end}, {"network": sharp.network}):
        with pytest.raises(ValueError, match="short windows in only one of front end and network"):
            replace(system, **half)
    with pytest.raises(ValueError, match="short windows of 512 samples, expected at most half of 1000"):
        LogFrequency(n_fft=1000, short=SHORT)

"""Front ends: the published log-mel to the decibel, and what a change of tempo and pitch does to both."""

import numpy as np
import pytest
import torch

from encoder import torchaudio_cpu
from encoder.segments import SegmentGrid, blocks
from encoder.spectrogram import FrontEnd, LogFrequency, LogMel

GRID = SegmentGrid()


def tone(hertz, *, seconds=4.096, rate=16_000):
    return torch.sin(2 * np.pi * hertz * torch.arange(int(seconds * rate)) / rate)


def segment_spectra(audio, *, size=256, chunk=None):
    """(segments, bins, frames) of mono audio (samples,), read in chunks and cut in blocks of `size` segments."""
    front_end = FrontEnd(LogMel())
    chunks = [audio] if chunk is None else [audio[i : i + chunk] for i in range(0, len(audio), chunk)]
    parts = []
    for block in blocks(chunks, GRID, front_end.config.n_fft, size=size):
        frames = front_end(torch.from_numpy(block.samples).unsqueeze(0))[0]
        parts.append(frames.unfold(1, GRID.frames, GRID.step).transpose(0, 1))
        assert len(parts[-1]) == block.segments
    return torch.cat(parts).numpy()


def expected_segments(full):
    """(segments, 64, 128) from the log-mel of the whole file (64, frames): every 16 frames, as far as they fill 128."""
    return np.stack([full[:, i : i + 128] for i in range(0, full.shape[1] - 127, 16)])


def test_segments_equal_the_released_front_end(outputs):
    recorded = outputs("frontend")
    names = [name.removeprefix("audio_") for name in recorded if name.startswith("audio_")]
    assert names
    for name in names:
        full = recorded.get(f"logmel_full_{name}")
        expected = recorded["segments_5s"] if full is None else expected_segments(full)
        found = segment_spectra(recorded[f"audio_{name}"])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("size", "chunk"), [(1, 16_000), (3, 1000), (2, 65_281)])
def test_blocks_and_chunks_of_any_size_give_the_same_segments(size, chunk):
    audio = np.random.default_rng(0).standard_normal(120_000).astype(np.float32)
    # 120000 // 512 + 1 = 235 frames; (235 - 128) // 16 + 1 = 7 segments
    whole = segment_spectra(audio)
    assert len(whole) == 7
    np.testing.assert_allclose(segment_spectra(audio, size=size, chunk=chunk), whole, rtol=0, atol=1e-4)


def test_log_mel_equals_torchaudio():
    torchaudio = torchaudio_cpu.load()
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=1024, hop_length=512, n_mels=64)
    audio = 0.1 * torch.randn(2, 70_000, generator=torch.Generator().manual_seed(0))
    expected = torchaudio.transforms.AmplitudeToDB()(mel(audio))
    padded = torch.nn.functional.pad(audio.unsqueeze(1), (512, 512), mode="reflect").squeeze(1)
    torch.testing.assert_close(FrontEnd(LogMel())(padded), expected, rtol=0, atol=1e-4)


def test_digital_silence_is_the_floor():
    # 10 log10(1e-10) and 20 log10(1e-5): both -100 dB
    for config in (LogMel(), LogFrequency()):
        spectrum = FrontEnd(config)(torch.zeros(1, 8192))
        torch.testing.assert_close(spectrum, torch.full_like(spectrum, -100.0))


@pytest.mark.parametrize(("octave", "position"), [(0, 54), (1, 72), (2, 90)])
def test_an_octave_is_a_shift_by_eighteen_bins_of_the_log_frequency_front_end(octave, position):
    # 440 Hz is three octaves over 55 Hz: bin 3 x 18 = 54
    spectrum = FrontEnd(LogFrequency())(tone(440.0 * 2**octave).unsqueeze(0))[0]
    assert spectrum.mean(dim=1).argmax() == position


@pytest.mark.parametrize("config", [LogMel(), LogFrequency()])
def test_without_change_the_warped_spectrum_is_the_plain_one(config):
    front_end = FrontEnd(config)
    audio = torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    plain = front_end(audio)
    warped = front_end.warped(audio, tempo=torch.ones(2), transposition=torch.zeros(2), frames=plain.shape[2])
    torch.testing.assert_close(warped, plain, rtol=0, atol=1e-3)


def test_a_transposed_tone_has_the_spectrum_of_the_higher_tone():
    front_end = FrontEnd(LogFrequency())
    options = {"tempo": torch.ones(1), "frames": 40}
    warped = front_end.warped(tone(440).unsqueeze(0), transposition=torch.tensor([3.0]), **options)[0]
    higher = front_end(tone(440 * 2 ** (3 / 12)).unsqueeze(0))[0, :, :40]
    # 3 semitones are 4.5 bins: the peak moves from 54 to 58.5
    assert warped.mean(dim=1).argmax() in (58, 59)
    loud = higher > higher.max() - 20
    assert (warped - higher)[loud].abs().max() < 1.5


def test_a_faster_tempo_brings_a_late_event_forward():
    audio = torch.zeros(1, 65_536)
    audio[0, 40_000:] = tone(440)[:25_536]
    options = {"transposition": torch.zeros(1), "frames": 80}
    onsets = []
    for tempo in (1.0, 1.25):
        warped = FrontEnd(LogMel()).warped(audio, tempo=torch.tensor([tempo]), **options)[0]
        onsets.append((warped.amax(dim=0) > -20).nonzero().min().item())
    # The tone enters a frame once its window reaches sample 40000: (40000 - 1024) / (512 x tempo) = 76.1 and 60.9
    assert onsets == [77, 61]


def test_warping_refuses_audio_that_is_too_short():
    # 39 steps of 512 x 2 samples and one window of 1024
    with pytest.raises(ValueError, match="warped needs 40960 samples, got 40000"):
        FrontEnd(LogMel()).warped(
            torch.zeros(1, 40_000), tempo=torch.tensor([2.0]), transposition=torch.zeros(1), frames=40
        )

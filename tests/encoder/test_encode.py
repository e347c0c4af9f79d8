"""Encoding: a file of any kind becomes fingerprints of norm 1 on the hop grid, and silence becomes none."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from encoder import audio, segments
from encoder.audio import AudioError
from encoder.encode import Encoder
from encoder.encoding import Encoding, join

RATE = 16_000


@pytest.fixture(scope="module")
def encoder(saved):
    return Encoder(saved, batch=8)


def music(seconds, seed=0):
    """A new note every quarter of a second."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 4) / RATE
    notes = [np.sin(2 * np.pi * 110 * 2 ** (rng.integers(0, 36) / 12) * time) for _ in range(int(4 * seconds))]
    return (0.3 * np.concatenate(notes)).astype(np.float32)


def test_an_encoder_says_what_it_makes(encoder, system):
    assert (encoder.nodes, encoder.channels, encoder.dimensions) == (20, 16, 16)
    assert encoder.grid == system.grid
    assert len(encoder.digest) == 64
    assert encoder.provenance == {"made": "by a test"}


def test_encoding_leaves_the_random_state_alone(encoder):
    before = torch.get_rng_state()
    encoder.encode_waveform(np.zeros(2 * RATE, np.float32))
    encoder.encode_waveform(music(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_track_has_one_fingerprint_of_norm_1_per_segment(encoder):
    found = encoder.encode_waveform(music(10))
    # 160000 // 512 + 1 = 313 frames; (313 - 32) // 8 + 1 = 36 segments
    assert found.segment_indices.tolist() == list(range(36))
    assert found.node_matrices.shape == (36, 20, 16)
    assert found.node_matrices.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(found.fingerprints, axis=1), 1, atol=1e-5)
    # 8 frames of 0.032 s
    np.testing.assert_allclose(found.starts, 0.256 * np.arange(36))
    assert found.segment_duration == pytest.approx(1.024)


def test_blocks_of_any_size_equal_the_whole(encoder, monkeypatch):
    waveform = music(20)
    whole = encoder.encode_waveform(waveform)
    cut = segments.blocks
    monkeypatch.setattr(segments, "blocks", lambda chunks, grid, n_fft: cut(chunks, grid, n_fft, size=5))
    parts = list(encoder.encode_stream(waveform[i : i + 7000] for i in range(0, len(waveform), 7000)))
    assert len(parts) == -(-len(whole) // 5)
    joined = join(parts)
    np.testing.assert_array_equal(joined.segment_indices, whole.segment_indices)
    np.testing.assert_allclose(joined.fingerprints, whole.fingerprints, atol=1e-4)
    np.testing.assert_allclose(joined.node_matrices, whole.node_matrices, atol=2e-2)


def test_a_file_is_encoded_like_its_waveform(encoder, tmp_path):
    soundfile.write(tmp_path / "a.flac", music(5), RATE, subtype="PCM_24")
    found = encoder.encode(tmp_path / "a.flac")
    np.testing.assert_allclose(found.fingerprints, encoder.encode_waveform(music(5)).fingerprints, atol=1e-3)
    assert sum(len(block) for block in encoder.blocks(tmp_path / "a.flac")) == len(found)


def test_a_segment_depends_on_what_is_under_it_alone(encoder):
    waveform = music(6)
    other = np.concatenate([waveform[: 3 * RATE], 2 * music(3, seed=9)])
    ours, theirs = encoder.encode_waveform(waveform), encoder.encode_waveform(other)
    # Segment i ends at 0.256 i + 1.024 s and half a window (0.064 s): 7 segments end before 3 s.
    np.testing.assert_allclose(ours.fingerprints[:7], theirs.fingerprints[:7], atol=1e-5)
    assert np.abs(ours.fingerprints[-1] - theirs.fingerprints[-1]).max() > 1e-3


@pytest.mark.parametrize("seconds", [0.5, 1.0, 60.0, 90.0])
def test_silence_has_no_segments(encoder, seconds):
    found = encoder.encode_waveform(np.zeros(int(seconds * RATE), np.float32))
    assert len(found) == 0
    assert found.fingerprints.shape == (0, 16)
    assert found.node_matrices.shape == (0, 20, 16)


def test_noise_under_minus_70_decibels_counts_as_silence(encoder):
    hiss = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert len(encoder.encode_waveform(2e-4 * hiss)) == 0
    assert len(encoder.encode_waveform(4e-4 * hiss)) > 0


def test_a_silent_part_leaves_a_gap_and_no_nan(encoder):
    found = encoder.encode_waveform(np.concatenate([music(3), np.zeros(5 * RATE, np.float32), music(3)]))
    # (11 * 16000 // 512 + 1 - 32) // 8 + 1 = 40 segments. With half a window (0.064 s) around it, segment i hears
    # 0.256 i - 0.064 to 0.256 i + 1.056 s: silent from i = 12 (3.008) to 27 (6.912 + 1.056 = 7.968).
    assert found.segment_indices.tolist() == [*range(12), *range(28, 40)]
    assert np.isfinite(found.fingerprints).all()
    assert np.isfinite(found.node_matrices).all()


def test_a_long_silence_between_blocks_yields_an_empty_block(encoder):
    waveform = np.concatenate([music(70), np.zeros(140 * RATE, np.float32), music(10)])
    parts = list(encoder.encode_stream([waveform]))
    assert [len(part) > 0 for part in parts] == [True, True, False, True]
    whole = join(parts)
    assert np.diff(whole.segment_indices).max() > 500
    assert whole.segment_indices[-1] == encoder.grid.count(len(waveform)) - 1


def test_less_than_a_segment_is_padded_to_one(encoder, tmp_path):
    soundfile.write(tmp_path / "short.wav", music(0.5), RATE)
    short = encoder.encode(tmp_path / "short.wav")
    assert (short.segment_indices.tolist(), short.duration) == ([0], 0.5)


def test_what_pads_a_short_file_is_not_heard_but_for_the_end_of_a_piece(encoder, tmp_path):
    soundfile.write(tmp_path / "short.wav", music(0.5), RATE)
    short = encoder.encode(tmp_path / "short.wav")
    whole = slice(0, len(short.contrast))
    assert len(short.features) == 16  # 64 ms each
    for piece, heard in ((2, 8), (3, 9), (5, 10), (32, 16)):  # 7.8 are filled
        np.testing.assert_array_equal(short.heard(whole, piece=piece), short.features[:heard])
    assert len(replace(short, duration=0.0).heard(whole, piece=2)) == 16  # nobody knows


def test_node_matrices_may_be_left_out(encoder, tmp_path):
    soundfile.write(tmp_path / "a.wav", music(5), RATE)
    whole, light = (encoder.encode(tmp_path / "a.wav", node_matrices=wanted) for wanted in (True, False))
    assert light.node_matrices.shape == (len(whole), 0, 0)
    np.testing.assert_array_equal(light.fingerprints, whole.fingerprints)
    assert (light.duration, whole.duration) == (5.0, 5.0)


def test_samples_that_are_not_finite_are_refused(encoder, tmp_path):
    waveform = music(2)
    waveform[100] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        encoder.encode_waveform(waveform)
    soundfile.write(tmp_path / "nan.wav", waveform, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="1 samples are NaN"):
        encoder.encode(tmp_path / "nan.wav")


def test_a_file_is_refused_before_anything_is_encoded(encoder, tmp_path):
    soundfile.write(tmp_path / "short.wav", music(0.25), RATE)
    with pytest.raises(AudioError, match="lasts 0.25 s"):
        next(encoder.blocks(tmp_path / "short.wav"))
    with pytest.raises(AudioError, match="no such file"):
        encoder.encode(tmp_path / "nowhere.wav")


def test_full_scale_noise_after_silence_does_not_blur_the_levels(encoder):
    loud = np.random.default_rng(0).uniform(-1, 1, 30 * RATE).astype(np.float32)
    found = encoder.encode_waveform(np.concatenate([loud, np.zeros(30 * RATE, np.float32)]))
    assert found.segment_indices[-1] == 117  # 117 * 0.256 - 0.064 = 29.888 s, the next begins at 30.144 s


def test_the_rows_of_an_encoding_must_agree():
    with pytest.raises(ValueError, match=r"must agree, got .* = \(2, 1, 2\)"):
        Encoding(
            segment_indices=np.arange(2),
            fingerprints=np.ones((1, 4), np.float32),
            node_matrices=np.ones((2, 3, 4), np.float16),
            hop=0.5,
            segment_duration=4.0,
        )
    with pytest.raises(ValueError, match="no blocks to join"):
        join([])


def test_audio_is_asked_for_at_the_rate_of_the_grid(encoder, tmp_path, monkeypatch):
    asked, stream = [], audio.stream
    monkeypatch.setattr(audio, "stream", lambda path, sample_rate, limits: asked.append(sample_rate) or stream(path))
    soundfile.write(tmp_path / "a.wav", music(1), RATE)
    encoder.encode(tmp_path / "a.wav")
    assert asked == [RATE]


def test_contrast_features_run_from_the_first_hop_to_the_last_frame():
    encoder = Encoder()  # the shipped one, whose front end is log-frequency: 8 frames of 64 ms a hop, 85 semitones
    found = encoder.encode_waveform(music(20))
    # 20 s are 626 frames of 32 ms; the windows of 32 segments end at frame 31 * 16 + 128 = 624.
    assert len(found) == 32
    assert found.contrast.shape == (39, 8, 85)
    assert found.features.shape == (312, 85)
    assert found.features.any(axis=1).mean() > 0.9


def test_blocks_share_out_the_hops_of_a_track(monkeypatch):
    encoder, wave = Encoder(), music(30)
    whole = encoder.encode_waveform(wave)
    cut = segments.blocks
    monkeypatch.setattr(segments, "blocks", lambda *args: cut(*args, size=20))
    parts = list(encoder.encode_stream([wave]))
    assert [(part.first_hop, len(part.contrast)) for part in parts] == [(0, 20), (20, 20), (40, 18)]
    different = np.abs(join(parts).features.astype(int) - whole.features.astype(int)) > 8
    assert different.mean() < 0.05  # only near the edges, where a block does not know what came before

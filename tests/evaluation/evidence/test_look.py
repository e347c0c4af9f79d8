"""Pictures: what they show is where it is."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from evaluation.evidence import listen, look
from evaluation.evidence.listen import RATE


def test_a_tone_is_bright_at_its_pitch():
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    rows = look.spectrogram(tone)[:, 100:200].mean(axis=1)
    assert rows.argmax() == round(look.octave_place(440.0) * (len(rows) - 1)) == 54  # 3 octaves of 18 over 55 Hz
    assert rows.max() == pytest.approx(1.0, abs=0.02)


def test_the_outline_of_a_wave_holds_its_extremes():
    wave = np.concatenate([np.zeros(300), np.full(300, 0.5), np.full(300, -0.25)]).astype(np.float32)
    path = look.waveform(wave, columns=3)
    assert path == "M0,-0.00L1,-0.50L2,0.25L2,0.25L1,-0.50L0,-0.00Z"


def test_the_matrix_has_its_diagonal_where_the_sample_was_planted(case):
    query, reference = listen.cut(case.query, 0.0, 12.0), listen.cut(case.reference, 15.0, 32.0)
    matrix = look.similarity(query, reference, tempo_ratio=1.1, transposition=2.0)
    frame = look.frame_seconds()
    assert matrix.shape == pytest.approx((17 / 1.1 / frame, 12 / frame), abs=2)
    for second in (4.0, 6.0, 8.0):
        column = matrix[:, round(second / frame)]
        there = 15.0 + column.argmax() * frame * 1.1
        assert there == pytest.approx(20.0 + (second - 3.0) * 1.1, abs=0.15)


def test_sides_shorter_than_the_smoothing_give_an_empty_matrix_and_no_picture_of_it():
    short = np.zeros(RATE // 2, np.float32)
    assert look.similarity(short, short, tempo_ratio=1.0, transposition=0.0).shape == (0, 0)


def test_the_scale_of_a_matrix_does_not_stretch_noise():
    shown = look.shown(np.array([[-0.5, 0.05, 0.375, 0.7, 0.9]]))
    assert shown.tolist() == [pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])]


def test_silence_has_pictures_too():
    silence = np.zeros(2 * RATE, np.float32)
    assert np.isfinite(look.spectrogram(silence)).all()
    assert not look.similarity(silence, silence, tempo_ratio=1.0, transposition=0.0).any()  # silences are not alike


def test_a_picture_begins_at_the_bottom():
    values = np.zeros((20, 40), np.float32)
    values[0] = 1.0
    kind, _, content = look.picture(values, colours="gray", quality=90).partition(";base64,")
    assert kind == "data:image/webp"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
    assert pixels.shape == (20, 40)
    assert pixels[-1].mean() > 150 > 50 > pixels[0].mean()

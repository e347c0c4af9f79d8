"""The reference, stretched and transposed onto the query, sounds like what was planted there, at the same time."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile

from evaluation.evidence import listen
from evaluation.evidence.listen import RATE, Excerpt, Heard

SINE = Excerpt(start=0.0, end=2.0, reference_start=0.0, tempo_ratio=1.0, transposition=0.0, aligned=True)


def likeness(one, other):
    """Normalised cross-correlation, without shift, of two waves' log-frequency spectra (each bin less its mean)."""
    spectra = [
        librosa.amplitude_to_db(np.abs(librosa.cqt(w, sr=RATE, hop_length=512)), top_db=50) for w in (one, other)
    ]
    a, b = (s - s.mean(axis=1, keepdims=True) for s in spectra)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.fixture(scope="module")
def excerpt(case):
    return listen.choose(case.occurrence, seconds=12.0, duration=12.0)


def test_an_excerpt_is_the_occurrence_with_half_a_second_around_it(excerpt):
    assert (excerpt.start, excerpt.end) == (2.5, 9.5)
    assert excerpt.reference_start == pytest.approx(20.0 - 0.5 * 1.1)
    assert excerpt.reference_end == pytest.approx(26.6 + 0.5 * 1.1)
    assert excerpt.reference_time(3.0) == pytest.approx(20.0)


def test_an_excerpt_ends_with_the_query_and_is_no_longer_than_allowed(case):
    near = replace(case.occurrence, query_span=(0.25, 11.75))
    whole, part = (listen.choose(near, seconds=seconds, duration=12.0) for seconds in (60.0, 4.0))
    assert (whole.start, whole.end) == (0.0, 12.0)
    assert (part.start, part.end) == (0.0, 4.0)
    assert part.reference_start == pytest.approx(20.0 - 0.25 * 1.1)


def test_the_fitted_reference_correlates_with_what_was_planted_and_no_other_place_does(case, excerpt):
    heard = listen.hear(case.query, case.reference, excerpt)
    assert len(heard.warped) == len(heard.query) == 7 * RATE
    assert len(heard.reference) == pytest.approx(7.7 * RATE, abs=2)
    assert abs(heard.moved) < 0.06
    inside = slice(RATE // 2, -RATE // 2)
    right = likeness(heard.query[inside], heard.warped[inside])
    wrong = [
        likeness(heard.query[inside], listen.hear(case.query, case.reference, elsewhere).warped[inside])
        for elsewhere in (
            replace(excerpt, reference_start=excerpt.reference_start + 5.3),
            replace(excerpt, reference_start=excerpt.reference_start - 7.1),
            replace(excerpt, transposition=0.0),
            replace(excerpt, tempo_ratio=0.9, reference_start=20.0 - 0.5 * 0.9),
        )
    ]
    assert right > 0.5  # 0.54; other music sounds 12 dB under the sample
    assert max(wrong) < 0.3  # 0.22 at another pitch, 0.12 at another tempo, 0.04 at other places


@pytest.mark.parametrize("error", [-0.09, 0.05, 0.1])
def test_what_the_alignment_is_wrong_by_is_taken_up(case, excerpt, error):
    exact = listen.hear(case.query, case.reference, excerpt)
    wrong = replace(excerpt, reference_start=excerpt.reference_start + error * excerpt.tempo_ratio)
    heard = listen.hear(case.query, case.reference, wrong)
    # A reference read too late sounds too early, so it has to come later.
    assert heard.moved - exact.moved == pytest.approx(error, abs=0.02)


def test_both_recordings_are_equally_loud_and_not_clipped(case, excerpt):
    heard = listen.hear(case.query, case.reference, excerpt)
    loud = [np.sqrt(np.mean(np.square(wave, dtype=float))) for wave in (heard.query, heard.warped)]
    assert loud[0] == pytest.approx(loud[1], rel=1e-3)
    assert max(np.abs(wave).max() for wave in (heard.query, heard.warped, heard.reference)) <= 0.9001


def test_left_is_the_query_and_right_the_reference_and_alternating_they_take_turns():
    ones = np.ones(4 * RATE, np.float32)
    heard = Heard(query=ones, reference=ones, warped=-ones, moved=0.0)
    assert heard.left_and_right()[100].tolist() == [1.0, -1.0]
    turns = heard.alternating()
    assert [turns[round(t * RATE)] for t in (0.5, 1.5, 2.5, 3.5)] == [1.0, -1.0, 1.0, -1.0]
    assert np.abs(np.diff(turns)).max() < 0.02  # faded, no clicks


@pytest.mark.parametrize(
    ("ratio", "semitones", "aligned", "expected"),
    [
        (1.12, 1.96, True, True),  # 12 log2 1.12 = 1.96
        (1.12, 0.0, True, False),
        (1.0, 0.0, True, False),  # nothing was done
        (0.9, -1.7, True, True),  # 12 log2 0.9 = -1.82
        (1.12, 1.96, False, False),
    ],
)
def test_varispeed_is_where_pitch_follows_tempo(ratio, semitones, aligned, expected):
    assert replace(SINE, tempo_ratio=ratio, transposition=semitones, aligned=aligned).varispeed is expected


def test_varispeed_raises_a_tone_by_resampling():
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    warped = listen.onto(tone, replace(SINE, tempo_ratio=1.5, transposition=12 * np.log2(1.5)))
    assert len(warped) == round(2 * RATE / 1.5)
    spectrum = np.abs(np.fft.rfft(warped))
    assert spectrum.argmax() * RATE / len(warped) == pytest.approx(660, abs=1.0)  # 440 x 1.5


def test_a_cut_is_silent_before_the_beginning_and_after_the_end(tmp_path):
    soundfile.write(tmp_path / "ones.wav", np.full(RATE, 0.5), RATE)  # 1 s
    wave = listen.cut(tmp_path / "ones.wav", -0.5, 2.0)
    assert len(wave) == 2.5 * RATE
    assert [round(float(wave[round(t * RATE)]), 2) for t in (0.2, 0.6, 1.4, 1.8)] == [0.0, 0.5, 0.5, 0.0]
    assert not listen.cut(tmp_path / "ones.wav", -2.0, -1.0).any()


def test_an_mp3_is_as_small_as_the_page_counts_on(case, excerpt):
    heard = listen.hear(case.query, case.reference, excerpt)
    for wave in (heard.query, heard.left_and_right()):
        assert len(listen.mp3(wave)) / 7.0 < listen.MP3_BYTES * 1.05


def test_an_impossible_excerpt_is_refused():
    with pytest.raises(ValueError, match="expected a start before its end and a ratio over 0"):
        replace(SINE, end=0.0)

"""Producer: the truth about a query is the truth.

The sampled track is a tone that rises steadily, so that its pitch tells the place in the track: whatever sounds at a
place of the query must have the pitch of the place in the reference that the truth names, moved by the transposition.
"""

import numpy as np
import pytest
import soundfile
from scipy import signal

from evaluation.own import effects, producer
from evaluation.own.material import Material, Silent
from evaluation.own.survey import Track

RATE = 22_050
LOWEST, OCTAVES, SECONDS = 200.0, 2.0, 20.0  # of the rising tone: 1.2 semitones a second
ARRANGEMENTS = ("once", "loop", "gaps", "chops")
SEEDS = (3, 4, 6, 7, 14, 17, 23, 39)  # quick ones that show every arrangement, varispeed, stretching and transposing


def material(path, wave: np.ndarray, **stems) -> Material:
    soundfile.write(path, wave, RATE)
    track = Track(id=path.stem, form="recording", files=(), family=path.stem, artist="", title="", duration=None,
                  further=False)  # fmt: skip
    return Material(track=track, mix=path, duration=len(wave) / RATE, stems=stems)


def pitch_at(seconds):
    return LOWEST * 2 ** (OCTAVES * np.asarray(seconds) / SECONDS)


@pytest.fixture(scope="module")
def rising(tmp_path_factory) -> Material:
    """A rising tone in notes of a quarter of a second."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch_at(time)) / RATE
    wave = 0.5 * np.sin(phase) * (0.25 + 0.75 * np.exp(-8 * (time % 0.25)))
    return material(tmp_path_factory.mktemp("producer") / "rising.wav", wave)


@pytest.fixture(scope="module")
def hissing(tmp_path_factory) -> Material:
    """Noise above 5 kHz, where the rising tone never is."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(45 * RATE))
    spectrum[: 45 * 5000] = 0.0  # bins of 1/45 Hz
    wave = np.fft.irfft(spectrum)
    return material(tmp_path_factory.mktemp("producer") / "hissing.wav", 0.2 * wave / wave.std())


@pytest.fixture(scope="module")
def queries(rising, hissing) -> list[producer.Produced]:
    return [produced(rising, hissing, seed) for seed in SEEDS]


def produced(sampled, other, seed: int) -> producer.Produced:
    return producer.produce(sampled, other, sample_rate=RATE, rng=np.random.default_rng(seed))


def heard_pitch(wave: np.ndarray, seconds: float) -> float:
    """Hz of the strongest partial below 4 kHz at a place of a query."""
    middle = round(seconds * RATE)
    part = wave[middle - 1024 : middle + 1024] * np.hanning(2048)
    return float(np.argmax(np.abs(np.fft.rfft(part, 1 << 16))[: 4000 * (1 << 16) // RATE]) * RATE / (1 << 16))


def below(wave: np.ndarray) -> np.ndarray:
    """What lies below 4 kHz: of the rising tone all, of the hissing nothing."""
    return signal.sosfiltfilt(signal.butter(8, 4300, fs=RATE, output="sos"), wave)


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))


def test_what_sounds_in_the_query_is_what_the_truth_says_of_the_reference(queries):
    checked = 0
    for query in queries:
        for sounding in query.soundings:
            (start, end), (first, last) = sounding.query_span, sounding.reference_span
            errors = []
            for share in (0.2, 0.35, 0.5, 0.65, 0.8):
                expected = pitch_at(first + share * (last - first)) * 2 ** (query.transposition / 12)
                heard = heard_pitch(query.wave, start + share * (end - start))
                errors.append(12 * np.log2(heard / expected))
            # 0.1 semitones are 80 ms of the reference; the median, as reverb can be louder than the end of a note.
            assert abs(np.median(errors)) < 0.1
            checked += 1
    assert checked > 30


def test_query_seconds_times_tempo_ratio_are_reference_seconds(queries):
    for query in queries:
        for sounding in query.soundings:
            (start, end), (first, last) = sounding.query_span, sounding.reference_span
            assert (end - start) * query.tempo_ratio == pytest.approx(last - first, abs=1e-9)
            assert 0 <= first < last <= SECONDS


def test_soundings_follow_each_other_and_a_query_begins_and_ends_without_the_sample(queries):
    for query in queries:
        seconds = len(query.wave) / RATE
        spans = [sounding.query_span for sounding in query.soundings]
        assert all(end <= start + 1e-9 for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
        assert 12.0 <= seconds <= 40.0
        assert spans[0][0] >= 2.0
        assert spans[-1][1] <= seconds - 2.0
        quiet = below(query.wave)[: round(1.9 * RATE)]
        assert rms(quiet) < 0.05 * rms(query.wave)


def test_the_queries_of_these_tests_show_every_arrangement_and_treatment(queries):
    how = " | ".join(query.how for query in queries)
    for word in (*ARRANGEMENTS, "varispeed", "semitones", "reverb", "equaliser"):
        assert word in how


def test_the_sample_is_as_loud_against_the_other_music_as_the_truth_says(rising, hissing, monkeypatch):
    monkeypatch.setattr(effects, "apply", lambda rack, wave, **_: wave)  # what stays below 4 kHz is the sample
    monkeypatch.setattr(effects, "compress_all", lambda wave, **_: wave)
    for seed in SEEDS[:3]:
        query = produced(rising, hissing, seed)
        sounds = np.zeros(len(query.wave), bool)
        for sounding in query.soundings:
            sounds[slice(*(round(second * RATE) for second in sounding.query_span))] = True
        sample = below(query.wave)
        level = 20 * np.log10(rms(sample[sounds]) / rms((query.wave - sample)[sounds]))
        assert level == pytest.approx(query.level, abs=0.1)


def test_one_seed_gives_one_query_byte_for_byte_and_another_gives_another(rising, hissing, queries):
    again = produced(rising, hissing, SEEDS[2])
    assert again.wave.tobytes() == queries[2].wave.tobytes()
    assert again.soundings == queries[2].soundings
    assert len(queries[2].wave) != len(queries[3].wave)


def test_without_a_sampled_track_it_is_other_music_alone(hissing):
    query = produced(None, hissing, 0)
    assert query.soundings == ()
    assert query.sample_type == ""
    assert rms(below(query.wave)) < 0.01 * rms(query.wave)


def test_a_silent_track_is_told_from_the_other(rising, hissing, tmp_path):
    silent = material(tmp_path / "silent.wav", np.zeros(20 * RATE))
    with pytest.raises(Silent) as told:
        produced(silent, hissing, 0)
    assert told.value.track == silent.track
    with pytest.raises(Silent) as told:
        produced(rising, silent, 0)
    assert told.value.track == silent.track

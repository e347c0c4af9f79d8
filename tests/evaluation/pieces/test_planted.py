"""The rendered catalogue and its queries: the truth is in the audio, not only in the record."""

import shutil

import numpy as np
import pytest
import soundfile
from scipy import signal

from evaluation.pieces.planted import Occurrence, Planted, read_truth, render_catalogue, render_queries, write_truth
from evaluation.pieces.sampling import TREATMENTS, Treatment, warp
from evaluation.pieces.synthesis import compose, mix, render

SEED, RATE = 3, 22050


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Three references; three queries that sample them and one that samples nothing."""
    folder = tmp_path_factory.mktemp("planted")
    references = render_catalogue(folder / "catalogue", seed=SEED, references=3)
    truth = render_queries(folder / "queries", references, seed=SEED, queries=3, sample_free=1)
    return folder, references, truth


def read(path):
    return soundfile.read(path, dtype="float32")[0]


def cut(wave, span):
    return wave[round(span[0] * RATE) : round(span[1] * RATE)]


def test_each_query_is_a_file_and_the_last_one_samples_nothing(rendered):
    _, references, truth = rendered
    assert [planted.reference is None for planted in truth] == [False, False, False, True]
    assert len({planted.reference for planted in truth[:3]}) == 3
    assert all(planted.query.is_file() for planted in truth)
    assert {planted.reference for planted in truth[:3]} <= set(references)
    assert truth[3].occurrences == ()
    assert truth[3].level is None


def test_the_same_seed_gives_the_same_bytes(rendered, tmp_path):
    _, references, truth = rendered
    (again,) = render_catalogue(tmp_path / "catalogue", seed=SEED, references=1)
    assert again.read_bytes() == references[0].read_bytes()
    (query,) = render_queries(tmp_path / "queries", references, seed=SEED, queries=1, sample_free=0)
    assert query.query.read_bytes() == truth[0].query.read_bytes()


def test_no_file_clips_or_holds_nan_and_lengths_are_as_announced(rendered):
    _, references, truth = rendered
    for path in references:
        assert 40.0 < len(read(path)) / RATE < 64.0
    for planted in truth:
        assert 15.0 <= len(read(planted.query)) / RATE <= 30.0
    for path in (*references, *(planted.query for planted in truth)):
        wave = read(path)
        assert np.isfinite(wave).all()
        assert 0.5 < np.abs(wave).max() <= 0.99


def test_an_untransformed_excerpt_is_found_at_the_stated_spans(rendered):
    planted = rendered[2][0]
    query, reference = read(planted.query), read(planted.reference)
    for occurrence in planted.occurrences:
        excerpt = cut(reference, occurrence.reference_span)
        place = int(np.argmax(signal.correlate(query, excerpt, mode="valid", method="fft"))) / RATE
        assert min(abs(place - o.query_span[0]) for o in planted.occurrences) < 0.002  # one of the loops is the best
        aligned = np.corrcoef(cut(query, occurrence.query_span), excerpt)[0, 1]
        assert aligned > 0.8  # at +6 dB the sample holds 1 / (1 + 10**-0.6) = 0.80 of the energy; sqrt(0.80) = 0.89


def test_the_stated_level_is_the_level_in_the_audio(rendered):
    planted = rendered[2][0]
    spans = planted.occurrences
    query = np.concatenate([cut(read(planted.query), o.query_span) for o in spans])
    sampled = np.concatenate([cut(read(planted.reference), o.reference_span) for o in spans])
    sampled = sampled * (query @ sampled) / (sampled @ sampled)  # what of the query is the sample
    other = query - sampled
    level = 10 * np.log10((sampled @ sampled) / (other @ other))
    assert planted.level == 10.0
    # the excerpts are faded, the file is lossy, and the other material is in the same key: not quite orthogonal
    assert level == pytest.approx(planted.level, abs=1.0)


def test_spans_agree_with_the_tempo_ratio(rendered):
    for planted in rendered[2]:
        for o in planted.occurrences:
            reference, query = o.reference_span[1] - o.reference_span[0], o.query_span[1] - o.query_span[0]
            assert 4.0 <= reference <= 10.0
            assert reference / query == pytest.approx(o.tempo_ratio, abs=1e-3)


@pytest.mark.parametrize(
    ("treatment", "pitch"),
    [
        ({"transposition": 3.0}, 440 * 2 ** (3 / 12)),  # 523.3 Hz
        ({"tempo_ratio": 0.8}, 440.0),
        ({"tempo_ratio": 1.25, "transposition": -2.0}, 440 * 2 ** (-2 / 12)),  # 392.0 Hz
        ({"tempo_ratio": 1.12, "varispeed": True}, 440 * 1.12),  # 492.8 Hz
    ],
)
def test_a_warped_tone_has_the_stated_length_and_pitch(treatment, pitch):
    treatment = Treatment(stems=(), duration=4.0, level=0.0, other=(), **treatment)
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)
    warped = warp(tone, treatment, sample_rate=RATE)
    assert len(warped) == round(4 * RATE / treatment.tempo_ratio)
    loudest = np.argmax(np.abs(np.fft.rfft(warped * np.hanning(len(warped))))) * RATE / len(warped)
    assert loudest == pytest.approx(pitch, abs=1.0)
    assert 440 * 2 ** (treatment.semitones / 12) == pytest.approx(pitch)


def test_a_click_lands_where_the_tempo_ratio_says():
    clicks = np.zeros(4 * RATE, dtype=np.float32)
    clicks[2 * RATE : 2 * RATE + 40] = 1.0  # after 2 s; at 1.25 times the tempo after 2 / 1.25 = 1.6 s
    treatment = Treatment(stems=(), duration=4.0, level=0.0, other=(), tempo_ratio=1.25)
    assert np.argmax(np.abs(warp(clicks, treatment, sample_rate=RATE))) / RATE == pytest.approx(1.6, abs=0.03)


def test_the_treatments_differ_and_cover_what_producers_do():
    assert len({treatment.describe() for treatment in TREATMENTS}) == len(TREATMENTS) == 10
    levels = [treatment.level for treatment in TREATMENTS]
    assert (min(levels), max(levels)) == (8.0, 16.0)  # clear samples: the demo shows the path, it is no benchmark
    assert np.median(levels) == 13.0
    assert all(abs(treatment.semitones) <= 3 and 0.8 <= treatment.tempo_ratio <= 1.25 for treatment in TREATMENTS)


def test_an_excerpt_of_a_piece_is_found_in_that_piece_only(rendered):
    chromas = [_chroma(read(path)) for path in rendered[1]]
    likeness = np.array([[_best_match(a[:, 200:300], b) for b in chromas] for a in chromas])  # ten seconds
    assert np.diag(likeness) == pytest.approx(1.0, abs=1e-3)
    assert likeness[~np.eye(3, dtype=bool)].max() < 0.7


def _chroma(wave):
    """Energy of the twelve pitch classes, ten times a second, mean removed; (12, frames)."""
    frequencies, _, spectrum = signal.stft(wave, RATE, nperseg=4096, noverlap=4096 - RATE // 10)
    heard = (frequencies > 80) & (frequencies < 2000)
    classes = np.round(12 * np.log2(frequencies[heard] / 440)).astype(int) % 12
    energy = np.abs(spectrum[heard])
    chroma = np.array([energy[classes == number].sum(axis=0) for number in range(12)])
    return chroma - chroma.mean(axis=0)


def _best_match(excerpt, chroma):
    """Highest normalised correlation of an excerpt over all places of a piece."""
    shared = sum(np.correlate(row, part, mode="valid") for row, part in zip(chroma, excerpt, strict=True))
    energy = np.convolve((chroma**2).sum(axis=0), np.ones(excerpt.shape[1]), mode="valid")
    return (shared / np.sqrt(energy * (excerpt**2).sum())).max()


def test_the_mix_is_the_sum_of_aligned_stems():
    stems = render(compose(5, duration=15.0), sample_rate=16000)
    assert {"drums", "bass", "chords", "lead"} <= set(stems)
    assert len({len(wave) for wave in stems.values()}) == 1
    assert np.abs(mix(stems)).max() == pytest.approx(0.9, abs=1e-3)
    assert np.allclose(mix(stems), sum(stems.values()), atol=1e-5)


def test_neighbouring_seeds_have_other_titles_styles_and_tempi():
    pieces = [compose(seed) for seed in range(20)]
    assert len({piece.title for piece in pieces}) == 20
    assert len({piece.style for piece in pieces}) == 11  # all of them
    assert len({piece.tempo for piece in pieces}) > 10
    assert {piece.beats_per_bar for piece in pieces} == {3, 4}
    assert all(70 <= piece.tempo <= 160 for piece in pieces)


def test_references_carry_title_and_artist(rendered):
    for number, path in enumerate(rendered[1]):
        with soundfile.SoundFile(path) as file:
            piece = compose(SEED * 100_000 + number)
            assert (file.title, file.artist) == (piece.title, piece.artist)


def test_a_finished_folder_is_not_rendered_again(rendered):
    folder, references, truth = rendered
    written = [path.stat().st_mtime_ns for path in references]
    assert render_catalogue(folder / "catalogue", seed=SEED, references=3) == references
    assert render_queries(folder / "queries", references, seed=SEED, queries=3, sample_free=1) == truth
    assert [path.stat().st_mtime_ns for path in references] == written


def test_a_smaller_catalogue_replaces_a_larger_one(rendered, tmp_path):
    shutil.copytree(rendered[0] / "catalogue", tmp_path / "catalogue")
    render_catalogue(tmp_path / "catalogue", seed=SEED, references=1)
    assert len([path for path in (tmp_path / "catalogue").iterdir() if path.suffix != ".json"]) == 1


def test_truth_survives_being_written_and_moved(tmp_path):
    occurrence = Occurrence(query_span=(1.0, 5.0), reference_span=(8.0, 12.4), tempo_ratio=1.1, transposition=-2.0)
    truth = (
        Planted(
            query=tmp_path / "a" / "queries" / "q.wav",
            reference=tmp_path / "a" / "catalogue" / "r.flac",
            occurrences=(occurrence,),
            level=4.0,
            how="full mix",
        ),
        Planted(query=tmp_path / "a" / "queries" / "n.wav", reference=None, occurrences=(), level=None, how="nothing"),
    )
    (tmp_path / "a" / "queries").mkdir(parents=True)
    write_truth(tmp_path / "a" / "queries" / "planted.json", truth)
    assert read_truth(tmp_path / "a" / "queries" / "planted.json") == truth
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_truth(tmp_path / "b" / "queries" / "planted.json")[0].reference == tmp_path / "b/catalogue/r.flac"


def test_wrong_requests_are_refused_with_a_cure(rendered, tmp_path):
    with pytest.raises(ValueError, match="references must be 1 or more, got 0"):
        render_catalogue(tmp_path, references=0)
    with pytest.raises(ValueError, match="not the catalogue of seed 4"):
        render_queries(tmp_path, rendered[1], seed=4)
    (tmp_path / "planted.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no planted truth"):
        read_truth(tmp_path / "planted.json")

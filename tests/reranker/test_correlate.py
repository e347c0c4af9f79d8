"""Correlate: planted samples are found, with their tempo, transposition and places; strangers score next to nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reranker.correlate import Correlation, Correlator, search, surplus
from reranker.trace import occurrences
from reranker.warp import Warp, centred, measure, stretched, transposed, vertex

BINS, SECONDS = 85, 0.064
NARROW = Correlation(tempo=(0.9, 1.1), transposition=2)  # where what is searched does not matter, for speed


def music(frames, *, seed):
    """Sparse random partials that last a few frames: (frames, bins) uint8."""
    rng = np.random.default_rng(seed)
    loud = (rng.random((frames, BINS)) < 0.03) * rng.uniform(60, 200, (frames, BINS))
    return np.maximum(loud, 0.7 * np.roll(loud, 1, axis=0)).astype(np.uint8)


def warped(features, *, tempo_ratio=1.0, semitones=0.0):
    """What was played that many times as fast and that much higher."""
    fast = stretched(torch.from_numpy(features).float(), 1 / tempo_ratio)
    return transposed(fast, semitones).numpy()


def over(sample, *, at, frames, seed, level=1.0):
    """The sample from frame `at` on, under other music."""
    mixed = music(frames, seed=seed).astype(float)
    mixed[at : at + len(sample)] = np.maximum(mixed[at : at + len(sample)], level * sample)
    return mixed.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def references():
    return {number: music(420, seed=number) for number in (3, 5, 8, 9)}


@pytest.mark.parametrize(("tempo_ratio", "semitones"), [(1.0, 0.0), (0.8, 3.0), (1.31, -4.0), (1.12, 1.96)])
def test_a_warped_sample_is_found_with_its_warp_and_place(references, tempo_ratio, semitones):
    sample = warped(references[8][200:290], tempo_ratio=tempo_ratio, semitones=semitones)
    query = over(sample, at=60, frames=240, seed=50)
    (best, rough), *others = Correlator().compare(query, references).items()
    assert best == 8
    assert rough.occurrences == ()
    explanation = Correlator().explain(query, references[8], rough)
    assert explanation.score > 5 * max(other.score for _, other in others)
    assert explanation.tempo_ratio == pytest.approx(tempo_ratio, rel=0.02)
    assert explanation.transposition == pytest.approx(semitones, abs=0.3)
    longest = max(explanation.occurrences, key=lambda o: o.query_span[1] - o.query_span[0])
    # frames 60 to 60 + 90 / ratio of the query are frames 200 to 290 of the reference
    assert longest.query_span == pytest.approx((60 * SECONDS, (60 + 90 / tempo_ratio) * SECONDS), abs=0.4)
    assert longest.reference_span == pytest.approx((200 * SECONDS, 290 * SECONDS), abs=0.4)
    assert longest.tempo_ratio == explanation.tempo_ratio
    assert longest.transposition == explanation.transposition


def test_each_repetition_of_a_loop_is_an_occurrence(references):
    loop = np.tile(references[5][100:140], (3, 1))
    query = over(loop, at=50, frames=220, seed=51)
    explanation = Correlator().explain(query, references[5], Correlator().compare(query, references)[5])
    assert [o.query_span for o in explanation.occurrences] == [
        pytest.approx((start * SECONDS, (start + 40) * SECONDS), abs=0.2) for start in (50, 90, 130)
    ]
    for occurrence in explanation.occurrences:
        assert occurrence.reference_span == pytest.approx((100 * SECONDS, 140 * SECONDS), abs=0.2)


def test_strangers_score_little_and_explanations_come_best_first(references):
    stranger = Correlator(NARROW).compare(music(240, seed=52), references)
    scores = [explanation.score for explanation in stranger.values()]
    assert scores == sorted(scores, reverse=True)
    sample = Correlator(NARROW).compare(over(references[9][0:90], at=100, frames=240, seed=52), references)
    assert sample[9].score > 20 * (1 + scores[0])


def test_a_lone_reference_is_judged_by_its_other_tempi_and_transpositions(references):
    query = over(references[9][50:140], at=100, frames=240, seed=54)
    alone = {number: Correlator(NARROW).compare(query, {number: references[number]})[number].score for number in (3, 9)}
    assert alone[9] > 20 * (1 + alone[3])


def test_what_is_too_short_scores_nothing_and_nothing_gives_nothing(references):
    assert Correlator().compare(music(10, seed=1), references)[3].score == 0
    short = Correlator().compare(music(100, seed=1), {1: music(5, seed=1), 2: references[3]})
    assert short[1].score == 0
    assert Correlator().explain(music(100, seed=1), music(5, seed=1), short[1]) == short[1]
    assert Correlator().compare(music(100, seed=1), {}) == {}


def test_many_references_are_compared_coarsely_first_and_the_best_of_them_finely(references):
    many = references | {number: music(420, seed=number) for number in range(20, 30)}
    query = over(references[9][60:150], at=100, frames=240, seed=55)
    config = replace(NARROW, effort=1.0, finest=3)  # 240 frames are 15.36 s
    found = Correlator(config).compare(query, many)
    assert list(found)[0] == 9
    assert set(found) == set(many)
    assert [explanation.score for explanation in list(found.values())[3:]] == [0.0] * 11
    alone = Correlator(config).compare(query, {number: many[number] for number in list(found)[:3]})
    assert found[9].score == alone[9].score  # judged among those compared finely


def test_how_many_are_compared_finely_depends_on_the_length_of_the_query_and_of_the_references():
    config = Correlation(effort=6400.0, finest=8)
    assert config.fine(313, [157] * 100) == 31  # 20.03 s times 31 references of 10.05 s are 6,240 seconds squared
    assert config.fine(313, [314] * 100) == 15
    assert config.fine(3000, [157] * 100) == 8
    assert config.fine(3000, [157] * 3) == 3


def test_evidence_counts_for_less_the_more_would_have_been_changed(references):
    config = Correlation(tempo=(0.7, 1.5), doubt=(2.0, 0.1))
    one = list(config.tempi).index(1.0)
    assert config.belief[one, 5] == 1
    assert config.belief[one + 5, 5] == pytest.approx(np.exp(-2 * 5 * 0.06), rel=1e-5)
    assert config.belief[one, 1] == pytest.approx(np.exp(-0.4), rel=1e-5)
    query = over(warped(references[8][100:220], semitones=2.0), at=60, frames=240, seed=50)
    whole, less = (
        Correlator(replace(NARROW, doubt=doubt)).compare(query, references)[8] for doubt in ((0, 0), (0, 0.5))
    )
    assert less.transposition == whole.transposition == 2
    assert less.score == pytest.approx(whole.score * np.exp(-1), rel=1e-4)
    with pytest.raises(ValueError, match=r"doubt is \(-1, 0\), expected 0 or more"):
        Correlation(doubt=(-1, 0))


def test_silence_scores_nothing_on_either_side(references):
    silent = np.zeros((200, BINS), np.uint8)
    assert all(explanation.score == 0 for explanation in Correlator(NARROW).compare(silent, references).values())
    assert (
        Correlator(NARROW)
        .compare(over(references[3][0:90], at=9, frames=200, seed=2), references | {1: silent})[1]
        .score
        == 0
    )


def test_peaks_are_the_highest_cosines():
    config = Correlation(tempo=(1.0, 1.0), transposition=1, piece=16)
    query, reference = music(32, seed=1), music(1100, seed=2)  # longer than one Fourier transform
    reference[1040:1072] = query
    numbers, peaks = search(query, {4: reference, 7: music(50, seed=3), 9: music(15, seed=4)}, config)
    assert numbers == [4, 7]  # the last one holds no piece
    q, r = centred(query).numpy(), centred(reference).numpy()
    for semitones, place in ((0, 1), (1, 2)):
        piece = q[16:, semitones:]
        patches = np.lib.stride_tricks.sliding_window_view(r, 16, axis=0)  # (places, bins, frames)
        products = np.einsum("pbf,fb->p", patches[:, : BINS - semitones], piece)
        cosines = products / np.sqrt((patches**2).sum((1, 2)) * (piece**2).sum())
        assert peaks[1, 0, 0, place, 0] == pytest.approx(cosines.max(), abs=1e-3)
    assert peaks[0, 1, 0, 1, 0] > 0.95  # both pieces as one, at their place
    assert (peaks[1, 1] == -1).all()  # the last piece begins no span of two


def test_surplus_is_counted_from_the_background_of_pieces_and_references():
    rng = np.random.default_rng(0)
    peaks = rng.normal(0.2, 0.01, (6, 2, 20, 41, 4)).astype(np.float32)
    peaks[..., 3] += 0.1  # a reference that is near to everything
    peaks[2, 0, 1, 4, 2] = 0.3  # (0.3 - 0.2) / 0.01 = 10 standard deviations, 7 over the least
    over_it = surplus(peaks, 3.0)
    assert over_it[2, 0, 1, 4, 2] == pytest.approx(7, abs=0.7)
    assert over_it.sum() - over_it[2, 0, 1, 4, 2] < 0.01 * over_it.size
    assert over_it[..., 3].sum() < 0.01 * over_it[..., 3].size


def test_a_reference_that_is_near_to_much_and_far_from_much_is_measured_by_its_own_deviation():
    peaks = np.random.default_rng(0).normal(0.2, 0.05, (9, 2, 13, 11, 20)).astype(np.float32)
    peaks[..., 3] = 0.2 + 3 * (peaks[..., 3] - 0.2)
    peaks[4, 0, 2, 5, 3] = 1.5  # what stands out even of that counts
    found = (surplus(peaks, 3.0) > 0).mean(axis=(0, 1, 2, 3))
    assert found[3] < 0.01  # and not a third of its places
    assert surplus(peaks, 3.0)[4, 0, 2, 5, 3] > 4


def test_what_a_sample_lifts_does_not_count_against_its_reference():
    # It fills all four pieces of a short query and lifts what is near its warp as well: a third of all tempi.
    peaks = np.random.default_rng(1).normal(0.3, 0.02, (4, 2, 12, 11, 20)).astype(np.float32)
    peaks[:, :, :4, :, 7] += 0.2
    peaks[3, 1] = -1  # the last piece begins no span of two
    found = surplus(peaks, 0.0)
    assert found[:3, :, :4, :, 7].mean() == pytest.approx(0.2 / 0.02, rel=0.35)
    assert found[3, 1].max() == 0


def test_warp_is_measured_finer_than_the_grid(references):
    sample = warped(references[3][100:260], tempo_ratio=1.035, semitones=0.4)
    query = over(sample, at=40, frames=240, seed=55)
    rough = Warp(tempo_ratio=1.06, transposition=0.0)
    found = measure(query, references[3], rough, piece=16, long=48, tempo_step=0.06)
    assert found.tempo_ratio == pytest.approx(1.035, rel=0.004)
    assert found.transposition == pytest.approx(0.4, abs=0.25)


def test_no_frame_of_the_query_is_told_twice_though_the_reference_repeats_itself():
    bar = music(60, seed=7)
    reference = np.concatenate([music(100, seed=8), bar, bar, bar, music(100, seed=9)])
    query = over(bar, at=50, frames=200, seed=56)
    found = occurrences(query, reference, Warp(tempo_ratio=1.0, transposition=0.0), piece=16, seconds=SECONDS)
    ends = [end for occurrence in found for end in occurrence.query_span]
    assert ends == sorted(ends)
    assert max(b - a for a, b in (o.query_span for o in found)) == pytest.approx(60 * SECONDS, abs=0.3)


def test_a_quiet_piece_counts_as_if_it_had_a_tenth_of_the_usual_energy(references):
    query = np.concatenate([references[5][:64], references[3][100:116] // 20])
    config = Correlation(tempo=(1.0, 1.0), transposition=0)
    _, peaks = search(query, {3: references[3]}, config)
    q, r = centred(query).numpy(), centred(references[3]).numpy()
    energy = np.square(q.reshape(5, 16, BINS)).sum((1, 2))
    assert energy[4] < 0.1 * np.median(energy)
    patches = np.lib.stride_tricks.sliding_window_view(r, 16, axis=0)
    products = np.einsum("pbf,fb->p", patches, q[64:]) / np.sqrt((patches**2).sum((1, 2)))
    assert peaks[4, 0, 0, 0, 0] == pytest.approx(products.max() / np.sqrt(0.1 * np.median(energy)), rel=1e-3)


def test_the_top_of_a_parabola_lies_between_the_points_of_a_grid():
    places = np.arange(5) * 0.5
    values = -((places - 1.1) ** 2)  # highest at 1.1; on the grid at 1.0
    assert vertex(places, values, 2) == pytest.approx(1.1)
    assert vertex(places, values, 0) == 0.0


def test_impossible_values_are_refused(references):
    with pytest.raises(ValueError, match=r"tempo is \(1.1, 1.5\), expected \(low, high\) with 0 < low <= 1 <= high"):
        Correlation(tempo=(1.1, 1.5))
    with pytest.raises(ValueError, match="piece is 2, expected at least 4"):
        Correlation(piece=2)
    with pytest.raises(ValueError, match="expected uint8 .* with as many bins each"):
        Correlator().compare(references[3], {1: references[5][:, :40]})

"""The rejection study: what is paired with what, and what the scores say."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder.encode import Encoder
from evaluation import cuts, rejection
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.rejection import Comparison, Pair, mean_of_maxima, measure
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.rank import Occurrence

RATE = cuts.SAMPLE_RATE


def tone(seconds, name):
    """Notes of a quarter of a second: unlike any other name's."""
    times = np.arange(RATE // 4) / RATE
    notes = 220 * 2 ** (np.random.default_rng(zlib.crc32(name.encode())).integers(0, 36, 4 * seconds) / 12)
    return 0.2 * np.concatenate([np.sin(2 * np.pi * note * times) for note in notes]).astype(np.float32)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """``audio(name, seconds)``: a file of that length, rendered once."""
    folder = tmp_path_factory.mktemp("audio")

    def file(name, seconds):
        path = folder / f"{name}.wav"
        if not path.exists():
            soundfile.write(path, tone(seconds, name), RATE)
        return path

    return file


@pytest.fixture(scope="module")
def benchmark(audio):
    """Four queries of 30 s, which sample R1 to R4 in 0-12 s and 15-30 s; three noise tracks of 12, 25 and 33 s."""
    queries = []
    for number in range(1, 5):
        spans = [Occurrence(query_span=span, reference_span=(0.0, 10.0)) for span in ((0.0, 12.0), (15.0, 30.0))]
        sample = Sampled(sample_id=f"S{number:03d}", reference=f"R{number}", occurrences=tuple(spans))
        queries.append(Query(id=f"Q-{number}", path=audio(f"Q{number}", 30), sampled=(sample,)))
    return Benchmark(
        name="own",
        references={f"R{number}": audio(f"R{number}", 12) for number in range(1, 5)},
        distractors={"N1": audio("N1", 12), "N2": audio("N2", 25), "N3": audio("N3", 33)},
        queries=tuple(queries),
    )


@pytest.fixture(scope="module")
def excerpts(benchmark, tmp_path_factory):
    return cuts.excerpts(benchmark, tmp_path_factory.mktemp("excerpts"), lengths=(5.0, 10.0))


@pytest.fixture
def drawn(benchmark, excerpts, tmp_path):
    """``drawn(count=..., seed=...)``: pairs of 10 s; there are 8 positive excerpts and room for 1 + 2 + 3 negatives."""
    return lambda **options: rejection.pairs(benchmark, excerpts, tmp_path / "noise", **options)


def sides(pairs):
    return [p for p in pairs if p.positive], [p for p in pairs if not p.positive]


def test_positives_are_excerpts_of_the_length_with_their_reference(drawn):
    positives, _ = sides(drawn(count=300))
    assert len({p.query for p in positives}) == len(positives) == 8
    assert all(p.reference == f"R{p.track[-1]}" for p in positives)
    assert {p.track for p in positives} == {"Q-1", "Q-2", "Q-3", "Q-4"}


def test_negatives_are_noise_with_the_positives_references_cut_in_the_same_way(drawn):
    positives, negatives = sides(drawn(count=300))
    assert len({p.query for p in negatives}) == len(negatives) == 6  # all there is room for
    assert {p.track for p in negatives} == {"N1", "N2", "N3"}
    assert {p.reference for p in negatives} <= {p.reference for p in positives}
    described = {(i.samplerate, i.frames, i.channels, i.format) for i in (soundfile.info(p.query) for p in drawn())}
    assert described == {(RATE, 10 * RATE, 1, "FLAC")}


def test_every_noise_track_serves_once_before_one_serves_twice(drawn):
    for seed in range(5):  # of six excerpts, three by chance would be of three tracks in 3 of 10 draws
        assert {p.track for p in sides(drawn(count=3, seed=seed))[1]} == {"N1", "N2", "N3"}
    tracks = [p.track for p in sides(drawn(count=5))[1]]
    assert sorted(tracks) == ["N1", "N2", "N2", "N3", "N3"]


def test_further_excerpts_of_a_noise_track_do_not_overlap(drawn, tmp_path):
    drawn()
    (manifest,) = (tmp_path / "noise").glob("*/cuts.json")
    written = json.loads(manifest.read_text())["cuts"]
    starts = sorted(start for name, _, start, _ in written if name.startswith("N3"))
    assert len(starts) == 3
    assert starts[0] >= 0
    assert np.diff(starts) == pytest.approx(10.0)
    assert starts[-1] <= 23.0


def test_a_seed_gives_its_pairs_again_and_another_seed_others(drawn):
    assert drawn(count=4, seed=5) == drawn(count=4, seed=5)
    assert drawn(count=4, seed=5) != drawn(count=4, seed=6)


def test_without_excerpts_of_the_length_or_noise_there_is_no_study(benchmark, excerpts, drawn, tmp_path):
    with pytest.raises(ValueError, match="rejection needs 15 s excerpts .* got 0 and 3; cut excerpts of that length"):
        drawn(seconds=15.0)
    silent = Benchmark(name="own", references=benchmark.references, distractors={}, queries=benchmark.queries)
    with pytest.raises(ValueError, match="got 8 and 0"):
        rejection.pairs(silent, excerpts, tmp_path / "noise")


# Scores


def pair(positive, track):
    return Pair(query=Path(f"{track}.flac"), track=track, reference="R1", positive=positive)


def test_the_score_is_the_mean_over_query_segments_of_the_best_reference_segment():
    # max of (0.1, 0.9) is 0.9, of (0.3, 0.2) is 0.3; their mean is 0.6.
    assert mean_of_maxima(np.array([[0.1, 0.9], [0.3, 0.2]])) == pytest.approx(0.6)
    assert mean_of_maxima(np.zeros((0, 3))) == mean_of_maxima(np.zeros((3, 0))) == -np.inf


def test_the_auroc_counts_the_pairs_that_stand_right():
    # Positives 3, 2, 1 against negatives 2.5 and 0: 3 beats both, 2 and 1 beat one each: 4 of 6.
    pairs = [pair(True, "A"), pair(True, "B"), pair(True, "C"), pair(False, "N1"), pair(False, "N2")]
    result = measure(pairs, [3, 2, 1, 2.5, 0], count=3)
    assert result.auroc == pytest.approx(4 / 6)
    assert result.low <= result.auroc <= result.high
    assert (result.positives, result.negatives, result.shortfall) == (3, 2, "2 negative pairs in place of 3")
    assert measure(pairs, [3, 2, 1, 0, -np.inf], count=3).auroc == 1.0
    assert measure(pairs, [0, -1, -np.inf, 1, 2], count=3).auroc == 0.0


def test_many_excerpts_of_one_track_do_not_narrow_the_interval():
    # Tracks A (scores 1) and B (scores 0) against N1 and N2 at 0.5: each positive track is right or wrong as a whole,
    # so a draw of two tracks gives 0, 0.5 or 1, however many excerpts there are.
    pairs = [pair(True, track) for track in "AB" for _ in range(100)] + [pair(False, "N1"), pair(False, "N2")]
    result = measure(pairs, [1.0] * 100 + [0.0] * 100 + [0.5, 0.5], count=200)
    assert (result.auroc, result.low, result.high) == (0.5, 0.0, 1.0)
    assert (result.positive_tracks, result.negative_tracks) == (2, 2)


def test_too_few_noise_tracks_are_said():
    pairs = [pair(True, "A"), pair(True, "B"), pair(False, "N1"), pair(False, "N1")]
    assert measure(pairs, [1, 1, 0, 0], count=2).shortfall == "2 excerpts of only 1 noise tracks"


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 scores for 2 pairs"):
        measure([pair(True, "A"), pair(False, "N1")], [1.0])
    with pytest.raises(ValueError, match="none NaN"):
        measure([pair(True, "A"), pair(False, "N1")], [1.0, np.nan])


def test_every_pair_is_scored_by_what_it_pairs(drawn):
    asked = []

    def score(query, reference):
        asked.append((query, reference))
        return 1.0 if query.name.startswith("Q") else 0.0

    pairs = drawn(count=4)
    result = rejection.study(pairs, score, count=4)
    assert asked == [(p.query, p.reference) for p in pairs]
    assert (result.auroc, result.low, result.high, result.shortfall) == (
        1.0,
        1.0,
        1.0,
        "4 excerpts of only 3 noise tracks",
    )


def test_a_score_that_knows_nothing_separates_nothing():
    # Both kinds have the same shape, so that random segment scores give 0.5: with one segment on one side and many on
    # the other the larger maxima alone would give about 1.
    random = np.random.default_rng(3)
    pairs = [pair(True, f"Q{n}") for n in range(200)] + [pair(False, f"N{n}") for n in range(200)]
    result = measure(pairs, [mean_of_maxima(random.random((12, 40))) for _ in pairs], count=200)
    assert result.low < 0.5 < result.high
    assert abs(result.auroc - 0.5) < 0.08


# A trained system as the score


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


def test_an_excerpt_of_the_reference_scores_above_other_music(encoder, audio, tmp_path):
    references = {"R1": audio("R1", 12), "R2": audio("R2", 12)}
    soundfile.write(tmp_path / "part.flac", tone(12, "R1")[: 6 * RATE], RATE)
    compare = Comparison(encoder, None, references)
    assert compare(tmp_path / "part.flac", "R1") == pytest.approx(1.0, abs=0.02)
    assert compare(tmp_path / "part.flac", "R2") < 0.98


def test_the_classifier_scores_every_segment_of_one_with_every_segment_of_the_other(encoder, audio):
    torch.manual_seed(1)
    classifier = CrossAttention(
        CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes, matching=True)
    ).eval()
    score = Comparison(encoder, classifier, {"R1": audio("R1", 12)})(audio("N0", 5), "R1")
    query, reference = (
        torch.from_numpy(encoder.encode(path).node_matrices).float() for path in (audio("N0", 5), audio("R1", 12))
    )
    best = []
    for segment in query:  # one pair at a time, by the plain form
        mine = segment.expand(len(reference), -1, -1)
        similarities = (encoder.network.fingerprints(mine) * encoder.network.fingerprints(reference)).sum(dim=1)
        best.append(classifier(mine, reference, similarities=similarities).sigmoid().max().item())
    assert score == pytest.approx(np.mean(best), abs=1e-4)


def test_a_silent_excerpt_speaks_for_nothing(encoder, audio, tmp_path):
    soundfile.write(tmp_path / "silence.flac", np.zeros(10 * RATE), RATE)
    assert Comparison(encoder, None, {"R1": audio("R1", 12)})(tmp_path / "silence.flac", "R1") == -np.inf


def test_a_network_in_training_mode_is_refused(encoder):
    encoder.network.train()
    try:
        with pytest.raises(ValueError, match=r"the encoder is in training mode, expected eval\(\)"):
            Comparison(encoder, None, {})
    finally:
        encoder.network.eval()
    with pytest.raises(ValueError, match="the classifier is in training mode"):
        Comparison(encoder, CrossAttention(CrossAttentionConfig()).train(), {})

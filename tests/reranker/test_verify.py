"""Verify: how a reference is laid upon a query, what the network then sees, and what its word is worth."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from encoder import checkpoint
from encoder.checkpoint import CheckpointError
from encoder.encode import Encoder
from encoder.systems import KINDS
from reranker import correlate, verify
from reranker.correlate import Correlation, Correlator
from reranker.rank import Occurrence
from reranker.verify import Verifier, VerifierConfig, laid_upon

SECONDS = 0.064


def sounds(frames, seed, bins=85):
    return np.random.default_rng(seed).integers(0, 200, (frames, bins)).astype(np.uint8)


def occurrence(first, last, begin, *, tempo_ratio=1.0, transposition=0.0):
    """Frames `first` to `last` of the query are those from `begin` on of the reference."""
    end = begin + (last - first) * tempo_ratio
    spans = dict(query_span=(first * SECONDS, last * SECONDS), reference_span=(begin * SECONDS, end * SECONDS))
    return Occurrence(**spans, tempo_ratio=tempo_ratio, transposition=transposition)


def test_a_reference_lies_upon_the_query_where_its_occurrence_is_and_a_second_around_it():
    reference = sounds(200, 1)
    query = sounds(120, 2)
    query[40:80] = reference[100:140]
    mine, laid, covered = laid_upon(query, reference, [occurrence(40, 80, 100)], seconds=SECONDS)
    assert covered.tolist() == [0.0] * 40 + [1.0] * 40 + [0.0] * 40
    expected = (reference - reference.mean(0)) / 64
    np.testing.assert_allclose(laid[24:96], expected[84:156], atol=1e-4)
    assert not laid[:24].any()
    assert not laid[96:].any()
    np.testing.assert_allclose(mine, (query - query.mean(0)) / 64, atol=1e-4)


def test_it_is_played_at_the_querys_tempo_and_the_query_at_the_references_pitch():
    ramp = np.repeat(np.arange(0, 200, dtype=np.uint8)[:, None], 85, 1)
    query = np.zeros((60, 85), np.uint8)
    query[:, 30] = 128
    place = occurrence(20, 40, 50, tempo_ratio=1.5, transposition=2.0)
    mine, laid, _ = laid_upon(query, ramp, [place], seconds=SECONDS)
    np.testing.assert_allclose(np.diff(laid[20:40, 0]), 1.5 / 64, atol=1e-4)
    raised = laid_upon(query[:30], ramp, [place], seconds=SECONDS)[0]
    assert mine.shape == (60, 85)
    assert not raised.any()  # a tone that never stops is the mean
    query[:30] = 0
    assert (laid_upon(query, ramp, [place], seconds=SECONDS)[0].std(0) > 0).nonzero().tolist() == [[28]]


def test_nothing_lies_where_the_reference_has_not_begun_or_is_over():
    _, laid, covered = laid_upon(sounds(60, 1), sounds(30, 2), [occurrence(20, 40, 15)], seconds=SECONDS)
    assert not laid[:5].any()  # 15 frames before
    assert laid[5:35].any(dim=1).all()
    assert not laid[35:].any()
    assert covered.sum() == 20


def test_the_verdict_is_the_mean_over_what_is_covered_drawn_to_even_odds_where_that_is_short():
    class Sure(Verifier):
        def forward(self, query, reference):
            return torch.full((1, query.shape[2] // 2), 3.0)

    query, reference = sounds(120, 1), sounds(200, 2)
    sure = Sure(VerifierConfig(channels=1))
    assert sure.verdict(query, reference, [occurrence(0, 100, 20)], seconds=SECONDS) == pytest.approx(3 * 50 / 55)
    assert sure.verdict(query, reference, [occurrence(0, 10, 20)], seconds=SECONDS) == pytest.approx(3 * 5 / 10)


def test_the_shipped_one_believes_a_sample_and_not_other_music():
    verifier = verify.shipped_for(contrast=Encoder().contrast_digest)
    reference, other = sparse(300, 1), sparse(300, 2)
    query = np.maximum(sparse(200, 3), np.pad(reference[60:180], ((40, 40), (0, 0))))
    place = [occurrence(40, 160, 60)]
    right, wrong = (verifier.verdict(query, one, place, seconds=SECONDS) for one in (reference, other))
    assert right > 0 > wrong


def sparse(frames, seed):
    """Notes of a third of a second in few of the semitones, as contrast features of music are."""
    rng = np.random.default_rng(seed)
    notes = np.where(rng.random((-(-frames // 5), 85)) < 0.06, rng.integers(90, 220, (-(-frames // 5), 85)), 0)
    return np.repeat(notes, 5, axis=0)[:frames].astype(np.uint8)


def test_a_verifier_of_other_features_is_refused_and_the_shipped_one_left_away():
    assert verify.shipped_for(contrast="other") is None
    path = verify.shipped()
    with pytest.raises(CheckpointError, match="made for contrast network .{12}, in use is other; train one with"):
        verify.load(path, contrast="other")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        verify.load(path.with_name("nowhere.safetensors"), contrast="other")


def test_new_fingerprints_leave_the_verifier_in_use_and_new_contrast_does_not(tmp_path):
    loaded, seen = checkpoint.load(Encoder().path, *KINDS), []
    for name in ("projector.layers.0.bias", "contrast.last.bias"):
        changed = {key: value + (key == name) for key, value in loaded.weights.items()}
        network = replace(loaded, weights=changed).restore(loaded.config.build())
        checkpoint.save(tmp_path / name, loaded.config, network, provenance={})
        other = Encoder(tmp_path / name)
        assert other.digest != loaded.digest
        seen.append(verify.shipped_for(contrast=other.contrast_digest))
    assert seen[0] is not None
    assert seen[1] is None


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="4 semitones, 16 channels, expected 8 and 1 or more"):
        VerifierConfig(semitones=4)


class Says:
    """A verifier of few words: the log odds of each reference, known by its length."""

    digest = "says"

    def __init__(self, odds):
        self.odds, self.asked = odds, []

    def verdict(self, window, reference, occurrences, *, seconds):
        self.asked.append(len(reference))
        return self.odds[len(reference)]


def correlated(verifier=None, **changes):
    """Correlator of references 1, 2, 3, of 300, 320, 340 frames, with what it finds; 1 is sampled, 2 a little."""
    references = {n: sounds(280 + 20 * n, n) for n in (1, 2, 3)}
    query = sounds(160, 9) // 2
    query[20:120] += references[1][50:150] // 2
    query[120:150] += references[2][10:40] // 3
    correlator = Correlator(replace(Correlation(tempo=(0.9, 1.1), transposition=1), **changes), verifier)
    return correlator.compare(query, references)


def test_scores_are_multiplied_by_the_odds_over_those_of_a_wrong_reference():
    plain = correlated()
    says = Says({300: -2.5, 320: 1.5, 340: 0.0})
    found = correlated(says, hopeless=plain[2].score - 1)
    assert sorted(says.asked) == [300, 320]  # the third is not worth it
    assert found[1].score == pytest.approx(plain[1].score)
    assert found[2].score == pytest.approx(plain[2].score * math.exp(0.5 * 4))
    assert found[3] == plain[3]


def test_what_is_disbelieved_falls_behind_and_of_so_many_only_the_best_are_asked():
    believed = correlated(Says({300: -30.0, 320: 1.0, 340: 0.0}), hopeless=0.0, verified=2)
    assert list(believed)[0] == 2
    assert list(believed)[-1] == 1
    says = Says({300: 0.0})
    correlated(says, hopeless=0.0, verified=1)
    assert says.asked == [300]


def test_a_reference_in_which_no_place_is_found_keeps_its_score(monkeypatch):
    plain = correlated()
    monkeypatch.setattr(correlate, "trace", lambda query, reference, rough, **how: (rough, ()))
    says = Says({300: 5.0, 320: 5.0, 340: 5.0})
    assert correlated(says, hopeless=0.0) == plain
    assert not says.asked


def test_what_is_told_is_traced_finely_and_the_verifier_judges_what_was_traced_first(monkeypatch):
    query = sounds(160, 9) // 2
    reference = sounds(300, 1)
    query[20:120] += reference[50:150] // 2
    again, judged = (occurrence(0, 100, 20),), []
    monkeypatch.setattr(correlate, "retrace", lambda query, reference, warp, found, **how: (warp, again))
    says = SimpleNamespace(digest="", verdict=lambda q, r, places, *, seconds: float(bool(judged.append(places))))
    correlator = Correlator(Correlation(tempo=(0.9, 1.1), transposition=1, hopeless=0.0), says)
    found = correlator.compare(query, {1: reference})[1]
    (first,) = judged
    assert first not in ((), again)
    assert correlator.explain(query, reference, found).occurrences == again


def test_of_a_window_of_a_long_query_fewer_are_asked(monkeypatch):
    placed = (occurrence(0, 100, 20),)
    monkeypatch.setattr(correlate, "trace", lambda query, reference, rough, **how: (rough, placed))
    references = {n: sounds(280 + 20 * n, n) for n in range(1, 9)}
    query = sounds(160, 9)
    for asked, count in ((None, 8), (100, 8), (320, 6), (1600, 4)):
        says = Says({len(features): 0.0 for features in references.values()})
        correlation = Correlation(tempo=(0.9, 1.1), transposition=1, hopeless=-1.0)
        Correlator(correlation, says).compare(query, references, asked=asked)
        assert len(says.asked) == count


def test_the_correlation_tells_who_verifies_since_scores_depend_on_it():
    assert Correlator().correlation.verifier == ""
    assert Correlator(verifier=SimpleNamespace(digest="abc")).correlation.verifier == "abc"

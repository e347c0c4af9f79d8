"""Candidates of a quantised index, compared again with the stored fingerprints."""

import numpy as np
import pytest

from store.candidates import Candidates
from store.rescore import rescore


def unit(values) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def candidates(*hits) -> Candidates:
    rows, ids, similarities = zip(*hits) if hits else ((), (), ())
    return Candidates(
        query_rows=np.array(rows, np.int64),
        segment_ids=np.array(ids, np.int64),
        similarities=np.array(similarities, np.float32),
    )


def test_order_and_similarities_become_exact_and_the_rest_is_cut():
    queries = unit([[1, 0], [0, 1]])
    stored = {7: [0.6, 0.8], 8: [0.8, 0.6], 9: [1, 0]}
    # The index thought 7 nearer to the first query than 8 and 9.
    found = candidates((0, 7, 0.9), (0, 8, 0.7), (0, 9, 0.5), (1, 8, 0.9), (1, 7, 0.1))
    exact = rescore(found, queries, lambda ids: np.array([stored[i] for i in ids], np.float32), limit=2)
    assert exact.query_rows.tolist() == [0, 0, 1, 1]
    assert exact.segment_ids.tolist() == [9, 8, 7, 8]
    np.testing.assert_allclose(exact.similarities, [1, 0.8, 0.8, 0.6], atol=1e-6)


def test_each_segment_is_read_once_and_in_rising_order():
    asked = []

    def stored(ids):
        asked.append(ids.tolist())
        return np.ones((len(ids), 2), np.float32)

    rescore(candidates((0, 9, 0), (0, 3, 0), (1, 9, 0)), unit([[1, 0], [0, 1]]), stored, limit=5)
    assert asked == [[3, 9]]


def test_no_candidates_stay_no_candidates():
    found = rescore(candidates(), unit([[1, 0]]), lambda ids: np.empty((len(ids), 2), np.float32), limit=5)
    assert len(found) == 0


def test_more_candidates_than_one_block_are_all_compared(monkeypatch):
    monkeypatch.setattr("store.rescore._BLOCK", 7)
    random = np.random.default_rng(0)
    stored, queries = unit(random.standard_normal((50, 8))), unit(random.standard_normal((4, 8)))
    found = candidates(*[(row, number, 0) for row in range(4) for number in range(50)])
    exact = rescore(found, queries, lambda ids: stored[ids], limit=3)
    best = np.argsort(-(queries @ stored.T), axis=1)[:, :3]
    assert exact.segment_ids.reshape(4, 3).tolist() == best.tolist()


def test_what_quantisation_blurs_comes_back_where_enough_is_fetched():
    # 400 fingerprints; the index adds errors of 0.05, ten times the gap between neighbours in the ranking.
    random = np.random.default_rng(1)
    stored, queries = unit(random.standard_normal((400, 16))), unit(random.standard_normal((20, 16)))
    true = queries @ stored.T
    blurred = true + random.normal(0, 0.05, true.shape)
    fetched = np.argsort(-blurred, axis=1)[:, :100]
    found = candidates(*[(row, number, blurred[row, number]) for row in range(20) for number in fetched[row]])
    exact = rescore(found, queries, lambda ids: stored[ids], limit=10).segment_ids.reshape(20, 10)
    best = np.argsort(-true, axis=1)[:, :10]
    recall = [np.mean([np.isin(b, e).mean() for b, e in zip(best, got)]) for got in (exact, fetched[:, :10])]
    assert recall[0] > 0.999 > 0.9 > recall[1]


def test_fingerprints_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"2 segments need fingerprints \(2, 2\), got \(1, 2\)"):
        rescore(candidates((0, 1, 0), (0, 2, 0)), unit([[1, 0]]), lambda _ids: np.ones((1, 2), np.float32), limit=1)

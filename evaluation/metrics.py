"""Metrics: what was ranked, and what is true -> numbers. Here is the definition of everything that asid measures.

One query. Its ranking is a row of hits, best first: True where a reference is relevant. `relevant` counts all that the
query samples, returned or not; a query with none is sample-free and has no value in this group.

    average precision        sum over the hits of (hits so far / rank), divided by `relevant`; what was not returned
                             adds nothing. divide_by="found": divided by the hits within the cut, 0 without any.
    hit rate N               1 where a hit stands among the first N, else 0.
    candidate recall         share of the relevant references that the index returned, before any scoring.
    normalised average rank  mean over the relevant references of (wrong ones before it / all wrong ones of the
                             catalogue): 0 perfect, 1 worst, 0.5 by chance where everything is returned. What was not
                             returned stands behind all wrong ones. (CLEWS, where it is from, prints 100 times this.)

Equal scores are ordered by the protocol before they come here (`strict`: wrong references first). For places, tempo
and transposition see evaluation/localisation.py.

All queries. `evaluate` takes the columns of results.parquet.

    map, hit_rate_N, candidate_recall, normalised_average_rank, query_iou, reference_iou
                             means over the queries that have a value. Places are thus those of what was found: read
                             them beside the hit rates.
    within_1_s               share of these whose strongest occurrence starts within 1 s of an annotated one on both
                             sides.
    tempo_error, transposition_error
                             medians (ratio; semitones), so that one gross error does not hide the usual size.
    right_query_iou, tempo_within_2_percent, transposition_within_half_semitone, transposition_told, repetitions_listed
                             of the right matches alone, the queries whose first-ranked reference is relevant: the
                             median IoU of query spans; the share whose tempo ratio is within 2 %, and whose
                             transposition is within half a semitone of the annotated one; the share that states a
                             transposition at all; the share of their annotated repetitions that are each listed as an
                             occurrence of its own (evaluation/localisation.py). What is not stated is neither within
                             nor listed; transposition_told tells it from the wrong. NaN where none states any.
    auroc                    probability that a sampled query scores above a sample-free one, ties half. A sampled
                             query has the score of its best relevant reference, -inf where none was returned; a
                             sample-free query its best score, -inf where nothing was returned.
    false_alarm_rate         share of the sample-free queries that the peer answers at its own operating point.
    recall_at_P_percent      share of the sampled queries whose first-ranked reference is relevant and scores above the
                             lowest threshold that at most P % of the sample-free queries exceed; where a system states
                             confidences, the threshold is one of confidence. Of n sample-free queries
                             floor(n P / 100) may exceed it: with n < 100, "1 %" means none of these n, and a true rate
                             of up to about 3 / n cannot be told from 0.
    calibration_error        expected calibration error: top answers, those of sample-free queries too, in 10 bins of
                             equal width by confidence; mean over the answers of |share correct - mean confidence| of
                             their bin. Chance alone makes it about 0.8 sqrt(p (1 - p) / answers in a bin), not 0.

What cannot be computed is NaN, never 0. Functions over queries take `counts`, how often each query was drawn:
(queries,) gives a number, (draws, queries) a number per draw. So the bootstrap runs the very formula of the value.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.averages import Counts, counted, mean, median, ratio

Columns = Mapping[str, NDArray]

_MEANS = {
    "map": "ap",
    "hit_rate_1": "hit_1",
    "hit_rate_3": "hit_3",
    "hit_rate_5": "hit_5",
    "hit_rate_10": "hit_10",
    "candidate_recall": "candidate_recall",
    "query_iou": "query_iou",
    "reference_iou": "reference_iou",
    "normalised_average_rank": "normalised_rank",
}
_MEDIANS = {"tempo_error": "tempo_error", "transposition_error": "transposition_error"}
_SHARES = ("ap", "hit_1", "hit_3", "hit_5", "hit_10", "candidate_recall", "query_iou", "reference_iou",
           "normalised_rank", "confidence")  # fmt: skip
_ERRORS = ("start_error", "tempo_error", "transposition_error")
_OTHERS = ("relevant", "top_score", "true_score", "answered", "correct", "tempo_ratio", "transposition")
_REPETITIONS = ("repetitions", "repetitions_listed")  # both unknown in rows of runs that were made before they were
KEYS = (
    "map", "hit_rate_1", "hit_rate_3", "hit_rate_5", "hit_rate_10", "candidate_recall", "auroc", "false_alarm_rate",
    "recall_at_1_percent", "recall_at_5_percent", "calibration_error", "query_iou", "reference_iou", "within_1_s",
    "tempo_error", "transposition_error", "right_query_iou", "tempo_within_2_percent",
    "transposition_within_half_semitone", "transposition_told", "repetitions_listed", "normalised_average_rank",
)  # fmt: skip
_NEAR_TEMPO, _NEAR_PITCH = 0.02, 0.5  # ratio; semitones
_BINS = 10


# One query


def average_precision(
    hits: ArrayLike, relevant: int, *, cut: int | None = None, divide_by: Literal["relevant", "found"] = "relevant"
) -> float:
    """Average precision of one ranking; NaN for a sample-free query."""
    hits = _hits(hits, relevant)
    if not relevant:
        return np.nan
    ranks = np.flatnonzero(hits[:cut]) + 1
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions.sum() / max(1, relevant if divide_by == "relevant" else len(ranks)))


def best_rank(hits: ArrayLike) -> float:
    """Rank of the first hit, from 1; NaN where there is none."""
    ranks = np.flatnonzero(np.asarray(hits, bool)) + 1
    return float(ranks[0]) if len(ranks) else np.nan


def hit_rate(hits: ArrayLike, relevant: int, *, top: int) -> float:
    """1 where a hit stands among the first `top`, else 0; NaN for a sample-free query."""
    return float(_hits(hits, relevant)[:top].any()) if relevant else np.nan


def normalised_rank(hits: ArrayLike, relevant: int, *, catalogue: int) -> float:
    """Normalised average rank in a catalogue of that many references; NaN where none is relevant or none is wrong."""
    hits = _hits(hits, relevant)
    wrong = catalogue - relevant
    if (~hits).sum() > wrong:
        raise ValueError(f"{len(hits)} references ranked, expected at most the {catalogue} of the catalogue")
    if not relevant or not wrong:
        return np.nan
    before = np.cumsum(~hits)[hits]  # wrong ones before each hit
    lost = relevant - len(before)
    return float((before.sum() / wrong + lost) / relevant)


def candidate_recall(candidates: Collection[str] | None, relevant: Collection[str]) -> float:
    """Share of the relevant references among the candidates; NaN without either (None: the peer has no such stage)."""
    if candidates is None or not relevant:
        return np.nan
    return len(set(candidates) & set(relevant)) / len(set(relevant))


def _hits(hits: ArrayLike, relevant: int) -> NDArray[np.bool_]:
    hits = np.asarray(hits, bool)
    if hits.sum() > relevant:
        raise ValueError(f"{hits.sum()} hits in a ranking, expected at most the {relevant} relevant; rank each once")
    return hits


# All queries


def auroc(
    positives: ArrayLike, negatives: ArrayLike, counts: Counts | None = None, negative_counts: Counts | None = None
) -> NDArray[np.float64]:
    """Probability that a positive scores above a negative, ties half; -inf where nothing was returned."""
    positives, counts = counted(_scores(positives), counts)
    negatives, negative_counts = counted(_scores(negatives), negative_counts)
    above = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    won = ((counts @ above) * negative_counts).sum(axis=-1)
    return ratio(won, counts.sum(axis=-1) * negative_counts.sum(axis=-1))


def false_alarm_rate(answered: ArrayLike, counts: Counts | None = None) -> NDArray[np.float64]:
    """Share of the given sample-free queries that were answered."""
    return mean(np.asarray(answered, float), counts)


def threshold_at(negatives: ArrayLike, *, false_alarms: float, counts: Counts | None = None) -> NDArray[np.float64]:
    """Lowest score that at most that share (0 to below 1) of the sample-free queries exceed; NaN without any."""
    if not 0 <= false_alarms < 1:
        raise ValueError(f"share of false alarms is {false_alarms}, expected 0 to below 1; 5 % is 0.05")
    negatives, counts = counted(_scores(negatives), counts)
    order = np.argsort(-negatives)
    upto = counts[..., order].cumsum(axis=-1)
    allowed = np.floor(false_alarms * counts.sum(axis=-1, keepdims=True) + 1e-9)  # 0.29 * 100 is 28.999…
    return np.append(negatives[order], np.nan)[(upto <= allowed).sum(axis=-1)]


def recall_at_false_alarms(
    top_scores: ArrayLike,
    correct: ArrayLike,
    negatives: ArrayLike,
    *,
    false_alarms: float,
    counts: Counts | None = None,
    negative_counts: Counts | None = None,
) -> NDArray[np.float64]:
    """Share of the sampled queries right above the threshold; `correct`: the first-ranked reference is relevant."""
    threshold = np.asarray(threshold_at(negatives, false_alarms=false_alarms, counts=negative_counts))
    top_scores, counts = counted(_scores(top_scores), counts)
    kept = np.asarray(correct, bool) & (top_scores > threshold[..., None])
    recall = ratio((counts * kept).sum(axis=-1), counts.sum(axis=-1))
    return np.where(np.isnan(threshold), np.nan, recall)[()]


def calibration_error(confidences: ArrayLike, correct: ArrayLike, counts: Counts | None = None) -> NDArray[np.float64]:
    """Expected calibration error of the top answers that have a confidence, in 10 bins of equal width."""
    confidences, counts = counted(confidences, counts)
    known = ~np.isnan(confidences)
    gaps = np.where(known, np.asarray(correct, float) - confidences, 0.0)
    bins = np.clip(np.nan_to_num(confidences) * _BINS, 0, _BINS - 1).astype(int)  # 1.0 belongs to the last bin
    member = np.arange(_BINS) == bins[:, None]  # (queries, bins)
    return ratio(np.abs(counts @ (gaps[:, None] * member)).sum(axis=-1), counts @ known.astype(float))


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(scores, float)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, expected a number; use -inf where nothing was returned")
    return scores


# Everything


def validate(columns: Columns) -> None:
    """ValueError unless the columns are those of results.parquet, equally long, with possible values."""
    missing = sorted({*_SHARES, *_ERRORS, *_OTHERS} - set(columns))
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing, expected the columns of results.row")
    if len({len(columns[name]) for name in (*_SHARES, *_ERRORS, *_OTHERS)}) != 1:
        raise ValueError("columns differ in length, expected one value for each query")
    for name in (*_SHARES, *_ERRORS):
        values = np.asarray(columns[name], float)
        top = 1.0 if name in _SHARES else np.inf
        wrong = values[(values < 0) | (values > top) | np.isinf(values)]
        if len(wrong):
            raise ValueError(f"{name} is {wrong[0]}, expected {'0 to 1' if top == 1 else '0 or more'}, NaN if unknown")
    repetitions, listed = _repetitions(columns)
    if (listed < 0).any() or (listed > repetitions).any():
        raise ValueError("repetitions_listed is not within 0 and repetitions, expected how many of them are listed")
    sampled = np.asarray(columns["relevant"]) > 0
    if not np.array_equal(sampled, ~np.isnan(np.asarray(columns["ap"], float))):
        raise ValueError("ap is known for another set of queries than the sampled ones; NaN marks the sample-free")
    if (np.asarray(columns["correct"], bool) & ~sampled).any():
        raise ValueError("a sample-free query has a correct answer, expected correct=False: whatever it found is wrong")


def evaluate(columns: Columns, counts: Counts | None = None) -> dict[str, NDArray[np.float64]]:
    """Every metric over the queries of one system, in the order of KEYS; NaN where one cannot be computed."""
    validate(columns)
    counts = np.ones(len(columns["relevant"])) if counts is None else counts
    within = np.where(np.isnan(columns["start_error"]), np.nan, np.asarray(columns["start_error"]) <= 1.0)
    values = {key: mean(columns[column], counts) for key, column in _MEANS.items()}
    values |= {key: median(columns[column], counts) for key, column in _MEDIANS.items()}
    values["within_1_s"] = mean(within, counts)
    values["calibration_error"] = calibration_error(columns["confidence"], columns["correct"], counts)
    values |= _detection(columns, counts) | _right_matches(columns, counts)
    return {key: values[key] for key in KEYS}


def _sureness(columns: Columns) -> NDArray[np.float64]:
    """(queries,) what a threshold stands on: the best answer's confidence where all have one, else its score."""
    answered = ~np.isnan(np.asarray(columns["top_score"], float))
    stated = np.asarray(columns["confidence"], float)
    chosen = columns["top_score"] if np.isnan(stated[answered]).any() else stated
    return np.where(answered, chosen, -np.inf)


def _detection(columns: Columns, counts: Counts) -> dict[str, NDArray[np.float64]]:
    """The metrics that set sampled against sample-free queries."""
    sampled = np.asarray(columns["relevant"]) > 0
    of, free = counts[..., sampled], counts[..., ~sampled]
    top, true = (np.where(np.isnan(columns[name]), -np.inf, columns[name]) for name in ("top_score", "true_score"))
    wrong = top[~sampled]
    sure = _sureness(columns)
    correct = np.asarray(columns["correct"], bool)[sampled]
    recalls = {
        f"recall_at_{percent}_percent": recall_at_false_alarms(
            sure[sampled], correct, sure[~sampled], false_alarms=percent / 100, counts=of, negative_counts=free
        )
        for percent in (1, 5)
    }
    return {
        "auroc": auroc(true[sampled], wrong, of, free),
        "false_alarm_rate": false_alarm_rate(np.asarray(columns["answered"])[~sampled], free),
        **recalls,
    }


def _right_matches(columns: Columns, counts: Counts) -> dict[str, NDArray[np.float64]]:
    """The metrics of how relevant references that rank first are explained."""
    right = np.asarray(columns["correct"], bool)
    tempo, pitch = (np.where(right, columns[name], np.nan) for name in ("tempo_error", "transposition_error"))
    repetitions, listed = np.where(right, _repetitions(columns), np.nan)
    tempo_known, pitch_known = (
        right & ~np.isnan(np.where(np.isnan(errors), columns[truth], errors))
        for errors, truth in ((tempo, "tempo_ratio"), (pitch, "transposition"))
    )
    return {
        "right_query_iou": median(np.where(right, columns["query_iou"], np.nan), counts),
        "tempo_within_2_percent": _stated(tempo <= _NEAR_TEMPO, tempo, tempo_known, counts),
        "transposition_within_half_semitone": _stated(pitch <= _NEAR_PITCH, pitch, pitch_known, counts),
        "transposition_told": ratio(counts @ ~np.isnan(pitch), counts @ pitch_known),
        "repetitions_listed": _stated(np.nan_to_num(listed), listed, np.nan_to_num(repetitions), counts),
    }


def _stated(good: NDArray, stated: NDArray[np.float64], known: NDArray, counts: Counts) -> NDArray[np.float64]:
    """Good ones over known ones; NaN where none is stated."""
    share = ratio(counts @ good.astype(float), counts @ known.astype(float))
    return np.where(counts @ ~np.isnan(stated) > 0, share, np.nan)[()]


def _repetitions(columns: Columns) -> NDArray[np.float64]:
    """(2, queries) annotated repetitions and how many of them are listed."""
    unknown = np.full(len(columns["relevant"]), np.nan)
    return np.array([columns.get(name, unknown) for name in _REPETITIONS], float)

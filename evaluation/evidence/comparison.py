"""Comparison: two JSON results of the same queries -> what differs, a line each.

Times agree within a millisecond, tempo ratios within 1e-4, transpositions within 0.01 semitone, scores and confidences
within a thousandth of their value: another number of threads or another processor adds up in another order, and a score
is a sum of squares over a threshold. References are the same where their content is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TIME = 1e-3  # seconds
TEMPO_RATIO = 1e-4
TRANSPOSITION = 0.01  # semitones
SCORE = 1e-3  # of the value


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two documents of exports.py, `then` and `now`; nothing where they agree."""
    rows = zip(then["queries"], now["queries"], strict=True)
    return [line for number, (a, b) in enumerate(rows, start=1) for line in _reply(f"query {number}", a, b)]


def _reply(where: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if bool(then["error"]) != bool(now["error"]):
        return [f"{where}: {then['error'] or 'was answered'} then, {now['error'] or 'is answered'} now"]
    for kind, told in (("matches", "found"), ("same_recording", "the same recording as")):
        were, are = ([m["reference"]["content_hash"] for m in side.get(kind, ())] for side in (then, now))
        if were != are:
            return [f"{where}: {told} {_names(then.get(kind, ()))} then, {_names(now.get(kind, ()))} now"]
    lines = _times(where, "duration", [then["duration"] or 0.0], [now["duration"] or 0.0])
    pairs = zip(then["matches"], now["matches"], strict=True)
    return [
        *lines,
        *(line for rank, (a, b) in enumerate(pairs, start=1) for line in _match(f"{where}, match {rank}", a, b)),
    ]


def _match(where: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    lines = [line for name in ("score", "confidence") for line in _relative(where, name, then[name], now[name])]
    if (were := len(then["occurrences"])) != (are := len(now["occurrences"])):
        return [*lines, f"{where}: {were} occurrences then, {are} now"]
    for number, (a, b) in enumerate(zip(then["occurrences"], now["occurrences"], strict=True), start=1):
        place = f"{where}, occurrence {number}"
        lines += [line for side in ("query_span", "reference_span") for line in _times(place, side, a[side], b[side])]
        lines += _absolute(place, "tempo_ratio", a, b, TEMPO_RATIO)
        lines += _absolute(place, "transposition", a, b, TRANSPOSITION)
    return lines


def _times(where: str, name: str, then: Sequence[float], now: Sequence[float]) -> list[str]:
    # Times are kept to the millisecond: two roundings of nearly the same time may lie one apart.
    if all(abs(a - b) <= TIME + 1e-9 for a, b in zip(then, now, strict=True)):
        return []
    were, are = ("-".join(f"{t:.3f}" for t in times) for times in (then, now))
    return [f"{where}: {name} {were} s then, {are} s now"]


def _relative(where: str, name: str, then: float | None, now: float | None) -> list[str]:
    known = then is not None and now is not None
    same = abs(then - now) <= SCORE * max(abs(then), abs(now)) if known else then is now
    return [] if same else [f"{where}: {name} {then} then, {now} now"]


def _absolute(where: str, name: str, a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float) -> list[str]:
    then, now = a[name], b[name]
    same = then is now if then is None or now is None else abs(then - now) <= tolerance
    return [] if same else [f"{where}: {name} {then} then, {now} now"]


def _names(matches: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(m["reference"]["title"] for m in matches) or "nothing"

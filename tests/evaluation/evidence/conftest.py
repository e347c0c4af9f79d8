"""A query that plays an excerpt of a rendered piece faster and higher, and the reply that says so."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from evaluation.evidence.provenance import Provenance
from evaluation.evidence.replies import Reply
from evaluation.pieces.synthesis import compose, mix, render
from reranker.rank import Match, Occurrence
from reranker.search import Answer
from store.catalogue import Track

RATE = 22_050
RATIO, SEMITONES = 1.1, 2.0
CURSED = '<b>&"x'


@dataclass(frozen=True, kw_only=True)
class Case:
    """Seconds 20 to 26.6 of the reference sound from 3 to 9 s of the query, 1.1 times as fast, 2 semitones higher."""

    query: Path
    reference: Path
    occurrence: Occurrence


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    """Audio as promised; the query lasts 12 s, other music is 12 dB under the sample."""
    folder = tmp_path_factory.mktemp("case")
    piece, other = (mix(render(compose(seed), sample_rate=RATE)) for seed in (3, 4))
    taken = librosa.effects.time_stretch(piece[20 * RATE : round(26.6 * RATE)], rate=RATIO)
    taken = librosa.effects.pitch_shift(taken, sr=RATE, n_steps=SEMITONES)[: 6 * RATE]
    wave = other[5 * RATE : 17 * RATE] * (0.25 * np.std(taken) / np.std(other))
    wave[3 * RATE : 3 * RATE + len(taken)] += taken
    soundfile.write(folder / "song.flac", wave * 0.8 / np.abs(wave).max(), RATE)
    soundfile.write(folder / "source.flac", piece * 0.8 / np.abs(piece).max(), RATE)
    place = Occurrence(query_span=(3.0, 9.0), reference_span=(20.0, 26.6), tempo_ratio=RATIO, transposition=SEMITONES)
    return Case(query=folder / "song.flac", reference=folder / "source.flac", occurrence=place)


@pytest.fixture(scope="session")
def track(case):
    """``track(number=1, **changes)``: the ledger's row of the reference."""

    def row(number=1, **changes):
        now = datetime(2026, 11, 21, tzinfo=UTC)
        values = dict(
            number=number, path=case.reference, content_hash=f"{number:064x}", size=1, mtime_ns=1,
            title=f"{CURSED} {number}", artist="Kiln", isrc="QZES52600001", duration=40.0, state="stored", reason="",
            digest="d" * 64, rows=1, segments=1, claimed_by=None, claimed_until=None, created=now, updated=now,
        )  # fmt: skip
        return Track(**{**values, **changes})

    return row


@pytest.fixture(scope="session")
def reply(case, track):
    """Two matches: the true one with a confidence and two places, and one whose places were not aligned."""
    again = Occurrence(query_span=(9.5, 11.0), reference_span=(20.0, 21.65), tempo_ratio=RATIO, transposition=SEMITONES)
    rough = Occurrence(query_span=(0.0, 4.5), reference_span=(30.0, 34.0))
    matches = (
        Match(reference=track(1), score=431.25, confidence=0.97, occurrences=(case.occurrence, again)),
        Match(reference=track(2, isrc=""), score=130.5, confidence=None, occurrences=(rough,)),
    )
    return Reply(query=case.query, answer=Answer(query=case.query, duration=12.0, matches=matches))


@pytest.fixture(scope="session")
def empty(case):
    """Nothing was found."""
    return Reply(query=case.query, answer=Answer(query=case.query, duration=12.0, matches=()))


@pytest.fixture(scope="session")
def unusable():
    """A query that could not be read."""
    return Reply(query=Path("gone.wav"), answer=None, error="no such file; check the path")


@pytest.fixture(scope="session")
def made():
    """Where the replies come from."""
    return Provenance(
        created="2026-11-21T15:00:00+00:00", command="asid find song.flac --report song.html",
        versions={"asid": "0.1.0"}, system="asid", encoder="e" * 64, reranker=None, verifier="f" * 64,
        ranking={"by": "correlation", "surplus": 120.0, "minimum": 1.0}, include_self=False,
        tracks=2, segments=160, seconds=80.0, minimum=120.0, calibration=None,
    )  # fmt: skip

"""`asid find --stems`, with the shipped weights: the stem of the query in which a sample was planted is named."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr

from encoder import separation
from encoder.audio import AudioError
from evaluation.pieces.planted import SAMPLE_RATE
from evaluation.pieces.synthesis import compose, mix, render
from flows import answers
from reranker.rank import Carried, Match
from reranker.search import Answer

SOURCE = 500_001  # the second piece of the catalogue (seed 5)
LENGTH = 18 * SAMPLE_RATE


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """Path and stems by the planted one: 10 s of the source's drums or chords and lead, from 4 s on, in a new piece."""
    folder = tmp_path_factory.mktemp("queries")
    source = compose(SOURCE)
    theirs, mine = render(source, sample_rate=SAMPLE_RATE), render(compose(77, duration=30.0), sample_rate=SAMPLE_RATE)
    start = round(4 * source.bar * SAMPLE_RATE)
    samples = {"drums": ("drums", "percussion"), "other": ("chords", "lead", "pad")}
    made = {}
    for planted, names in samples.items():
        stems = {"drums": mine["drums"], "bass": mine["bass"], "other": mix(mine, ("chords", "lead", "pad"))}
        stems = {name: 0.3 * wave[start : start + LENGTH] for name, wave in stems.items()}
        stems |= {"vocals": np.zeros(LENGTH, np.float32)}
        stems[planted][4 * SAMPLE_RATE : 14 * SAMPLE_RATE] = mix(theirs, names)[start : start + 10 * SAMPLE_RATE]
        path = folder / f"{planted}.wav"
        soundfile.write(path, 0.8 * mix(stems), SAMPLE_RATE)
        made[planted] = path, stems
    return made


@pytest.fixture
def true_stems(queries, monkeypatch):
    """In place of demucs: the stems that were added up, each with a residue of the others 20 dB down."""

    class TrueStems:
        def __init__(self, model, *, device):
            assert (model, device) == ("htdemucs", "cpu")

        def __call__(self, path, *, sample_rate):
            stems = next(stems for made, stems in queries.values() if made == path)
            whole = mix(stems)
            waves = {name: 0.9 * wave + 0.1 * whole for name, wave in stems.items()}
            return {name: soxr.resample(wave, SAMPLE_RATE, sample_rate) for name, wave in waves.items()}

    monkeypatch.setattr(separation, "Separator", TrueStems)


@pytest.fixture
def answered():
    """One match without places."""
    reference = SimpleNamespace(title="Source", artist="", path=Path("source.wav"))
    match = Match(reference=reference, score=200.0, confidence=None, occurrences=())
    return answers.Reply(query=Path("q.wav"), answer=Answer(query=Path("q.wav"), duration=9.0, matches=(match,)))


@pytest.mark.parametrize("planted", ["drums", "other"])
def test_the_stem_that_holds_the_sample_is_named(asid, catalogue, queries, true_stems, planted, tmp_path):
    path, _ = queries[planted]
    asked = [path, "--data", catalogue, "--min-score", 30, "--top", 1, "--export", tmp_path / "r.json", "--stems"]
    result = asid("find", *asked, "--json")
    assert result.exit_code == 0, result.output
    (reply,) = json.loads(result.stdout)["queries"]
    (match,) = reply["matches"]
    assert match["reference"]["title"] == compose(SOURCE).title
    stems = match["stems"]
    assert stems["carried_by"] == planted
    assert list(stems["shares"]) == ["drums", "bass", "other", "vocals"]
    assert stems["shares"][planted] > 0.7
    assert sum(stems["shares"].values()) == pytest.approx(1.0, abs=1e-3)
    assert json.loads((tmp_path / "r.json").read_text())["queries"] == [reply]
    assert f"      stem: {planted} {stems['shares'][planted]:.2f}\n" in asid("find", *asked).stdout


@pytest.mark.parametrize(
    ("shares", "stem", "line"),
    [
        ({"drums": 0.18, "bass": 0.82}, "bass", "bass 0.82"),
        ({"drums": 0.41, "bass": 0.0, "other": 0.59}, None, "cannot be told (other 0.59, drums 0.41)"),
        ({"drums": 0.0, "bass": 0.0}, None, "cannot be told"),
    ],
)
def test_a_line_tells_the_stem_or_that_it_cannot_be_told(answered, shares, stem, line):
    carried = Carried(shares=shares, stem=stem)
    told = answers.with_stems(answered, lambda query, matches: tuple(replace(m, carried=carried) for m in matches))
    assert answers.to_text(told).splitlines()[2] == f"      stem: {line}"
    assert "stem" not in answers.to_text(answers.with_stems(answered, None))


def test_a_query_that_demucs_cannot_read_keeps_its_matches_beside_the_reason(answered):
    def refuse(query, matches):
        raise AudioError(query, "demucs cannot read it")

    told = answers.with_stems(answered, refuse)
    assert (told.answer, told.error) == (answered.answer, "no stems: demucs cannot read it")
    unread = replace(answered, answer=None, error="no such file")
    assert answers.with_stems(unread, refuse) is unread


def test_what_cannot_be_separated_is_told_before_anything_is_searched(asid, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"")
    nowhere = ["find", tmp_path / "song.wav", "--data", tmp_path / "no catalogue"]
    missing = asid(*nowhere, "--stems", tmp_path / "no weights")
    assert missing.exit_code == 1
    assert (
        missing.stderr
        == f"asid: no folder {tmp_path / 'no weights'} of demucs weights; check the path or give a model's name\n"
    )
    unaligned = asid(*nowhere, "--rank-by", "similarity", "--stems")
    assert unaligned.exit_code == 1
    assert unaligned.stderr == "asid: --stems: references are ranked by similarity, which aligns none; leave one out\n"


def test_a_query_behind_stems_is_not_taken_for_a_model(asid, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"")
    result = asid("find", "--stems", tmp_path / "song.wav")
    assert result.exit_code == 2
    assert "song.wav is a file, expected a model's name or a folder; put --stems last" in result.stderr

"""The main job end to end, with the shipped weights: what is stored is found, where it is."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from flows import assembly
from flows.answers import clock
from flows.find import find_samples
from flows.settings import Settings
from reranker.correlate import Correlator
from reranker.rank import Ranking


def test_an_excerpt_is_found_first_with_its_place_in_the_documented_json(asid, catalogue, excerpt):
    query, source = excerpt
    result = asid("find", query, "--data", catalogue, "--json")
    assert result.exit_code == 0, result.output
    (reply,) = json.loads(result.stdout)["queries"]
    assert (reply["query"], reply["found"], reply["error"]) == (str(query), True, None)
    match = reply["matches"][0]
    assert match["reference"]["path"] == str(source)
    assert 0.9 < match["confidence"] <= 1  # by the shipped calibration
    assert set(match) == {"reference", "score", "confidence", "relation", "occurrences", "stems"}
    assert (match["relation"], match["stems"]) == ("sample", None)
    place = match["occurrences"][0]
    assert set(place) == {"query_span", "reference_span", "tempo_ratio", "transposition", "likeness"}
    # A repeated phrase may be found at another return.
    assert place["query_span"][0] < place["query_span"][1] <= 12.5
    assert place["tempo_ratio"] == pytest.approx(1.0, abs=0.02)
    assert place["transposition"] == pytest.approx(0.0, abs=0.3)


def test_the_table_names_reference_score_and_both_spans(asid, catalogue, excerpt):
    query, source = excerpt
    shown = asid("find", query, "--data", catalogue).stdout
    assert str(source) in shown
    assert " from " in shown


def test_the_very_file_is_left_out_unless_asked_for(asid, catalogue, excerpt):
    _, source = excerpt
    for flags, expected in (((), False), (("--include-self",), True)):
        result = asid("find", source, "--data", catalogue, "--json", *flags)
        found = [m["reference"]["path"] for m in json.loads(result.stdout)["queries"][0]["matches"]]
        assert (str(source) in found) is expected


def test_an_excerpt_with_nothing_over_it_is_the_same_recording_and_no_sample(asid, catalogue, music, tmp_path):
    source = sorted(music.iterdir())[1]
    wave, rate = soundfile.read(source)
    query = tmp_path / "plain.flac"
    soundfile.write(query, 0.3 * wave[20 * rate : 32 * rate], rate)
    (reply,) = json.loads(asid("find", query, "--data", catalogue, "--json").stdout)["queries"]
    assert str(source) not in [m["reference"]["path"] for m in reply["matches"]]
    assert [m["reference"]["path"] for m in reply["same_recording"]] == [str(source)]
    assert "the same recording as  Marta Vale - Winter Harbour" in asid("find", query, "--data", catalogue).stdout
    shown = asid("find", query, "--data", catalogue, "--include-self").stdout
    assert f"({source})  the same recording" in shown


def test_top_and_min_score_limit_what_is_shown(asid, catalogue, excerpt):
    query, _ = excerpt
    one = json.loads(asid("find", query, "--data", catalogue, "--json", "--top", 1, "--rank-by", "similarity").stdout)
    assert len(one["queries"][0]["matches"]) == 1
    none = json.loads(asid("find", query, "--data", catalogue, "--json", "--min-score", 1e9).stdout)
    assert none["queries"][0] | {"duration": 0} == {
        "query": str(query), "found": False, "duration": 0, "error": None, "barred": True, "false_alarms": None,
        "sample_free": none["queries"][0]["sample_free"], "matches": [], "same_recording": [],
    }  # fmt: skip
    assert 0 <= none["queries"][0]["sample_free"] <= 1


def test_more_references_than_a_catalogue_has_change_nothing(asid, catalogue, excerpt):
    query, _ = excerpt
    fast, best = (
        json.loads(asid("find", query, "--data", catalogue, "--json", "--quality", quality).stdout)["queries"][0]
        for quality in ("fast", "best")
    )
    assert fast["matches"] == best["matches"]
    assert "'slow' is not one of 'fast', 'best'" in asid("find", query, "--quality", "slow").stderr


def test_the_flow_answers_a_batch_as_the_command_does(catalogue, excerpt, tmp_path):
    query, source = excerpt
    soundfile.write(tmp_path / "short.wav", np.ones(3200) * 0.1, 16_000)
    replies = find_samples([query, tmp_path / "short.wav"], Settings(data=catalogue))
    assert replies[0].answer.matches[0].reference.path == source
    assert "0.20 s" in replies[1].error


def test_songs_of_two_folders_that_are_called_the_same_have_an_answer_each(catalogue, tmp_path):
    queries = [tmp_path / folder / "song.wav" for folder in ("a", "b", "reports")]
    for query in queries:
        query.parent.mkdir()
        query.write_bytes(b"no audio")
    find_samples(queries[:2], Settings(data=catalogue), reports=tmp_path / "new")
    find_samples(queries[2:], Settings(data=catalogue), reports=tmp_path / "reports")  # as the inbox does
    told = json.loads((tmp_path / "new" / "song-2.wav.json").read_text())["queries"][0]["query"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["song-2.wav.json", "song.wav.json"]
    assert told == str(queries[1])
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["song.wav", "song.wav.json"]


@pytest.mark.parametrize(
    ("option", "value", "reader"),
    [
        ("reranker", "no.safetensors", "reranker"),
        ("false-alarms", "0.05", "correlation"),
        ("quality", "best", "correlation"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(asid, option, value, reader):
    for way in {"correlation", "reranker", "similarity", "own"} - {reader}:
        result = asid("find", "song.wav", "--rank-by", way, f"--{option}", value)
        assert result.exit_code == 2
        assert f"--{option}: --rank-by {way} does not read it, {reader} does; leave one out" in result.stderr


def test_seconds_are_shown_as_a_clock():
    assert [clock(s) for s in (0, 5.04, 59.96, 61.5, 3600)] == ["0:00.0", "0:05.0", "1:00.0", "1:01.5", "60:00.0"]


def test_a_score_as_the_bar_is_told_where_no_calibration_fits(tmp_path, caplog):
    other = SimpleNamespace(digest="0" * 64)  # an encoder that nobody calibrated
    for ranking, told in ((Ranking(), 1), (Ranking(surplus=50.0), 0)):  # who sets a bar needs no word
        caplog.clear()
        assert assembly._calibration(Settings(data=tmp_path, ranking=ranking), other, Correlator()) is None
        assert len([r for r in caplog.records if "score of 250" in r.message]) == told

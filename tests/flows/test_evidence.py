"""`asid find` keeps its evidence, and `asid verify` repeats it, with the shipped weights on a real catalogue."""

import json
import os
import shutil

import pandas as pd
import pytest


def test_one_question_is_kept_as_page_exports_and_bundle_and_the_bundle_is_repeated(asid, catalogue, excerpt, tmp_path):
    query, _ = excerpt
    wanted = ["--report", tmp_path / "song.html", "--bundle", tmp_path / "kept"]
    for name in ("r.csv", "r.json", "labels.txt"):
        wanted += ["--export", tmp_path / name]
    asked = asid("find", query, "--data", catalogue, "--json", *wanted)
    assert asked.exit_code == 0, asked.output
    printed = json.loads(asked.stdout)  # nothing else on stdout
    assert json.loads((tmp_path / "r.json").read_text()) == printed
    assert (tmp_path / "song.html").read_text().count("<audio") >= 5
    assert pd.read_csv(tmp_path / "r.csv")["match_percent"][0] > 50
    assert asked.stderr.count("wrote ") == 5

    repeated = asid("verify", tmp_path / "kept", "--data", catalogue, "--json")
    assert repeated.exit_code == 0, repeated.output
    assert json.loads(repeated.stdout) == {"repeated": True, "differences": [], "notes": []}

    (tmp_path / "mine.toml").write_text("[ranking]\ntop = 3\n")  # what this machine is set to is of no account
    repeated = asid("verify", tmp_path / "kept", "--data", catalogue, "--settings", tmp_path / "mine.toml")
    assert repeated.exit_code == 0, repeated.output

    (tmp_path / "kept" / "catalogue.csv").unlink()
    (tmp_path / "kept" / "catalogue.csv").write_text("number,content_hash,path\n")
    changed = asid("verify", tmp_path / "kept", "--data", catalogue)
    assert changed.exit_code == 1
    assert "differs  catalogue.csv: was changed (SHA-256)" in changed.stdout
    assert "references added since: 4" in changed.stdout
    assert changed.stdout.splitlines()[-1] == "1 difference: the result is not repeated"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (("--export", "r.xls"), "suffix is '.xls', expected .json"),
        (("--report", "song.pdf"), "suffix is '.pdf', expected .html"),
        (("--bundle", "/"), "is not empty, expected a new folder"),
        (("--export", f"{__file__}/r.csv"), f"r.csv: {__file__} is no folder that may be written; choose another"),
        (("--report", f"{__file__}/new/r.html"), f"r.html: {__file__} is no folder that may be written"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_searched(asid, tmp_path, wanted, told):
    result = asid("find", "song.wav", "--data", tmp_path / "no catalogue", *wanted)
    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_verifying_something_else_is_told(asid, tmp_path):
    result = asid("verify", tmp_path)
    assert result.exit_code == 1
    assert "no provenance.json, expected a folder written by asid find --bundle" in result.stderr
    told = {"ranking": {"new": 1}, "include_self": False, "queries": []}
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    result = asid("verify", tmp_path)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "unknown key 'new', expected some of by, " in result.stderr


def test_an_export_that_cannot_be_written_costs_no_answer(asid, catalogue, excerpt, tmp_path):
    (tmp_path / "r.csv").mkdir()
    result = asid("find", excerpt[0], "--data", catalogue, "--json", "--export", tmp_path / "r.csv")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["queries"][0]["found"]


def test_a_query_whose_name_is_no_text_is_bundled_and_refused_again(asid, catalogue, excerpt, tmp_path):
    query = tmp_path / os.fsdecode(b"caf\xe9.wav")
    shutil.copy(excerpt[0], query)
    asked = asid("find", query, "--data", catalogue, "--bundle", tmp_path / "kept", "--json")
    assert asked.exit_code == 1  # a name that is not UTF-8 is refused
    assert (tmp_path / "kept" / "SHA256SUMS").is_file(), asked.output
    repeated = asid("verify", tmp_path / "kept", "--data", catalogue)
    assert repeated.exit_code == 0, repeated.output

"""The command line: quick help, results on stdout, one line and the right exit code for whatever is wrong."""

import json
import subprocess
import sys

import click
import numpy as np
import pytest
import soundfile

from flows.cli import main

HEAVY = ("torch", "prefect", "pymilvus", "zarr", "pandas", "librosa")


def commands(group, prefix=()):
    for name, command in group.commands.items():
        yield (*prefix, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


@pytest.mark.parametrize("command", [(), *commands(main)], ids=" ".join)
def test_help_is_given_and_every_option_is_explained(asid, command):
    result = asid(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    found = main
    for name in command:
        found = found.commands[name]
    assert found.help
    assert all(option.help for option in found.params if isinstance(option, click.Option))


def test_the_command_line_imports_nothing_heavy_before_a_command_runs():
    code = f"import sys, flows.cli; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def one_line(result, *words):
    """The error is one line that holds these words, and the command did not succeed."""
    assert result.exit_code in (1, 2), result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith(("asid:", "Error:"))]
    assert len(errors) == 1, result.stderr
    assert all(word in errors[0] for word in words), errors[0]
    assert "Traceback" not in result.stderr


def test_a_missing_path_is_told_by_ingest_and_find(asid, tmp_path, catalogue):
    one_line(asid("ingest", tmp_path / "nowhere", "--data", tmp_path / "d"), "nowhere", "no such file")
    one_line(asid("find", tmp_path / "nowhere.wav", "--data", catalogue), "nowhere.wav", "no such file")


def test_a_folder_without_audio_is_told(asid, tmp_path):
    (tmp_path / "empty").mkdir()
    one_line(asid("ingest", tmp_path / "empty", "--data", tmp_path / "d"), "no audio file")


def test_ingesting_nothing_but_a_bad_file_is_exit_1_with_its_reason(asid, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    for path in (tmp_path / "text.wav", tmp_path):
        result = asid("ingest", path, "--data", tmp_path / "d")
        assert result.exit_code == 1
        assert sum("text.wav: " in line for line in result.stdout.splitlines()) == 1
        assert "Traceback" not in result.stderr


def test_a_device_that_is_not_there_is_told(asid, tmp_path, music):
    one_line(asid("find", next(music.glob("*.flac")), "--data", tmp_path, "--device", "cudaa"), "'cudaa'", "cpu")


def test_asking_an_empty_place_says_to_ingest_first(asid, tmp_path, music):
    one_line(asid("find", next(music.glob("*.flac")), "--data", tmp_path / "nothing"), "asid ingest")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.wav", b"this is no audio", ["text.wav"]),
        ("nothing.wav", b"", ["0 bytes"]),
    ],
)
def test_a_file_that_is_no_audio_is_one_line_of_find(asid, tmp_path, catalogue, name, content, words):
    (tmp_path / name).write_bytes(content)
    one_line(asid("find", tmp_path / name, "--data", catalogue), *words)


def test_too_short_a_query_is_one_line_and_the_other_queries_are_answered(asid, tmp_path, catalogue, music):
    short = tmp_path / "short.wav"
    soundfile.write(short, np.ones(3200) * 0.1, 16_000)  # 0.2 s
    result = asid("find", short, next(music.glob("*.flac")), "--data", catalogue, "--json")
    one_line(result, "0.20 s", "at least 0.5 s")
    replies = json.loads(result.stdout)["queries"]
    assert [bool(r["error"]) for r in replies] == [True, False]


def test_silence_is_answered_with_no_sample_found(asid, tmp_path, catalogue):
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, np.zeros(160_000), 16_000)
    result = asid("find", quiet, "--data", catalogue)
    assert result.exit_code == 0
    assert "no sample found" in result.stdout


def test_a_checkpoint_of_another_kind_is_refused(asid, tmp_path, catalogue, music):
    from reranker.checkpoint import shipped

    query = next(music.glob("*.flac"))
    one_line(asid("find", query, "--data", catalogue, "--encoder", shipped()), "expected a System")
    one_line(asid("find", query, "--data", catalogue, "--encoder", tmp_path / "no.safetensors"), "no such checkpoint")


def test_a_catalogue_of_another_encoder_is_refused_and_stays_as_it_is(asid, tmp_path, catalogue, music):
    from encoder import checkpoint, systems

    other = tmp_path / "other.safetensors"
    checkpoint.save(other, systems.PUBLISHED, systems.PUBLISHED.build(), provenance={})
    one_line(asid("ingest", music, "--data", catalogue, "--encoder", other), "digest", "another data directory")
    assert json.loads(asid("info", "--data", catalogue, "--json").stdout)["catalogue"]["stored"] == 4


def test_an_unknown_setting_is_refused(asid, tmp_path, music):
    (tmp_path / "s.toml").write_text("tempo = 3\n")
    one_line(asid("ingest", music, "--settings", tmp_path / "s.toml"), "unknown key 'tempo'")


def test_info_tells_versions_digest_counts_and_sizes(asid, catalogue):
    facts = json.loads(asid("info", "--data", catalogue, "--json").stdout)
    assert facts["catalogue"]["stored"] == 4
    assert 1 <= facts["bytes"]["node_matrices"] / (32 * 64 * facts["catalogue"]["segments"]) < 1.5  # compact
    assert len(facts["encoder_digest"]) == 64
    assert facts["versions"]["torch"].startswith("2.13")


def test_info_of_a_place_without_a_catalogue_is_no_error(asid, tmp_path):
    assert json.loads(asid("info", "--data", tmp_path, "--json").stdout)["catalogue"] is None


def test_info_lists_the_systems(asid):
    assert {"asid", "neuralsampleid", "neuralsampleid-published"} <= set(
        json.loads(asid("info", "--systems", "--json").stdout)
    )


def test_every_command_is_documented_in_the_readme(request):
    readme = (request.config.rootpath / "README.md").read_text()
    missing = [c for c in commands(main) if f"asid {' '.join(c)}" not in readme]
    assert not missing

"""Broken and crafted files through `asid ingest`: the process lives, ends, stays small, and tells of every file.

ASID_HOSTILE_FILES=2400 has so many instead of 150 (five minutes a thousand on one core); `pytest -s` prints the counts.
"""

import collections
import json
import os
import re
from pathlib import Path

import pytest

from benchmarks import mutations

FILES = int(os.environ.get("ASID_HOSTILE_FILES", "150"))
SEED = 6
MEMORY = 1_500  # MiB, of which PyTorch and the store take about 600 before the first file
STARTING = 240  # seconds, with a Prefect server of its own
PER_FILE = 3  # seconds


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    """Name -> mutant, written into the folder `audio` of the same directory as everything else."""
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "audio").mkdir()
    made = {}
    for mutant in mutations.mutants(mutations.sources(directory / "sources"), count=FILES, seed=SEED):
        (directory / "audio" / mutant.name).write_bytes(mutant.data)
        made[mutant.name] = mutant
    os.mkfifo(directory / "audio" / "pipe.wav")
    (directory / "audio" / "away.wav").symlink_to("/etc/hostname")
    (directory / "audio" / "folder.wav").mkdir()
    return directory, made


@pytest.fixture(scope="module")
def run(asid, mutants):
    directory, _ = mutants
    limit = STARTING + PER_FILE * FILES
    return asid("ingest", directory / "audio", "--data", directory / "data", "--json", limit=limit)


@pytest.fixture(scope="module")
def summary(run):
    return json.loads(run.output)


def test_every_file_is_stored_or_refused_with_one_line_and_the_process_lives(mutants, run, summary):
    _, made = mutants
    assert run.status == 0, run.errors[-2000:]
    assert "Traceback" not in run.errors
    failures = {Path(failure["path"]).name: failure["reason"] for failure in summary["failures"]}
    assert summary["stored"] + summary["failed"] == len(made) + 2  # and the pipe and the link
    assert set(failures) <= {*made, "pipe.wav", "away.wav"}
    assert {"pipe.wav", "away.wav"} <= set(failures)
    for reason in failures.values():
        assert reason.isprintable()
        assert 10 < len(reason) < 500
        assert not re.search(r" @ 0x|Error:|\bNone\b", reason), reason
    _report(run.seconds, run.megabytes, made, failures)


def test_what_is_no_audio_is_never_stored_and_whole_files_are_whatever_their_suffix(mutants, summary):
    _, made = mutants
    failed = {Path(failure["path"]).name for failure in summary["failures"]}
    assert {name for name, one in made.items() if one.kind in ("short", "impostor")} - failed == set()
    whole = {name for name, one in made.items() if one.kind == "whole" and "rare" not in name}
    assert len(whole) > FILES / 30
    assert whole & failed == set()


def test_memory_stays_bounded(run):
    assert run.megabytes < MEMORY


def test_the_ledger_has_a_row_of_every_file(asid, mutants, summary):
    directory, made = mutants
    kept = json.loads(asid("info", "--data", directory / "data", "--json", limit=STARTING).output)["catalogue"]
    assert kept["stored"] == summary["stored"]
    assert kept["stored"] + kept["failed"] >= len(made)  # what was never opened may have rows too
    assert kept["pending"] == 0


def _report(seconds: float, megabytes: int, made: dict[str, mutations.Mutant], failures: dict[str, str]) -> None:
    kinds = collections.Counter((made[name].kind, name in failures) for name in made)
    print(f"\n{len(made)} files in {seconds:.0f} s, at most {megabytes} MiB")
    for kind in sorted({kind for kind, _ in kinds}):
        print(f"  {kind:<9} stored {kinds[kind, False]:4d}  refused {kinds[kind, True]:4d}")
    alike = collections.Counter(re.sub(r"\([^)]*\)", "(...)", re.sub(r"\d[\d.e+]*", "N", r)) for r in failures.values())
    for reason, count in alike.most_common():
        print(f"  {count:5d}  {reason[:140]}")

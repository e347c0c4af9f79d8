"""The landmark fingerprinter's lines are read rightly, and the installed program is called as it wants to be."""

import os
import sys

import numpy as np
import pytest
import soundfile

from evaluation.benchmark import Query
from evaluation.peers import audfprint
from evaluation.peers.audfprint import Audfprint

# Printed by audfprint 20150406 for one query of a rendered catalogue (names shortened).
PRINTED = """\
Sat Nov 21 11:45:06 2026 Reading hash table table.pklz
Read fprints for 12 files ( 83250 hashes) from table.pklz (0.00% dropped)
Sat Nov 21 11:45:11 2026 Analyzed #0 music/query of 18.390 s to 7330 hashes
Matched    5.2 s starting at    9.6 s in music/query to time   12.2 s in tracks/000003 with   340 of  1964 common hashes at rank  0
Matched    5.2 s starting at    4.0 s in music/query to time   12.7 s in tracks/000003 with   280 of  1964 common hashes at rank  0
Matched   10.7 s starting at    4.2 s in music/query to time   34.2 s in tracks/000003 with    73 of  1964 common hashes at rank  0
Matched    9.6 s starting at    4.8 s in music/query to time   13.1 s in tracks/000004 with     9 of   487 common hashes at rank  1
Matched    0.8 s starting at    7.8 s in music/query to time   -2.3 s in tracks/000011 with     9 of   254 common hashes at rank  4
Matched    9.1 s starting at    3.8 s in music/query to time   29.6 s in tracks/000003 with     9 of  1964 common hashes at rank  0
Processed 1 files (18.8 s total dur) in 1.7 s sec = 0.091 x RT
"""  # noqa: E501
NOTHING = "NOMATCH music/query 54.4 sec 17865 raw hashes\nProcessed 1 files (56.4 s total dur) in 2.2 s sec\n"
NAMES = {"tracks/000003": "tram", "tracks/000004": "mirror", "tracks/000011": "parade"}

# Stands in for the program: the same command line, the same lines, but nothing is listened to.
STAND_IN = f"""
import pathlib, sys
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("20150406")
elif arguments[0] == "new":
    names = pathlib.Path(arguments[arguments.index("--list") + 1]).read_text().split()
    for place, name in enumerate(names):
        print(f"Sat Nov 21 11:46:26 2026 ingesting #{{place}}: {{name}} ...")
        if pathlib.Path(name).read_bytes() == b"no audio":
            print(f"wavfile2peaks: Error reading {{name}} skipping")
    pathlib.Path("table.pklz").write_text("")
elif pathlib.Path(arguments[-1]).read_bytes() == b"no audio":
    sys.exit("OSError: wavfile2peaks: Error reading " + arguments[-1])
else:
    assert pathlib.Path("table.pklz").exists()
    print({PRINTED!r})
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program that talks as audfprint does, named by the environment."""
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setenv(audfprint.VARIABLE, f"{sys.executable} {program}")


@pytest.fixture
def catalogue(tmp_path):
    """Twelve files, of which the first cannot be read."""
    paths = {f"track {place}": tmp_path / f"in a folder, {place}.wav" for place in range(12)}
    for path in paths.values():
        path.write_bytes(b"audio")
    paths["track 0"].write_bytes(b"no audio")
    return paths


def silent(what, done, total):
    pass


def test_a_reference_has_the_hashes_of_its_best_alignment():
    found = audfprint.ranked(audfprint.read(PRINTED), NAMES, without=())
    assert [(f.reference, f.score) for f in found] == [("tram", 340.0), ("mirror", 9.0), ("parade", 9.0)]


def test_alignments_half_as_good_as_the_best_are_occurrences():
    tram, mirror, parade = audfprint.ranked(audfprint.read(PRINTED), NAMES, without=())
    # Of 340, 280, 73 and 9 hashes the first two are at least 170; 5.2 s from 9.6 s on end at 14.8 s.
    assert [o.query_span for o in tram.occurrences] == [(9.6, pytest.approx(14.8)), (4.0, pytest.approx(9.2))]
    assert [o.reference_span for o in tram.occurrences] == [(12.2, pytest.approx(17.4)), (12.7, pytest.approx(17.9))]
    assert parade.occurrences[0].reference_span == (-2.3, pytest.approx(-1.5))
    assert mirror.occurrences[0].tempo_ratio is None


def test_no_match_is_an_empty_result():
    assert audfprint.ranked(audfprint.read(NOTHING), NAMES, without=()) == ()


@pytest.mark.parametrize("printed", ["", "Usage: audfprint (new | add | match) [options]"])
def test_other_lines_are_refused(printed):
    with pytest.raises(ValueError, match="expected lines that begin with Matched or NOMATCH"):
        audfprint.read(printed)


def test_the_program_is_called_and_its_answer_read(stand_in, catalogue, tmp_path):
    peer, told = Audfprint(tmp_path / "store"), []
    peer.prepare(catalogue, lambda *step: told.append(step))
    assert told[0] == ("track 0", 1, 12)
    assert told[-1] == ("track 11", 12, 12)
    assert peer.facts["failed"] == {"track 0": "audfprint cannot read it"}
    response = peer.ask(Query(id="q", path=catalogue["track 5"], aliases=frozenset({"track 3"})))
    assert [f.reference for f in response.found] == ["track 4", "track 11"]
    assert response.answered
    assert response.candidates is None


def test_a_second_run_makes_no_table_unless_a_file_changed(stand_in, catalogue, tmp_path):
    def told():
        told, peer = [], Audfprint(tmp_path / "store")
        peer.prepare(catalogue, lambda *step: told.append(step))
        return len(told), len(peer.facts["failed"])

    assert [told(), told()] == [(12, 1), (0, 1)]
    catalogue["track 3"].write_bytes(b"no audio")
    assert told() == (12, 2)


def test_a_query_that_the_program_cannot_use_is_named(stand_in, catalogue, tmp_path):
    peer = Audfprint(tmp_path / "store")
    peer.prepare(catalogue, silent)
    with pytest.raises(ValueError, match="folder, 0.wav: audfprint failed: OSError: wavfile2peaks: Error reading"):
        peer.ask(Query(id="q", path=catalogue["track 0"]))


def test_a_program_that_is_not_installed_has_a_cure(tmp_path, monkeypatch):
    monkeypatch.setenv(audfprint.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere: no such program; install audfprint .* set ASID_AUDFPRINT"):
        Audfprint(tmp_path)


def test_the_installed_program_finds_an_excerpt(tmp_path):
    if not os.environ.get(audfprint.VARIABLE) and not audfprint.shutil.which("audfprint"):
        pytest.skip("audfprint is neither on the PATH nor named in ASID_AUDFPRINT")
    rate, paths = 16_000, {}
    for seed in range(3):
        pitches = np.repeat(np.random.default_rng(seed).integers(0, 40, 40), rate // 4)
        wave = np.sin(np.cumsum(2 * np.pi * 110 * 2 ** (pitches / 12) / rate)) + np.sin(
            np.cumsum(2 * np.pi * 277 * 2 ** (pitches / 12) / rate)
        )
        paths[f"t{seed}"] = tmp_path / f"t {seed}.wav"
        soundfile.write(paths[f"t{seed}"], 0.3 * wave, rate)
    soundfile.write(tmp_path / "query.wav", 0.3 * wave[3 * rate : 8 * rate], rate)
    peer = Audfprint(tmp_path / "store")
    peer.prepare(paths, silent)
    response = peer.ask(Query(id="q", path=tmp_path / "query.wav"))
    assert response.found[0].reference == "t2"
    (start, end), (at, _) = response.found[0].occurrences[0].query_span, response.found[0].occurrences[0].reference_span
    assert at - start == pytest.approx(3.0, abs=0.1)
    assert end - start > 3

"""`asid evaluate noise` from the command line, with a small network, through the store."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from encoder import checkpoint
from encoder.gnn import GraphNetwork, Stage
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogMel
from encoder.systems import System
from encoder.training.pairing import NoisePairing

RATE = 16_000
SYSTEM = System(
    name="small",
    about="for tests",
    front_end=LogMel(bins=36),
    network=GraphNetwork(  # tells music apart with random weights
        stages=(Stage(channels=8), Stage(channels=12, stride=(3, 4), blocks=1)),
        node_channels=16,
        expansion=1,
        pooling="bands",
        hidden=32,
        dimensions=32,
    ),
    grid=SegmentGrid(frames=32, step=3, minimum_samples=16_000),
    pairing=NoisePairing(),
)
ASKED = ("--count", 4, "--length", 1, "--length", 2, "--snr", 60, "--set-aside", 1, "--no-landmark")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Four recordings of 6 s, a new chord every fifth of a second, and a room of one tap."""
    folder = tmp_path_factory.mktemp("tones")
    time = np.arange(RATE // 5) / RATE
    for number in range(4):
        rng = np.random.default_rng(number)
        chords = [sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 4000, 4)) for _ in range(30)]
        soundfile.write(folder / f"{number}.wav", 0.05 * np.concatenate(chords), RATE)
    room = tmp_path_factory.mktemp("room")
    soundfile.write(room / "none.wav", np.eye(1, 100)[0], RATE, subtype="FLOAT")
    return folder, room


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(path, SYSTEM, SYSTEM.build(), provenance={})
    return path


def test_excerpts_that_are_hardly_changed_are_found_in_their_place(tones, weights, asid, tmp_path):
    music, room = tones
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "--responses", room)
    done = asid("evaluate", "noise", music, *ASKED, *where, "--system", f"small={weights}", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "out" / "result.json").read_text())
    shares = {(r["overlap"], r["length"], r["measure"]): r["share"] for r in result["rates"]}
    assert {key[:2] for key in shares} == {(0.5, 1.0), (0.5, 2.0), (0.9, 1.0), (0.9, 2.0)}
    assert shares[0.9, 2.0, "within_50"] == 1.0
    assert shares[0.5, 2.0, "within_250"] == 1.0
    rows = pd.read_parquet(tmp_path / "out" / "answers.parquet")
    assert len(rows) == 2 * 2 * 4  # overlaps, lengths, excerpts
    assert "## small, overlap 0.9" in (tmp_path / "out" / "table.md").read_text()
    # Asked again, it goes by the answers that are kept: with one system's at one overlap away, only these are new.
    kept = sorted((tmp_path / "out" / "kept").iterdir())
    assert len(kept) == 2
    kept[0].unlink()
    again = asid("evaluate", "noise", music, *ASKED, *where, "--system", f"small={weights}", "--json")
    assert again.stderr.count("answers") == 1
    assert json.loads(again.stdout)["rates"] == result["rates"]
    elsewhere = tmp_path / "index.toml"
    elsewhere.write_text("[index]\nnprobe = 1\n")  # another index may give other answers
    other = asid("evaluate", "noise", music, *ASKED, *where, "--system", f"small={weights}", "--settings", elsewhere)
    assert other.stderr.count("answers") == 2


def test_answers_to_other_excerpts_are_not_kept_and_twins_are_asked_once(tones, weights, asid, tmp_path):
    music, rooms = tmp_path / "music", tmp_path / "rooms"
    shutil.copytree(tones[0], music)
    shutil.copytree(tones[1], rooms)
    shutil.copy(music / "0.wav", music / "twin of 0.wav")
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "--responses", rooms)
    command = ("evaluate", "noise", music, *ASKED, *where, "--system", f"small={weights}")
    first = asid(*command, "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["recordings"] == 3  # of four, one is set aside
    assert first.stderr.count("answers") == 2
    assert asid(*command).stderr.count("answers") == 0
    shutil.copy(rooms / "none.wav", rooms / "another.wav")
    assert asid(*command).stderr.count("answers") == 2


def test_a_recording_that_cannot_be_stored_is_told_since_it_could_only_be_missed(tones, weights, asid, tmp_path):
    music = tmp_path / "music"
    shutil.copytree(tones[0], music)
    whole = next(music.glob("*.wav")).read_bytes()
    (music / "cut.wav").write_bytes(whole[: len(whole) // 2])
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
    done = asid("evaluate", "noise", music, *ASKED, *where, "--system", f"small={weights}")
    assert done.exit_code == 1
    assert "cut.wav: is truncated" in done.stderr
    assert "cannot be stored, take them out of the music" in done.stderr


def test_the_untrained_network_stands_beside_and_the_landmark_fingerprinter_is_left_out_with_a_line(
    tones, weights, asid, tmp_path, monkeypatch
):
    monkeypatch.setenv("ASID_AUDFPRINT", "/nowhere/audfprint")
    music, _ = tones
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
    small = ("--count", 2, "--length", 1, "--snr", 20, "--overlap", 0.5, "--set-aside", 1)
    done = asid("evaluate", "noise", music, *small, *where, "--system", f"small={weights}", "--untrained")
    assert done.exit_code == 0, done.stderr
    assert "## small untrained, overlap 0.5" in done.stdout
    assert "| small, overlap 0.5 | small untrained, overlap 0.5 |" in done.stdout
    assert "without audfprint: /nowhere/audfprint: no such program" in done.stderr


def test_a_system_without_weights_and_too_little_music_are_told_in_one_line(tones, weights, asid, tmp_path):
    music, _ = tones
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache", "--no-landmark")
    missing = asid("evaluate", "noise", music, *where, "--system", "nothing")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("asid: nothing: ")
    assert "train it with `asid train encoder" in missing.stderr
    few = asid("evaluate", "noise", music, *where, "--system", f"small={weights}", "--set-aside", 3)
    assert few.exit_code == 1
    assert "4 recordings, expected 5 or more; give more music, or set fewer aside" in few.stderr


def test_folders_of_noise_and_rooms_are_settings_of_a_recipe():
    from encoder import systems
    from flows.options import tuned

    recipe = tuned(systems.named("grafprint"), ["pairing.noises=/srv/noise", "pairing.level=-5,15", "epochs=3"])
    assert (recipe.pairing.noises, recipe.pairing.level, recipe.schedule.epochs) == ("/srv/noise", (-5.0, 15.0), 3)
    for change, reason in (("pairing.noise=x", "unknown key"), ("pairing.voices=two", "expected voices as int")):
        with pytest.raises(ValueError, match=reason):
            tuned(systems.named("grafprint"), [change])

"""kill -9 while a network learns: the run goes on after its last whole epoch and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.training import state
from encoder.training.midi import SOUNDFONTS
from encoder.training.stem_cache import Stem, StemCacheWriter, StemTrack
from evaluation.sounds import notes
from evaluation.versions import synthetic

pytestmark = pytest.mark.skipif(
    not os.environ.get("ASID_DRILLS"), reason="three runs each of five networks take minutes; ASID_DRILLS=1 runs them"
)
RATE, LONGEST = 16_000, 400  # Hz, seconds of a run
_ASID = "from flows.cli import main; main()"
SHORT = {
    "encoder --system grafprint-small": ("epochs=3", "steps=3", "batch=8", "chunk=8", "validation_pairs=12"),
    "encoder --system resnet18-ibn-small": ("epochs=3", "steps=3", "batch=8", "chunk=8", "validation_pairs=12"),
    "contrast": ("epochs=3", "steps=3", "batch=8", "validation_pairs=12"),
    "versions --system clews-small": ("epochs=3", "steps=2", "anchors=2", "block=25"),
    "sounds": ("epochs=300", "batch=32"),
}


def stems(folder):
    """Tones over noise: nothing that sounds, but stems that differ."""
    rng, t = np.random.default_rng(1), np.arange(8 * RATE) / RATE
    with StemCacheWriter(folder) as writer:
        for number in range(28):
            parts = [0.3 * np.sin(2 * np.pi * 110 * 2 ** (rng.integers(36) / 12) * t * (1 + k)) for k in range(2)]
            noise = 0.1 * rng.standard_normal(len(t)) * (np.sin(2 * np.pi * rng.uniform(1, 4) * t) > 0.5)
            named = tuple(Stem(name=name, start=0, scale=0.0) for name in ("bass", "lead", "drums"))
            split = "train" if number < 14 else "validation"
            track = StemTrack(track=str(number), group=str(number), split=split, stems=named, length=0)
            writer.append(track, [part.astype(np.float32) for part in (*parts, noise)])


def versions(folder):
    settings = synthetic.SyntheticSettings(train=3, validation=2, test=0, versions=3, seconds=30)
    for _ in synthetic.write(folder, settings):
        pass


def tones(folder):
    for _ in notes.write(folder, notes.NoteSettings(programs=(0, 24, 40), kits=())):
        pass


def made(material, tmp_path):
    """The folder of what a network learns from."""
    folder = tmp_path / "material"
    {"versions": versions, "sounds": tones}.get(material, stems)(folder)
    return folder


def begun(command, material, out, changes):
    """The process of `asid train ...`, in a group with the Prefect server that it starts."""
    sets = [part for change in changes for part in ("--set", change)]
    kind, *options = command.split()
    arguments = [sys.executable, "-c", _ASID, "train", kind, material, *options, "--out", out, *sets]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with out.with_suffix(".log").open("w") as log:  # no pipe: a server that outlives its process would hold it open
        return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log, start_new_session=True)


def ended(process, out):
    assert process.wait(timeout=LONGEST) == 0, out.with_suffix(".log").read_text()[-3000:]


def told(out):
    """What every epoch told, but for how long it took."""
    history = torch.load(out / state.FILE, weights_only=True)["history"]
    return [{name: fact for name, fact in epoch.items() if "second" not in name} for epoch in history]


@pytest.mark.parametrize("command", SHORT)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(command, tmp_path):
    if command == "sounds" and not any(path.exists() for path in SOUNDFONTS):
        pytest.skip("no General MIDI soundfont to render notes with; Debian: fluid-soundfont-gm")
    material = made(command.split()[0], tmp_path)
    ended(begun(command, material, tmp_path / "whole", SHORT[command]), tmp_path / "whole")
    killed = begun(command, material, tmp_path / "killed", SHORT[command])
    until = time.monotonic() + LONGEST
    while not (tmp_path / "killed" / state.FILE).exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # before it was through
    done, whole = told(tmp_path / "killed"), told(tmp_path / "whole")
    assert 1 <= len(done) <= len(whole)
    ended(begun(command, material, tmp_path / "killed", SHORT[command]), tmp_path / "killed")
    resumed = told(tmp_path / "killed")
    assert resumed[: len(done)] == done
    assert len(resumed) == len(whole)
    for mine, other in zip(resumed, whole):
        assert mine == pytest.approx(other, rel=1e-3, nan_ok=True)
    assert not list(Path(tmp_path / "killed").glob("*.unfinished"))

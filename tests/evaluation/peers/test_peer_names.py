"""What a user writes behind --system, and a system of the user's own, as docs/peers.md shows it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder import initial, systems
from encoder.encode import Encoder
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers import registry
from evaluation.peers.interface import Found, Response
from evaluation.protocols import STRICT
from evaluation.run import run

RATE = 16_000
DOCUMENT = Path(__file__).parents[3] / "docs" / "peers.md"


@pytest.fixture
def example(tmp_path):
    """The example of docs/peers.md as a file."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    path = tmp_path / "chroma.py"
    path.write_text(code)
    return path


def chord(*semitones, seconds=2.0):
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(0.2 * np.sin(2 * np.pi * 220 * 2 ** (semitone / 12) * time) for semitone in semitones)


def test_the_documented_example_stands_in_the_table(example, tmp_path):
    waves = {"major": chord(0, 4, 7), "minor": chord(2, 5, 9), "query": chord(0, 4, 7, 7, seconds=1.0)}
    paths = {name: tmp_path / f"{name}.wav" for name in (*waves, "broken")}
    for name, wave in waves.items():
        soundfile.write(paths[name], wave, RATE)
    paths["broken"].write_bytes(b"no audio")
    benchmark = Benchmark(
        name="chords",
        references={"major": paths["major"]},
        distractors={"minor": paths["minor"], "broken": paths["broken"]},
        queries=(Query(id="q", path=paths["query"], sampled=(Sampled(sample_id="S1", reference="major"),)),),
    )
    peer = registry.named(str(example))(tmp_path / "peers", protocol=STRICT, device="cpu")
    frame = run(benchmark, [peer], STRICT, tmp_path / "out")
    assert frame[["system", "top_reference", "ap"]].values.tolist() == [["chroma", "major", 1.0]]
    assert set(frame.attrs["peers"]["chroma"]["failed"]) == {"broken"}
    assert (tmp_path / "peers" / "chroma").is_dir()  # a folder of its own


def test_the_documented_example_is_short(example):
    assert len(example.read_text().splitlines()) < 40


def test_the_document_names_every_system_there_is():
    assert [name for name in registry.NAMED if f"| `{name}` |" not in DOCUMENT.read_text()] == []


@pytest.mark.parametrize("text", ["shazam", "=x", "name=", ""])
def test_an_unknown_name_says_what_there_is(text):
    with pytest.raises(ValueError, match="no system is called .*asid-candidates.*audfprint.*mine.py") as caught:
        registry.named(text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine.py: no such file"):
        registry.named(str(tmp_path / "mine.py"))
    with pytest.raises(FileNotFoundError, match="x: .*encoder.safetensors is no file"):
        registry.named(f"x={tmp_path}/encoder.safetensors")


def test_a_file_without_open_or_with_half_a_peer_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("opened = 1\n")
    with pytest.raises(ValueError, match=r"empty.py: has no function open\(folder"):
        registry.named(str(tmp_path / "empty.py"))
    (tmp_path / "half.py").write_text(
        "class Half:\n    name, about = 'half', ''\n    def prepare(self, c, p): ...\n"
        "def open(folder, **options):\n    return Half()\n"
    )
    with pytest.raises(ValueError, match="half.py: what open returned has no 'ask'"):
        registry.named(str(tmp_path / "half.py"))(tmp_path)


def test_weights_that_are_not_installed_have_a_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.resources, "files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match="asid train encoder --system neuralsampleid-published.*import-publ"):
        registry.named("neuralsampleid-published")(tmp_path)


def test_a_system_stands_beside_its_untrained_self(tmp_path):
    peer = registry.named("resnet18-ibn-small=untrained")(tmp_path, protocol=STRICT, device="cpu")
    network = systems.named("resnet18-ibn-small").build()
    loaded = Encoder(tmp_path / "resnet18-ibn-small-untrained.safetensors")
    assert peer.name == "resnet18-ibn-small-untrained"
    assert peer.facts["encoder"] == loaded.digest
    assert {k: v.shape for k, v in loaded.network.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }
    with pytest.raises(ValueError, match="no system is called 'shazam'"):
        registry.named("shazam=untrained")


def test_untrained_weights_are_those_that_training_begins_with():
    system = systems.named("resnet18-ibn-small")
    torch.manual_seed(system.schedule.seed)
    expected = system.build().state_dict()
    found = initial.network(system).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_names_are_looked_up_without_torch():
    code = "import sys, evaluation.peers.registry as r; r.named('asid'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=DOCUMENT.parents[1], check=False).returncode == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"found": (Found(reference="a", score=1.0), Found(reference="b", score=2.0))}, "are not falling"),
        ({"found": (Found(reference="a", score=1.0), Found(reference="a", score=1.0))}, "'a' was found twice"),
        ({"found": (), "answered": True}, "answered, but nothing was found"),
    ],
)
def test_an_impossible_response_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Response(**{"answered": False, **fields})


@pytest.mark.parametrize("fields", [{"score": float("nan")}, {"score": 1.0, "confidence": 1.5}])
def test_an_impossible_find_is_refused(fields):
    with pytest.raises(ValueError, match="found 'a': "):
        Found(reference="a", **fields)

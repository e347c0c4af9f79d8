"""The CLEWS network and its shingles: equal to the released code; its checkpoint files are read, never run."""

import collections
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder import checkpoint
from encoder.clews import Clews, ClewsNetwork, from_released, import_clews, released_sizes
from encoder.constant_q import ConstantQ
from encoder.encode import Encoder
from encoder.released import PublishedError
from encoder.segments import SegmentGrid, blocks
from encoder.systems import System

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
FIXTURES = REFERENCE / "fixtures" / "clews"
TINY = Clews(start=(8, 16), channels=(16, 32, 32, 64), blocks=(2, 2, 1, 1), dimensions=24)


def fixture(name):
    if not (FIXTURES / name).is_file():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(FIXTURES / name))


@pytest.fixture(scope="module")
def tiny():
    return fixture("tiny_clews.npz")


@pytest.fixture(scope="module")
def weights(tiny):
    return {name[3:]: torch.from_numpy(values) for name, values in tiny.items() if name.startswith("sd/")}


@pytest.fixture(scope="module")
def network(weights):
    built = ClewsNetwork(TINY)
    built.load_state_dict(from_released(weights, TINY))
    return built.eval()


@pytest.mark.parametrize("case", ["", "_5s", "_33s_hop5"])
def test_the_network_equals_the_released_code(network, tiny, case):
    with torch.inference_mode():
        nodes, fingerprints = network(torch.from_numpy(tiny[f"in_cqt{case}"][0]))
    np.testing.assert_allclose(nodes[:, 0], tiny[f"out_z{case}"][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(fingerprints, nodes[:, 0] / nodes[:, 0].norm(dim=1, keepdim=True))
    torch.testing.assert_close(network.fingerprints(nodes), fingerprints)


def test_scaling_equals_the_released_code(network):
    expected = fixture("cqt_frontend_20s.npz")
    scaled = network.scaling(torch.from_numpy(expected["cqt_pool5"]).unsqueeze(0))
    np.testing.assert_allclose(scaled[0].detach(), expected["prepared"], rtol=0, atol=1e-5)


def test_a_faint_segment_is_scaled_like_a_loud_one_and_a_silent_one_to_zero():
    scaling, spectra = ClewsNetwork(TINY).scaling, torch.rand(1, 84, 200)
    with torch.inference_mode():
        torch.testing.assert_close(scaling(1e-6 * spectra), scaling(spectra), rtol=0, atol=1e-4)
        assert scaling(torch.zeros(1, 84, 200)).abs().max() == 0  # released: noise, another at each call


@pytest.mark.parametrize(("dimensions", "parameters"), [(1024, 196_793_363), (2048, 198_890_515)])
def test_the_network_has_the_released_number_of_parameters(dimensions, parameters):
    with torch.device("meta"):
        built = Clews(dimensions=dimensions).build(bins=84, frames=200)
    assert sum(p.numel() for p in built.parameters()) == parameters


def test_every_released_weight_finds_its_place():
    listing = REFERENCE / "clews_state_dict_shapes.txt"
    if not listing.is_file():
        pytest.skip("the folder shared, with the list of weights, is not beside the checkout")
    rows = [line.split("\t") for line in listing.read_text().splitlines()]
    released = {name: torch.zeros(eval(shape), device="meta") for name, shape, _ in rows}
    config = released_sizes(released)
    assert config == Clews()
    assert len(from_released(released, config)) == len(rows) - 3 - sum("num_batches" in name for name, *_ in rows)


def test_a_checkpoint_is_imported_without_running_the_settings_in_it(weights, tmp_path, monkeypatch):
    class DictConfig:
        def __setstate__(self, state):
            raise AssertionError("an object of the file came to life")

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = DictConfig
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    settings = DictConfig()
    settings.content = {"type": typing.Any, "zdim": 24, "more": collections.defaultdict(dict)}
    path = tmp_path / "clews.ckpt"
    torch.save({"model": weights, "conf": settings, "epoch": 3, "optim": {"state": {}}}, path)
    imported = import_clews(path)
    assert imported.config == TINY
    torch.testing.assert_close(imported.state_dict(), from_released(weights, TINY) | counters(imported))


def counters(network):
    return {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}


def test_other_objects_and_other_networks_are_refused(weights, tmp_path):
    path = tmp_path / "clews.ckpt"
    torch.save({"model": weights, "conf": Path("x")}, path)
    with pytest.raises(PublishedError, match="holds code or objects, which are never loaded"):
        import_clews(path)
    torch.save({"model": {"proj.1.weight": torch.zeros(2, 2)}}, path)
    with pytest.raises(PublishedError, match="are of no CLEWS network"):
        import_clews(path)
    torch.save({"model": {k: w for k, w in weights.items() if k != "backbone.2.gain"}}, path)
    with pytest.raises(PublishedError, match="1 weights are missing .backbone.2.gain."):
        import_clews(path)


@pytest.mark.parametrize(("length", "hop"), [(20, 20), (20, 5), (20, 10), (47, 5), (60, 5), (5, 5), (10, 3)])
@pytest.mark.parametrize("chunk", [3, 100])
def test_shingles_equal_the_released_framing(length, hop, chunk):
    expected = fixture("framing.npz")
    x = expected["x"][0]
    grid = SegmentGrid(frame_hop=1, frames=length, step=hop, minimum_samples=length, shingled=True)
    cut = blocks((x[i : i + chunk] for i in range(0, len(x), chunk)), grid, 4, size=2)
    shingles = [
        np.lib.stride_tricks.sliding_window_view(block.samples, length)[::hop] for block in cut
    ]  # blocks of two segments
    np.testing.assert_array_equal(np.concatenate(shingles), expected[f"L{length}_H{hop}"][0])
    assert grid.count(len(x)) == len(expected[f"L{length}_H{hop}"][0])


def test_a_short_signal_is_repeated():
    expected = fixture("framing.npz")["short_5_to_20"][0]
    grid = SegmentGrid(frame_hop=1, frames=20, step=5, minimum_samples=20, shingled=True)
    (block,) = blocks([expected[:5]], grid, 4)
    np.testing.assert_array_equal(block.samples, expected)


@pytest.fixture(scope="module")
def system():
    return System(
        name="small-clews",
        about="for tests",
        front_end=ConstantQ(pool=5),
        network=TINY,
        grid=SegmentGrid(frame_hop=1600, frames=200, step=50, minimum_samples=320_000, shingled=True),
    )


@pytest.fixture(scope="module")
def encoder(system, network, tmp_path_factory):
    path = tmp_path_factory.mktemp("clews") / "clews.safetensors"
    checkpoint.save(path, system, network, provenance={}, half=False)
    return Encoder(path, batch=2)


def test_a_waveform_becomes_the_released_embedding(encoder, tiny):
    sound = fixture("cqt_frontend_20s.npz")["wave_int16"].astype(np.float32) / 2**15
    encoding = encoder.encode_waveform(sound)
    assert (encoding.hop, encoding.segment_duration, encoding.node_matrices.shape) == (5.0, 20.0, (1, 1, 24))
    exact = encoder.embed(torch.from_numpy(sound).unsqueeze(0)).node_matrices
    np.testing.assert_allclose(exact[0], tiny["out_z"][0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoding.node_matrices[0], tiny["out_z"][0], rtol=1e-3, atol=1e-3)  # half precision


def test_a_stream_gives_the_shingles_of_the_whole_and_leaves_silent_ones_out(encoder):
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 16_000 * 52).astype(np.float32)  # 20 s every 5 s: starts 0 ... 35, the last wraps
    sound[16_000 * 15 : 16_000 * 36] = 0  # only the segment 15 ... 35 s is silent
    streamed = list(encoder.encode_stream(np.array_split(sound, 7)))[0]
    np.testing.assert_array_equal(streamed.segment_indices, [0, 1, 2, 4, 5, 6, 7])
    last = np.concatenate([sound[16_000 * 35 :], sound[: 16_000 * 3]])
    alone = encoder.embed(torch.from_numpy(last).unsqueeze(0))
    np.testing.assert_allclose(streamed.fingerprints[-1], alone.fingerprints[0], atol=1e-5)


def test_a_track_without_any_sound_has_no_segments(encoder):
    assert len(encoder.encode_waveform(np.zeros(0, np.float32))) == 0
    assert len(encoder.encode_waveform(np.zeros(400_000, np.float32))) == 0


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) entries in channels, blocks, strides, expected one per stage"):
        Clews(channels=(8, 8))
    with pytest.raises(ValueError, match="dimensions is 0, expected more than 0"):
        Clews(dimensions=0)
    with pytest.raises(ValueError, match="bins is 22, expected at least 23"):
        Clews().build(bins=22, frames=200)
    with pytest.raises(ValueError, match="frames is 6, expected at least 7"):
        Clews().build(bins=84, frames=6)

"""Checkpoints: they rebuild the model on their own, say what they are, and nothing but a whole one is accepted."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoder import checkpoint
from encoder.checkpoint import CheckpointError
from encoder.gnn import GraphNetwork
from encoder.systems import KINDS, SYSTEMS


@pytest.fixture
def network(system):
    torch.manual_seed(1)
    return system.build().eval()


def spectra(system, segments=3):
    shape = (segments, system.front_end.bins, system.grid.frames)
    return 20 * torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_the_file_alone_rebuilds_the_model(system, network, tmp_path):
    digest = checkpoint.save(tmp_path / "deep" / "a.safetensors", system, network, provenance={"seed": 1})
    loaded = checkpoint.load(tmp_path / "deep" / "a.safetensors", *KINDS)
    assert loaded.config == system
    assert (loaded.digest, loaded.provenance) == (digest, {"seed": 1})
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.safetensors"]
    rebuilt = loaded.restore(loaded.config.build())
    assert not rebuilt.training
    with torch.no_grad():
        # float16 has 11 bits: a weight is off by at most 1 / 2048
        for expected, found in zip(network(spectra(system)), rebuilt(spectra(system))):
            torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_without_halving_the_outputs_are_the_same_to_the_last_bit(system, network, tmp_path):
    checkpoint.save(tmp_path / "a.safetensors", system, network, provenance={}, half=False)
    loaded = checkpoint.load(tmp_path / "a.safetensors", *KINDS)
    with torch.no_grad():
        found = loaded.restore(loaded.config.build())(spectra(system))
        assert torch.equal(found.fingerprints, network(spectra(system)).fingerprints)


def test_norms_and_running_statistics_are_kept_exactly(system, network, tmp_path):
    norm = network.stages[1].norm
    norm.running_var.fill_(1e6)  # more than float16 holds
    checkpoint.save(tmp_path / "a.safetensors", system, network, provenance={})
    loaded = checkpoint.load(tmp_path / "a.safetensors", *KINDS)
    assert torch.equal(loaded.restore(system.build()).stages[1].norm.running_var, norm.running_var)


def test_saving_loading_and_saving_again_gives_the_same_digest(system, network, tmp_path):
    first = checkpoint.save(tmp_path / "a.safetensors", system, network, provenance={"try": 1})
    loaded = checkpoint.load(tmp_path / "a.safetensors", *KINDS)
    again = loaded.restore(loaded.config.build())
    assert checkpoint.save(tmp_path / "b.safetensors", loaded.config, again, provenance={"try": 2}) == first
    assert len(first) == 64


def test_a_changed_weight_or_setting_changes_the_digest(system, network, changed, tmp_path):
    path = tmp_path / "a.safetensors"
    digests = {checkpoint.save(path, system, network, provenance={})}
    digests.add(checkpoint.save(path, changed(system, grid={"step": 4}), network, provenance={}))
    digests.add(checkpoint.save(path, dataclasses.replace(system, about="other"), network, provenance={}))
    with torch.no_grad():
        network.projector.layers[0].bias[0] += 1e-3
    digests.add(checkpoint.save(path, system, network, provenance={}))
    assert len(digests) == 4


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_named_system_survives_the_way_through_json(name, tmp_path):
    plain = json.loads(json.dumps(checkpoint.to_plain(SYSTEMS[name])))
    assert checkpoint.from_plain(plain, {kind.__name__: kind for kind in KINDS}, tmp_path) == SYSTEMS[name]


def refusal(path, *kinds):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, *(kinds or KINDS))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_checkpoint_is_refused_in_one_line(saved, tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "nowhere")
    assert "no such checkpoint" in refusal(tmp_path)
    path = tmp_path / "a.safetensors"
    for data in (b"", b"hello", saved.read_bytes()[:-100], saved.read_bytes()[:50], pickle.dumps({"a": 1})):
        path.write_bytes(data)
        assert "is no asid checkpoint" in refusal(path)


def test_a_torch_file_is_refused_and_nothing_in_it_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    torch.save({"state_dict": Trap()}, tmp_path / "model.pth")
    assert "import-published" in refusal(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()


def test_safetensors_of_another_program_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}, {"asid": "{}"}, {"asid": "[1]"}, {"asid": "no json"}):
        save_file({"weight": torch.ones(2)}, path, metadata=metadata)
        assert "is no asid checkpoint" in refusal(path)


def test_a_checkpoint_of_another_kind_is_refused(saved, system):
    assert "holds a System, expected a GraphNetwork" in refusal(saved, GraphNetwork)


def test_any_damaged_byte_is_noticed_unless_it_only_tells_where_the_weights_come_from(saved, tmp_path):
    data, path = saved.read_bytes(), tmp_path / "a.safetensors"
    whole = checkpoint.load(saved, *KINDS)
    rng = np.random.default_rng(0)
    places = [*range(8), *rng.integers(8, 6000, 60), *rng.integers(6000, len(data), 20)]
    refused = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            assert checkpoint.load(path, *KINDS).digest == whole.digest
        except CheckpointError:  # and no other error
            refused += 1
    assert refused > 0.9 * len(places)


def test_a_configuration_of_another_version_is_refused(saved, tmp_path):
    path = tmp_path / "a.safetensors"
    weights, plain = load_file(saved), checkpoint.to_plain(checkpoint.load(saved, *KINDS).config)
    front_end = plain["front_end"]
    changes = (
        {"speed": 9},  # an unknown key
        {"front_end": front_end | {"kind": "Wavelet"}},
        {"front_end": front_end | {"octaves": 7}},
        {"grid": plain["grid"] | {"step": 0}},  # a value that is refused today
    )
    for change in changes:
        config = plain | change
        header = {"format": 1, "config": config, "provenance": {}, "digest": checkpoint.digest(config, weights)}
        save_file(weights, path, metadata={"asid": json.dumps(header)})
        assert "configuration is not of this version" in refusal(path)
    save_file(weights, path, metadata={"asid": json.dumps(header | {"format": 2})})
    assert "has format 2, expected 1; update asid" in refusal(path)


def test_weights_that_do_not_fit_are_refused(system, saved, changed):
    other = changed(system, network={"dimensions": 8}).build()
    with pytest.raises(CheckpointError, match="weights do not fit their configuration") as caught:
        checkpoint.load(saved, *KINDS).restore(other)
    assert "\n" not in str(caught.value)

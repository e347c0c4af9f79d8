"""The released network: equal to what the released code computes; its checkpoint files are read, never run."""

import numpy as np
import pytest
import torch

from encoder.published import Published, PublishedNetwork, from_released, import_encoder
from encoder.released import PublishedError, read_released

SMALL = Published(bins=8, frames=16, channels=(8, 16), blocks=(1, 1), pooled=16, hidden=16, dimensions=8, neighbours=2)


@pytest.fixture(scope="session")
def weights(released_weights):
    return released_weights("encoder")


def network(weights, graph_blocks):
    config = Published(graph_blocks=graph_blocks)
    built = PublishedNetwork(config)
    built.load_state_dict(from_released(weights, config))
    return built.eval()


def saved(path, content):
    torch.save(content, path)
    return path


def test_the_bypassed_network_equals_the_released_code(weights, outputs):
    expected = outputs("proc_1")
    bypassed = network(weights, "bypassed")
    with torch.inference_mode():
        nodes, fingerprints = bypassed(torch.from_numpy(expected["logmel"]))
        pooled = bypassed.pooled(nodes.mean(dim=1))
    np.testing.assert_allclose(nodes.mT, expected["nodes"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pooled, expected["h"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(fingerprints, expected["z"], rtol=0, atol=1e-5)


def test_the_network_with_active_graph_blocks_equals_the_released_code_with_them(weights, outputs):
    expected = outputs("proc_1")
    with torch.inference_mode():
        # In double precision: which of two nearly equally near nodes is a neighbour hangs on the processor's rounding.
        nodes, fingerprints = network(weights, "active").double()(torch.from_numpy(expected["logmel"]).double())
    # These nodes reach 3800 (twelve blocks without a norm at the end): 1e-5 of the largest.
    scale = np.abs(expected["graphon_sorted_nodes"]).max()
    np.testing.assert_allclose(nodes.mT, expected["graphon_sorted_nodes"], rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(fingerprints, expected["graphon_sorted_z"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("graph_blocks", "parameters"), [("bypassed", 5_768_328), ("active", 20_218_888)])
def test_the_network_has_the_released_number_of_parameters(graph_blocks, parameters):
    with torch.device("meta"):
        built = PublishedNetwork(Published(graph_blocks=graph_blocks))
    assert sum(p.numel() for p in built.parameters()) == parameters


def test_a_training_checkpoint_with_module_prefixes_and_numbers_gives_the_same_network(weights, tmp_path):
    content = {
        "epoch": 180,
        "loss": np.float64(0.5),
        "valid_acc": [0.25, 0.5],
        "state_dict": {f"module.{key}": weight for key, weight in weights.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 8e-5}]},
    }
    imported = import_encoder(saved(tmp_path / "model.pth", content))
    spectra = torch.rand(2, 64, 128)
    expected = network(weights, "bypassed")(spectra)
    assert not imported.training
    torch.testing.assert_close(imported(spectra), expected, rtol=0, atol=0)


def test_weights_of_graph_blocks_and_batch_counters_may_be_absent_where_nothing_reads_them(weights):
    alive = {
        key: weight
        for key, weight in weights.items()
        if not key.endswith("num_batches_tracked")
        and (".backbone." not in key or key.split(".")[2] in ("2", "5", "12"))
    }
    assert len(alive) < len(weights) / 4
    network(alive, "bypassed")
    with pytest.raises(PublishedError, match=r"weights are missing \(encoder\.backbone\.0\.0\.conv\.nn\.0\.bias, "):
        network(alive, "active")


def test_unexpected_and_misshapen_weights_are_named(weights):
    with pytest.raises(PublishedError, match=r"1 weights are unexpected \(encoder\.pos_embed\)"):
        network({**weights, "encoder.pos_embed": torch.zeros(1)}, "bypassed")
    with pytest.raises(PublishedError, match=r"1 weights have another shape \(projector\.2\.bias \(64,\)\)"):
        network({**weights, "projector.2.bias": torch.zeros(64)}, "bypassed")


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"

    class Code:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save({"state_dict": {}, "config": Code()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(PublishedError, match="holds code or objects, which are never loaded"):
            import_encoder(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no .pth checkpoint"),
        (b"", "is no .pth checkpoint"),
    ],
)
def test_files_that_are_no_checkpoint_are_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(PublishedError, match=reason):
        import_encoder(path)


def test_missing_truncated_and_foreign_files_are_refused_with_the_reason(tmp_path):
    with pytest.raises(PublishedError, match="no such file"):
        import_encoder(tmp_path / "absent.pth")
    whole = saved(tmp_path / "whole.pth", {"a": torch.zeros(1000)}).read_bytes()
    (tmp_path / "part.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PublishedError, match="only a part of one"):
        import_encoder(tmp_path / "part.pth")
    with pytest.raises(PublishedError, match="holds no dictionary of weights"):
        import_encoder(saved(tmp_path / "list.pth", [1, 2]))


def test_weights_saved_before_the_zip_format_are_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"module.a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read_released(path), {"a": torch.ones(2)})


@pytest.mark.parametrize("graph_blocks", ["bypassed", "active"])
def test_a_constant_segment_has_a_finite_fingerprint_of_length_one(graph_blocks):
    small = Published(**{**vars(SMALL), "graph_blocks": graph_blocks})
    nodes, fingerprints = PublishedNetwork(small).eval()(torch.full((1, 8, 16), -100.0))
    assert torch.isfinite(nodes).all()
    # 8 / 4 x 16 / 8 = 4 patches, halved once
    assert nodes.shape == (1, 2, 16)
    torch.testing.assert_close(fingerprints.norm(dim=1), torch.ones(1))


def test_every_weight_that_is_used_is_trained():
    small = PublishedNetwork(Published(**{**vars(SMALL), "graph_blocks": "active"}))
    small(torch.randn(3, 8, 16)).fingerprints[:, 0].sum().backward()
    assert all(p.grad is not None for p in small.parameters())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"graph_blocks": "some"}, "graph_blocks is 'some', expected one of"),
        ({"blocks": (2, 2)}, "2 entries in blocks for 4 stages"),
        ({"patch": (5, 8)}, r"patches of \(5, 8\) do not tile 64 x 128"),
        ({"patch": (64, 32)}, "4 patches cannot be halved for 4 stages"),
    ],
)
def test_impossible_sizes_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        Published(**change)

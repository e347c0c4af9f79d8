"""Training on sounds: the loss is the recorded one, a run resumes where it was killed, each run starts anew."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder import audio, encode
from encoder.adaptive_graph import AdaptiveGraph
from encoder.encode import Encoder
from encoder.limits import Limits
from encoder.sound_features import first_window
from encoder.systems import AN_GNN
from encoder.training import proxy_anchor, sounds
from encoder.training.sound_schedule import SoundSchedule
from encoder.training.sounds import Material, Training

RECORDED = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "an_gnn"
RATE = 16_000
SCHEDULE = SoundSchedule(epochs=4, batch=16, learning_rate=0.01)


@pytest.fixture(scope="module")
def material():
    """Sixty sounds of three kinds in six dimensions; the kinds lie along one of them."""
    rng, labels = np.random.default_rng(0), np.repeat([4, 7, 9], 20)
    features = rng.standard_normal((60, 6)).astype(np.float32)
    features[:, 0] += 2 * labels
    return Material(features=features, labels=labels)


def trained(material, **given):
    run = Training(material, AdaptiveGraph(), **({"schedule": SCHEDULE} | given))
    return run, list(run)


def weights(run):
    return torch.cat([p.flatten() for p in [*run.network.parameters(), *run.loss.parameters()]])


def test_the_loss_and_its_gradients_equal_the_recorded_ones():
    if not RECORDED.is_dir():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    expected = dict(np.load(RECORDED / "proxy_anchor_a.npz"))
    schedule = SoundSchedule(alpha=float(expected["alpha"]), margin=float(expected["margin"]))
    made = proxy_anchor.loss(schedule, classes=19, channels=32)
    made.proxies.data = torch.from_numpy(expected["proxies"])
    embeddings = torch.from_numpy(expected["emb"]).requires_grad_()
    value = made(embeddings, torch.from_numpy(expected["labels"]))
    value.backward()
    assert value.item() == pytest.approx(float(expected["loss"]), abs=1e-5)
    np.testing.assert_allclose(embeddings.grad, expected["grad_emb"], atol=1e-5)
    np.testing.assert_allclose(made.proxies.grad, expected["grad_proxies"], atol=1e-5)


def test_the_loss_by_hand():
    """One sound on its proxy (cosine 1), the other proxy across (cosine 0), alpha 2, margin 0.5.

    ln(1 + exp(-2 * 0.5)) for the one proxy with a sound, and ln(1 + exp(2 * 0.5)) / 2 over both proxies.
    """
    made = proxy_anchor.loss(SoundSchedule(alpha=2.0, margin=0.5), classes=2, channels=2)
    made.proxies.data = torch.eye(2)
    expected = np.log(1 + np.exp(-1)) + np.log(1 + np.exp(1)) / 2
    assert made(torch.tensor([[3.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(expected, abs=1e-6)


def test_the_rate_falls_to_four_fifths_every_ten_epochs(material):
    _, records = trained(material, schedule=replace(SCHEDULE, epochs=21))
    np.testing.assert_allclose([records[i].learning_rate for i in (0, 9, 10, 20)], [0.01, 0.01, 0.008, 0.0064])


def test_the_loss_falls(material):
    _, records = trained(material, schedule=replace(SCHEDULE, epochs=12))
    assert records[-1].loss < 0.8 * records[0].loss


def test_a_killed_run_ends_where_an_uninterrupted_one_does(material, tmp_path):
    whole, _ = trained(material)
    killed = Training(material, AdaptiveGraph(), SCHEDULE, out=tmp_path)
    killed.advance()
    killed.advance()
    torch.manual_seed(99)  # whatever else went on meanwhile
    resumed = Training(material, AdaptiveGraph(), SCHEDULE, out=tmp_path)
    resumed.restore()
    assert [record.epoch for record in resumed] == [3, 4]
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_each_epoch_draws_batches_of_its_own(material, monkeypatch):
    run, seen = Training(material, AdaptiveGraph(), SCHEDULE), []
    step = run._step
    monkeypatch.setattr(run, "_step", lambda rows: (seen.append(rows.tolist()), step(rows))[1])
    run.advance()
    run.advance()
    assert len(seen) == 8  # batches of 16 of 60 sounds
    assert sorted(sum(seen[:4], [])) == sorted(sum(seen[4:], [])) == list(range(60))
    assert seen[0] != seen[4]


def test_a_state_of_other_settings_is_refused(material, tmp_path):
    Training(material, AdaptiveGraph(), SCHEDULE, out=tmp_path).advance()
    for other in (
        Training(material, AdaptiveGraph(variant="knn"), SCHEDULE, out=tmp_path),
        Training(material, AdaptiveGraph(), replace(SCHEDULE, margin=0.2), out=tmp_path),
        Training(material.pick(np.arange(50)), AdaptiveGraph(), SCHEDULE, out=tmp_path),
    ):
        with pytest.raises(ValueError, match="belongs to other settings"):
            other.restore()


def test_a_run_knows_nothing_of_the_one_before(material):
    """The second fold begins with the weights that the first one began with, not with those it ended with."""
    first, _ = trained(material)
    begun = Training(material, AdaptiveGraph(), SCHEDULE)
    again, _ = trained(material)
    assert not torch.equal(weights(begun), weights(first))
    torch.testing.assert_close(weights(again), weights(first), rtol=0, atol=0)


def test_features_are_standardised_by_the_material_or_by_what_is_given(material):
    own = Training(material, AdaptiveGraph(), SCHEDULE)
    np.testing.assert_allclose(own.features.mean(dim=0), np.zeros(6), atol=1e-5)
    given = Training(material, AdaptiveGraph(), SCHEDULE, standard=material.features + 1)
    np.testing.assert_allclose(given.network.mean, material.features.mean(axis=0) + 1, atol=1e-5)


def test_a_last_batch_of_one_sound_joins_the_one_before(material):
    run = Training(material.pick(np.arange(33)), AdaptiveGraph(), replace(SCHEDULE, batch=16))
    assert [len(batch) for batch in run._batches()] == [16, 17]


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "3 features for 2 labels"),
        (np.zeros((3, 2)), [5, 5, 5], "all 3 sounds have one label"),
        (np.full((3, 2), np.nan), [0, 1, 1], "NaN"),
    ],
)
def test_unusable_material_is_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        Material(features=features.astype(np.float32), labels=np.array(labels))


@pytest.mark.parametrize("given", [dict(epochs=0), dict(batch=1), dict(learning_rate=0.0)])
def test_an_impossible_schedule_is_refused(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} is {next(iter(given.values()))}"):
        SoundSchedule(**given)


@pytest.fixture(scope="module")
def one_shots(tmp_path_factory):
    """A hit of 0.1 s, a note of 0.8 s and one of 2.5 s."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for name, seconds in (("hit", 0.1), ("note", 0.8), ("pad", 2.5)):
        time = np.arange(round(seconds * RATE)) / RATE
        wave = np.sin(2 * np.pi * 330 * time) if name != "hit" else rng.standard_normal(len(time))
        soundfile.write(folder / f"{name}.wav", 0.3 * wave * np.exp(-2 * time), RATE)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The recipe after one epoch on noise."""
    rng = np.random.default_rng(1)
    material = Material(features=rng.standard_normal((40, 80)).astype(np.float32), labels=np.arange(40) % 4)
    out = tmp_path_factory.mktemp("run")
    system = replace(AN_GNN, schedule=replace(SCHEDULE, epochs=1))
    assert len(list(sounds.train(material, system, out, data={"name": "noise"}))) == 1
    return Encoder(out / sounds.FILE)


def test_a_trained_checkpoint_encodes_whole_short_sounds(encoder, one_shots):
    """A hit and a note are one segment, 2.5 s are three of 1.024 s, the last one filled with silence."""
    assert encoder.provenance["data"] == {"name": "noise"}
    lengths = {path.stem: len(encoder.encode(path)) for path in one_shots.iterdir()}
    assert lengths == {"hit": 1, "note": 1, "pad": 3}


def test_the_node_of_a_sound_is_its_standardised_features(encoder, one_shots):
    path = one_shots / "hit.wav"
    features = encoder.front_end(torch.from_numpy(first_window(path, encoder.grid, limits=encoder.limits))[None])
    encoding = encoder.encode(path)
    assert encoding.node_matrices.shape == (1, 1, 80)
    expected = encoder.network.standardised(features[:, :, 0])
    np.testing.assert_allclose(encoding.node_matrices[0].astype(np.float32), expected, atol=5e-3)


def test_too_short_is_for_the_system_to_say(encoder, one_shots, tmp_path):
    assert encoder.limits.shortest == 0.01
    assert Encoder(encoder.path, limits=Limits(shortest=3.0)).limits.shortest == 3.0  # unless somebody asks for more
    with pytest.raises(audio.AudioError, match="lasts 0.10 s, expected at least 0.5 s"):
        audio.read(one_shots / "hit.wav")
    soundfile.write(tmp_path / "click.wav", np.ones(128) * 0.5, RATE)
    with pytest.raises(audio.AudioError, match="lasts 0.0080 s, expected at least 0.01 s"):
        encoder.encode(tmp_path / "click.wav")


def test_the_shipped_weights_are_small_and_fit_the_recipe():
    shipped = Path(encode.__file__).parent / "weights" / "an-gnn.safetensors"
    assert shipped.stat().st_size < 5e6
    assert Encoder(shipped).system == AN_GNN


def test_a_silent_start_is_refused_where_features_are_made(encoder, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    with pytest.raises(audio.AudioError, match="silent in its first"):
        first_window(tmp_path / "silent.wav", encoder.grid, limits=Limits())

"""Training the verifier: what is right and wrong for it, that it learns, and that a run goes on where it stopped."""

from dataclasses import replace

import pytest
import torch

from encoder import checkpoint
from encoder.contrast_network import LearnedContrast
from encoder.encode import Encoder
from encoder.training.schedule import Schedule
from reranker import verify, verify_training

SHORT = Schedule(epochs=2, steps=3, batch=8, chunk=16, learning_rate=5e-3, warmup=1, validation_pairs=12)


@pytest.fixture(scope="module")
def listening(encoder, tmp_path_factory):
    """The small encoder with a small contrast network of random weights."""
    system = replace(encoder.system, contrast=LearnedContrast(channels=4, dilations=((1, 1),)))
    path = tmp_path_factory.mktemp("listening") / "encoder.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = system.build()
        torch.nn.init.normal_(network.contrast.last.weight, std=0.3)  # zero when untrained
    checkpoint.save(path, system, network, provenance={})
    return Encoder(path)


@pytest.fixture(scope="module")
def trained(cache, listening, tmp_path_factory):
    out = tmp_path_factory.mktemp("verifier")
    return list(verify_training.train(cache, listening, out, schedule=SHORT)), out


def test_every_epoch_has_a_record_and_the_best_is_kept_for_this_encoder(trained, listening):
    records, out = trained
    assert [(r.epoch, r.pairs) for r in records] == [(1, 24), (2, 48)]
    assert records[0].best
    assert len({(r.likeness_auroc, r.likeness_first) for r in records}) == 1  # of what does not learn
    assert all(0 <= r.auroc <= 1 and 0 <= r.first <= 1 for r in records)
    verifier = verify.load(out / verify_training.FILE, contrast=listening.contrast_digest)
    assert verifier.digest == checkpoint.load(out / verify_training.FILE, *verify.KINDS).digest
    assert not verifier.training
    assert all(p.grad is None for p in listening.network.parameters())


def test_a_verifier_of_other_features_can_be_trained_on(trained, cache, listening, encoder, tmp_path):
    before = trained[1] / verify_training.FILE
    run = verify_training._Run(cache, listening, tmp_path, SHORT, torch.device("cpu"), before)
    begun = checkpoint.load(before, *verify.KINDS)
    assert all(torch.equal(run.network.state_dict()[name].half(), kept.half()) for name, kept in begun.weights.items())
    next(verify_training.train(cache, listening, tmp_path, schedule=SHORT, start=before))
    kept = checkpoint.load(tmp_path / verify_training.FILE, *verify.KINDS)
    assert kept.provenance["started_from"] == begun.digest
    with pytest.raises(checkpoint.CheckpointError, match="holds a System, expected a TrainedVerifier"):
        next(verify_training.train(cache, listening, tmp_path / "other", schedule=SHORT, start=listening.path))


def test_it_learns_to_tell_pairs_of_its_own_batches_apart(cache, listening, tmp_path):
    schedule = replace(SHORT, epochs=1, steps=40, warmup=5, learning_rate=1e-2)
    run = verify_training._Run(cache, listening, tmp_path, schedule, torch.device("cpu"))
    laid = run.unseen[0]
    before, _ = told(run, laid)
    for step in range(40):
        run._step(step, laid)
    after, first = told(run, laid)
    assert after > max(before, 0.9)
    assert first > 0.9


def told(run, laid):
    run.network.eval()
    with torch.no_grad():
        odds = torch.stack([run.network(q, r).mean(1) for q, r in zip(*laid[:2])])
    return verify_training._judged(odds.numpy())


def test_a_true_pair_is_like_and_the_wrong_ones_are_the_likest_of_other_tracks(cache, listening, tmp_path):
    run = verify_training._Run(cache, listening, tmp_path, SHORT, torch.device("cpu"))
    laid = run.unseen[0]
    assert laid.queries.shape == laid.references.shape == (4, 8, listening.contrast[1], 8)
    cosines = torch.nn.functional.cosine_similarity(laid.queries.flatten(2), laid.references.flatten(2), dim=2)
    torch.testing.assert_close(cosines, laid.cosines, atol=1e-4, rtol=0)
    assert (laid.cosines[1:].diff(dim=0) <= 0).all()  # the likest first
    assert laid.cosines[0].mean() > laid.cosines[1].mean() > 0


def test_a_run_stopped_after_an_epoch_goes_on_as_if_it_had_not_been(cache, listening, trained, tmp_path):
    next(verify_training.train(cache, listening, tmp_path, schedule=SHORT))
    (last,) = verify_training.train(cache, listening, tmp_path, schedule=SHORT)
    assert last.epoch == 2
    assert last.loss == pytest.approx(trained[0][1].loss, rel=1e-4)
    assert list(verify_training.train(cache, listening, tmp_path, schedule=SHORT)) == []


def test_settings_of_another_run_and_an_encoder_without_contrast_are_refused(cache, fewer, encoder, listening, trained):
    with pytest.raises(ValueError, match="belongs to other settings"):
        next(verify_training.train(cache, listening, trained[1], schedule=replace(SHORT, seed=2)))
    with pytest.raises(ValueError, match=r"belongs to other settings \(data changed\)"):
        next(verify_training.train(fewer, listening, trained[1], schedule=SHORT))
    begun = trained[1] / verify_training.FILE
    with pytest.raises(ValueError, match="belongs to other settings"):
        next(verify_training.train(cache, listening, trained[1], schedule=SHORT, start=begun))
    with pytest.raises(ValueError, match="precision is bfloat16, which this training has no use for"):
        next(verify_training.train(cache, listening, trained[1], schedule=replace(SHORT, precision="bfloat16")))
    with pytest.raises(ValueError, match="has no contrast network; train one by asid train contrast"):
        next(verify_training.train(cache, encoder, trained[1], schedule=SHORT))

"""Training the contrast network: the geometry undoes the warp, it learns, and it goes on where it stopped."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder import checkpoint
from encoder.checkpoint import CheckpointError
from encoder.contrast_network import LearnedContrast
from encoder.encode import Encoder
from encoder.spectrogram import LogFrequency
from encoder.systems import ASID, KINDS, PUBLISHED
from encoder.training import contrast, train
from encoder.training.augment import Views
from encoder.training.run import mixed
from encoder.training.schedule import Schedule

SHORT = Schedule(epochs=2, steps=3, batch=8, learning_rate=5e-3, warmup=1, validation_pairs=12)


@pytest.fixture(scope="module")
def trained(cache, saved, tmp_path_factory):
    out = tmp_path_factory.mktemp("contrast")
    return list(contrast.train(cache, saved, out, schedule=SHORT)), out


def test_features_played_back_at_their_tempo_are_those_of_the_original():
    original = torch.rand(1, 3, 41)
    ramp = torch.arange(41.0).expand(1, 1, 41)
    # Twice as fast, around the middle (frame 20): frame 20 + k of the original is frame 20 + k / 2 of the fast one.
    assert contrast.played_back(ramp, torch.tensor([2.0]), torch.tensor([0.0]), 5)[0, 0].tolist() == [
        19,
        19.5,
        20,
        20.5,
        21,
    ]
    assert contrast.played_back(ramp, torch.tensor([1.0]), torch.tensor([0.5]), 3)[0, 0].tolist() == [19.5, 20.5, 21.5]
    still = contrast.played_back(original, torch.tensor([1.0]), torch.tensor([0.0]), 41)
    assert torch.allclose(still, original)


def test_lowered_features_move_down_and_leave_silence():
    features = torch.arange(1.0, 5).reshape(1, 4, 1).repeat(2, 1, 1)
    found = contrast.lowered(features, torch.tensor([1, -2]))[:, :, 0].tolist()
    assert found == [[2, 3, 4, 0], [0, 0, 1, 2]]


def test_neither_own_tracks_nor_what_lies_over_a_query_are_wrong():
    tracks, covers = torch.tensor([4, 7, 4]), torch.tensor([[9, -1], [4, -1], [7, 9]])
    views = Views(torch.zeros(3), torch.zeros(3), tracks, None, covers)
    # Rows are references 4, 7, 4; query 1 is covered by track 4, query 2 by track 7.
    assert contrast.may_be_alike(views).tolist() == [[True, True, True], [False, True, True], [True, True, True]]


def test_training_moves_the_contrast_network_and_nothing_else(trained, saved):
    records, out = trained
    assert [(r.epoch, r.pairs) for r in records] == [(1, 24), (2, 48)]
    before, after = checkpoint.load(saved, *KINDS), checkpoint.load(out / contrast.FILE, *KINDS)
    assert before.config.contrast is None
    assert after.config == replace(before.config, contrast=after.config.contrast)
    assert all(torch.equal(after.weights[name], weights) for name, weights in before.weights.items())
    assert after.weights["contrast.last.weight"].abs().max() > 0  # zero when untrained
    assert after.provenance["contrast"]["started_from"] == before.digest


def test_what_was_trained_goes_on_at_the_temperature_it_had_learned(trained, cache, tmp_path):
    learned = checkpoint.load(trained[1] / contrast.FILE, *KINDS).provenance["contrast"]["temperature"]
    assert learned != SHORT.temperature
    for asked, begun in ((1.0, learned), (0.01, 0.01)):  # softer; sharper
        schedule = replace(SHORT, temperature=asked)
        run = contrast._Run(cache, trained[1] / contrast.FILE, tmp_path, schedule, torch.device("cpu"))
        assert 1 / run.scale["logarithm"].exp().item() == pytest.approx(begun)


def test_an_encoder_that_is_trained_on_keeps_its_contrast_network_and_what_is_told_of_it(trained, cache, tmp_path):
    begun = checkpoint.load(trained[1] / contrast.FILE, *KINDS)
    next(train.train(cache, begun.config, tmp_path, start=trained[1] / contrast.FILE))
    after = checkpoint.load(tmp_path / train.FILE, *KINDS)
    learned = {name for name in begun.weights if name.startswith("contrast.")}
    assert learned
    assert all(torch.equal(after.weights[name], begun.weights[name]) for name in learned)
    assert after.digest != begun.digest
    assert after.provenance["contrast"] == begun.provenance["contrast"]


def test_a_smaller_network_is_taken_over_by_one_of_the_recipe(monkeypatch):
    front_end = LogFrequency(short=LogFrequency(n_fft=512, bins=28, bins_per_octave=4))
    before = replace(ASID, front_end=front_end, contrast=LearnedContrast(channels=4, dilations=((1, 1),)))
    recipe = replace(before, contrast=LearnedContrast(channels=6, dilations=((1, 1), (1, 2)), strokes=True))
    monkeypatch.setitem(contrast.SYSTEMS, "asid", recipe)
    assert contrast._shape(before) == recipe.contrast
    with pytest.raises(ValueError, match="contrast of strokes without short windows"):
        replace(recipe, front_end=LogFrequency())
    assert contrast._shape(replace(before, contrast=LearnedContrast(channels=8))).channels == 8  # no part of it
    torch.manual_seed(9)
    small, grown = before.contrast_network().eval(), recipe.contrast_network().eval()
    torch.nn.init.normal_(small.last.weight, std=0.3)
    contrast._take_over(grown, small.state_dict())
    assert grown.first.weight[4:].abs().amin((1, 2, 3)).min() > 0  # new channels are there, to be heard by training
    assert grown.norm.weight[4:].min() == 1
    spectra = torch.randn(2, ASID.rows, 60) * 8 - 40
    nothing_new = copy.deepcopy(grown)
    nothing_new.blocks[1].norm.weight.data.zero_()
    with torch.no_grad():
        expected = small(spectra)
        torch.testing.assert_close(nothing_new(spectra), expected)
        assert 0 < (grown(spectra) - expected).abs().mean() < 0.1 * expected.mean()


def test_shares_side_by_side_give_the_same_gradients(cache, saved, tmp_path):
    runs = [contrast._Run(cache, saved, tmp_path, replace(SHORT, lanes=lanes), torch.device("cpu")) for lanes in (1, 2)]
    for run in runs:
        torch.nn.init.normal_(run.network.last.weight, std=0.3, generator=torch.Generator().manual_seed(8))
        run.network.eval()  # norms of a portion are of other pairs with two lanes
        step, batch, views = next(mixed(run.maker, SHORT.batch, run.front_end, 0, 1))
        run.network.train = lambda mode=True: None
        run._step(step, batch, views)
    first, second = (run.network.first.weight.grad for run in runs)
    assert first.abs().max() > 0
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-6)


def test_the_checkpoint_encodes_with_what_was_learned(trained, saved):
    waveform = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    plain, learned = (Encoder(path).encode_waveform(waveform) for path in (saved, trained[1] / contrast.FILE))
    assert plain.contrast.shape == learned.contrast.shape
    assert not np.array_equal(plain.contrast, learned.contrast)
    np.testing.assert_allclose(plain.fingerprints, learned.fingerprints, atol=1e-5)


def test_a_run_stopped_after_an_epoch_goes_on_as_if_it_had_not_been(cache, saved, trained, tmp_path):
    next(contrast.train(cache, saved, tmp_path, schedule=SHORT))
    (last,) = contrast.train(cache, saved, tmp_path, schedule=SHORT)
    assert last.epoch == 2
    assert last.loss == pytest.approx(trained[0][1].loss, rel=1e-4)
    assert list(contrast.train(cache, saved, tmp_path, schedule=SHORT)) == []


def test_settings_and_data_of_another_run_are_refused(cache, fewer, saved, trained):
    with pytest.raises(ValueError, match=r"belongs to other settings \(schedule changed\)"):
        next(contrast.train(cache, saved, trained[1], schedule=replace(SHORT, seed=2)))
    with pytest.raises(ValueError, match=r"belongs to other settings \(data changed\)"):
        next(contrast.train(fewer, saved, trained[1], schedule=SHORT))


def test_a_system_on_a_mel_spectrum_is_refused(cache, tmp_path):
    path = tmp_path / "published.safetensors"
    checkpoint.save(path, PUBLISHED, PUBLISHED.build(), provenance={})
    with pytest.raises(CheckpointError, match="neuralsampleid-published has no log-frequency spectrum"):
        next(contrast.train(cache, path, tmp_path / "out", schedule=SHORT))


def test_pieces_lie_upon_each_other_at_the_warp_that_was_made_and_at_no_other(cache, saved, tmp_path):
    run = contrast._Run(cache, saved, tmp_path, SHORT, torch.device("cpu"))
    batch, views = run.unseen
    assert run.before > 0.25  # by plain contrast; 1 in 12 by chance
    for wrong in ({"tempo": 1 / batch.tempo}, {"transposition": -batch.transposition}):
        run.unseen = replace(batch, **wrong), views
        assert run._validate() < 0.8 * run.before


def test_the_loss_leaves_out_what_may_show_the_same():
    random, pairs = np.random.default_rng(4), 4
    tracks, covers = torch.tensor([4, 7, 4, 9]), torch.tensor([[9, -1], [-1, -1], [7, -1], [-1, -1]])
    views = Views(torch.zeros(pairs), torch.zeros(pairs), tracks, None, covers)
    made = torch.from_numpy(random.normal(size=(3, 2 * pairs, 6))).float()
    references, right, wrong = torch.nn.functional.normalize(made, dim=2)
    run = contrast._Run.__new__(contrast._Run)
    run.scale = {"logarithm": torch.tensor(3.0).log()}
    found = run._loss(references, [right, wrong], views).item()

    def alike(reference, query):  # pieces 2 n and 2 n + 1 are of pair n
        r, q = reference // 2, query // 2
        return tracks[r] == tracks[q] or tracks[r] in covers[q]

    total = 0.0
    for i in range(2 * pairs):
        others = [side[j] for side in (right, wrong) for j in range(2 * pairs) if not alike(i, j)]
        logits = 3.0 * torch.stack([right[i], *others]) @ references[i]
        total -= logits.log_softmax(0)[0].item()
        others = [references[j] for j in range(2 * pairs) if not alike(j, i)]
        logits = 3.0 * torch.stack([references[i], *others]) @ right[i]
        total -= logits.log_softmax(0)[0].item()
    assert found == pytest.approx(total / (4 * pairs), rel=1e-5)


def test_values_that_this_training_does_not_read_are_refused(cache, saved, tmp_path):
    with pytest.raises(ValueError, match="portion is 4, which this training has no use for"):
        next(contrast.train(cache, saved, tmp_path, schedule=replace(contrast.SCHEDULE, portion=4)))

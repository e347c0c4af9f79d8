"""Training the reranker: it learns, is moved to its operating point, and fits one encoder only."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.checkpoint import CheckpointError
from encoder.encode import Encoder
from encoder.training import state
from reranker import checkpoint, operating_point, train
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.operating_point import Recording
from reranker.sides import auroc
from reranker.train import RerankerSchedule

SCHEDULE = RerankerSchedule(
    epochs=2, steps=3, batch=8, anchors=4, negatives=2, validation_pairs=6, candidates=2, false_alarms=0.2
)


@pytest.fixture(scope="module")
def trained(cache, encoder, tmp_path_factory):
    """The records of two epochs and the folder they left."""
    out = tmp_path_factory.mktemp("reranker")
    return list(train.train(cache, encoder, out, schedule=SCHEDULE)), out


def test_every_epoch_has_a_record_and_the_best_is_kept(trained, encoder):
    records, out = trained
    assert [r.epoch for r in records] == [1, 2]
    assert records[0].best
    assert all(0 <= r.auroc <= 1 and 0 <= r.hit_rate_1 <= 1 for r in records)
    assert len({r.encoder_hit_rate_1 for r in records}) == 1  # the encoder is frozen
    classifier = checkpoint.load(out / train.FILE, encoder=encoder.digest)
    assert (classifier.config.channels, classifier.config.nodes) == (16, encoder.nodes)
    assert not classifier.training


def test_a_reranker_for_another_encoder_is_refused(trained, encoders):
    with pytest.raises(CheckpointError, match="made for encoder .{12}, in use is .{12}; give the reranker trained"):
        checkpoint.load(trained[1] / train.FILE, encoder=encoders[1].digest)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(trained[1] / "nowhere", encoder=encoders[0].digest)


def test_an_encoder_is_no_reranker_and_a_reranker_no_encoder(trained, encoder, encoders, cache, tmp_path):
    from encoder import checkpoint as files

    files.save(tmp_path / "encoder.safetensors", encoder.system, encoder.network, provenance={})
    with pytest.raises(CheckpointError, match="holds a System, expected a Reranker"):
        checkpoint.load(tmp_path / "encoder.safetensors", encoder=encoder.digest)
    with pytest.raises(CheckpointError, match="holds a Reranker, expected a System"):
        Encoder(trained[1] / train.FILE)


def test_the_encoder_stays_as_it_was(trained, encoder, encoders):
    assert not encoder.network.training
    assert all(p.grad is None for p in encoder.network.parameters())


def test_an_interrupted_run_ends_like_an_uninterrupted_one(trained, cache, encoder, tmp_path):
    records, out = trained
    first = next(train.train(cache, encoder, tmp_path, schedule=SCHEDULE))
    torch.manual_seed(123)  # another random state must not matter
    (second,) = train.train(cache, encoder, tmp_path, schedule=SCHEDULE)
    assert [first.loss, second.loss] == pytest.approx([r.loss for r in records], rel=1e-5)
    kept = [torch.load(folder / state.FILE, weights_only=True)["classifier"] for folder in (out, tmp_path)]
    for name, values in kept[0].items():
        torch.testing.assert_close(kept[1][name], values, rtol=1e-4, atol=1e-6)


def test_a_run_may_be_prolonged(trained, cache, encoder, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    (third,) = train.train(cache, encoder, tmp_path / "run", schedule=replace(SCHEDULE, epochs=3))
    assert third.epoch == 3


def test_the_state_of_another_encoder_schedule_or_data_is_refused(trained, cache, fewer, encoders):
    with pytest.raises(ValueError, match=r"belongs to other settings \(data changed\)"):
        next(train.train(fewer, encoders[0], trained[1], schedule=SCHEDULE))
    with pytest.raises(ValueError, match="belongs to other settings"):
        next(train.train(cache, encoders[1], trained[1], schedule=SCHEDULE))
    with pytest.raises(ValueError, match="belongs to other settings"):
        next(train.train(cache, encoders[0], trained[1], schedule=RerankerSchedule(seed=2)))


@pytest.fixture(scope="module")
def together(cache, encoder, tmp_path_factory):
    """The same end to end, with negatives of a catalogue."""
    out = tmp_path_factory.mktemp("together")
    schedule = replace(SCHEDULE, encoder_rate=1e-3, catalogued=1)
    return list(train.train(cache, encoder, out, schedule=schedule)), out, schedule


def test_end_to_end_the_encoder_is_kept_with_the_reranker_that_fits_it(together, encoder):
    records, out, _ = together
    assert len({r.encoder_auroc for r in records}) == 2  # it changes
    learned = Encoder(out / train.ENCODER_FILE)
    assert learned.digest != encoder.digest
    assert checkpoint.load(out / train.FILE, encoder=learned.digest).config.nodes == encoder.nodes
    before, after = encoder.network.state_dict(), learned.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name].half(), after[name].half())}
    assert any(name.startswith("stages.") for name in moved)
    assert not [name for name in moved if "running" in name]  # norms as they are
    assert all(p.grad is None for p in encoder.network.parameters())


def test_an_interrupted_run_end_to_end_ends_like_an_uninterrupted_one(together, cache, encoder, tmp_path):
    records, _, schedule = together
    first = next(train.train(cache, encoder, tmp_path, schedule=schedule))
    (second,) = train.train(cache, encoder, tmp_path, schedule=schedule)
    assert [first.loss, second.loss] == pytest.approx([r.loss for r in records], rel=1e-4)


def test_a_loss_that_is_no_number_stops_the_run(cache, encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(train._Run, "_loss", lambda run, logits, similarities: logits.sum() * torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 0; lower the learning rate"):
        next(train.train(cache, encoder, tmp_path, schedule=SCHEDULE))
    assert not list(tmp_path.iterdir())


def test_the_classifier_learns_a_batch_by_heart(cache, encoder, tmp_path):
    schedule = replace(SCHEDULE, learning_rate=3e-3, epochs=100)
    run = train._Run(cache, encoder, schedule, tmp_path, torch.device("cpu"))
    views = run._views(run._batch(0))
    losses = [run._step(step, views) for step in range(200)]
    # One right in three: always answering 1 / 3 costs log(3) + 0.5 * -(log(1/3) + 2 log(2/3)) / 3 = 1.417.
    assert losses[0] > 1.2
    assert np.mean(losses[-10:]) < 0.7


def test_the_saved_bias_lets_the_stated_share_of_sample_free_queries_pass(trained, cache, encoder):
    _, out = trained
    moved = checkpoint.load(out / train.FILE, encoder=encoder.digest)
    recordings = operating_point.recordings(cache, encoder, split="validation")
    assert len(recordings) == 6
    point = operating_point.find(recordings, moved, candidates=2, false_alarms=0.2, minimum=1.0)
    # 24 s are (750 + 1 - 32) // 8 + 1 = 90 segments, two queries of 40 each: 12 queries against 3 x 90 segments
    assert (point.queries, point.segments) == (12, 270)
    assert point.logit == pytest.approx(0.0, abs=0.02)  # 0.5 now; weights were halved to float16
    before = operating_point.find(recordings, _unmoved(trained, encoder), candidates=2, false_alarms=0.2, minimum=1.0)
    assert before.logit != pytest.approx(0.0, abs=0.02)


def _unmoved(trained, encoder):
    """The classifier as trained; of the last epoch, whichever was best."""
    classifier = CrossAttention(CrossAttentionConfig(channels=encoder.channels, nodes=encoder.nodes, matching=True))
    classifier.load_state_dict(torch.load(trained[1] / state.FILE, weights_only=True)["classifier"])
    return classifier.eval()


class Brightness:
    """A classifier whose logit is the reference's node value."""

    positions = torch.zeros(1)

    def scores(self, queries, references, *, similarities):
        return references.flatten(1).mean(dim=1).sigmoid().expand(len(queries), -1)


def recording(group, value, segments=40, angle=0.0):
    direction = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
    return Recording(
        group=group,
        fingerprints=direction.expand(segments, 2),
        node_matrices=torch.full((segments, 1, 1), value, dtype=torch.float16),
    )


def test_the_operating_point_lets_the_stated_share_of_queries_for_nothing_be_answered():
    # Groups a and c against b and d. A query of a or c meets b and d, of the same direction: the best reference is
    # worth 3. A query of b or d meets a and c: 2. A reference holds many equal segments, so that whatever reaches the
    # bar is a match: with a bar above 2 two of the four queries are answered, with a bar up to 2 all of them.
    catalogue = [recording("a", 1.0), recording("b", 3.0), recording("c", 2.0), recording("d", 0.5)]
    point = operating_point.find(catalogue, Brightness(), candidates=80, false_alarms=0.5, minimum=1.0)
    assert point.logit == pytest.approx(2.0, abs=2e-3)
    assert (point.queries, point.segments, point.false_alarms) == (4, 80, 0.5)


def test_only_candidates_of_the_index_are_scored():
    # The query of b points along a: with one candidate per segment, c is never looked at.
    catalogue = [recording("a", 1.0), recording("b", 3.0), recording("c", 2.0, angle=1.5)]
    point = operating_point.find(catalogue, Brightness(), candidates=1, false_alarms=0.01, minimum=0.5)
    # Queries of a and c find b: 3, 3; the query of b finds a: 1. None is answered with a bar above 3.
    assert point.logit == pytest.approx(3.0, abs=2e-3)
    lower = operating_point.find(catalogue, Brightness(), candidates=1, false_alarms=0.7, minimum=0.5)
    assert lower.logit == pytest.approx(1.0, abs=2e-3)  # two of three


def test_a_lone_candidate_is_no_false_alarm_where_a_match_needs_more():
    # One candidate scores at most 1, and reaches a sum of 1.0 with no bar above the lowest.
    catalogue = [recording("a", 1.0), recording("b", 3.0)]
    point = operating_point.find(catalogue, Brightness(), candidates=1, false_alarms=0.01, minimum=1.01)
    assert point.logit < -20


def test_a_mostly_silent_recording_makes_no_query():
    catalogue = [recording("a", 1.0), recording("b", 3.0), recording("b", 9.0, segments=7)]
    point = operating_point.find(catalogue, Brightness(), candidates=80, false_alarms=0.5, minimum=1.0)
    assert point.queries == 2


def test_one_artist_is_too_few():
    with pytest.raises(ValueError, match="has 1 artists of long tracks, expected at least 2"):
        operating_point.find([recording("a", 1.0)] * 2, Brightness(), candidates=1, false_alarms=0.1, minimum=1.0)


def test_certain_scores_have_finite_logits():
    class Certain(Brightness):
        def scores(self, queries, references, *, similarities):
            return torch.tensor([[0.0, 1.0]])

    low, high = operating_point.logits(Certain(), torch.zeros(1), torch.zeros(2), torch.zeros(1, 2))[0].tolist()
    assert (low, high) == pytest.approx((-20.03, 20.03), abs=0.01)  # log(2e-9 / (1 - 2e-9))


def test_auroc_is_the_share_of_true_and_wrong_pairs_in_order():
    # Tracks 0, 1, 1: wrong are (0,1) (0,2) (1,0) (2,0), true the diagonal; (1,2) and (2,1) are neither.
    scores = torch.tensor([[0.9, 0.2, 0.6], [0.5, 0.6, 1.0], [0.1, 1.0, 0.3]])
    # 0.9 beats 0.2 0.6 0.5 0.1: 4. 0.6 beats three and ties with one: 3.5. 0.3 beats 0.2 and 0.1: 2. 9.5 of 12.
    assert auroc(scores, torch.tensor([0, 1, 1])) == pytest.approx(9.5 / 12)


def test_auroc_of_perfect_useless_and_inverted_scores():
    tracks = torch.arange(4)
    assert auroc(torch.eye(4), tracks) == 1.0
    assert auroc(torch.zeros(4, 4), tracks) == 0.5
    assert auroc(1 - torch.eye(4), tracks) == 0.0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"batch": 3, "negatives": 3}, "3 negatives from a batch of 3, expected fewer"),
        ({"catalogued": 15}, "15 of 15 negatives from a catalogue, expected fewer"),
        ({"encoder_rate": -1.0}, "encoder_rate is -1.0, expected 0 or more"),
        ({"warmup": -1}, "warmup is -1, expected 0 or more"),
        ({"final_rate": -1e-6}, "final_rate is -1e-06, expected 0 or more"),
        ({"validation_pairs": 1}, "validation_pairs is 1, expected 2 or more to compare"),
        ({"minimum": 0.0}, "minimum is 0.0, expected more than 0"),
        ({"false_alarms": 0.0}, "false_alarms is 0.0, expected a share between 0 and 1"),
        ({"false_alarms": 1.0}, "expected a share between 0 and 1"),
    ],
)
def test_an_impossible_schedule_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        RerankerSchedule(**values)

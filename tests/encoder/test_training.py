"""The training loop: it learns, says so, keeps the best, and goes on after a kill as if nothing had happened."""

import logging
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from encoder import checkpoint
from encoder.encode import Encoder
from encoder.systems import GRAFPRINT_SMALL, KINDS
from encoder.training import augment, state, train
from encoder.training.run import mixed
from encoder.training.schedule import Schedule, rate

KILLED = """if True:
    import os, signal, sys
    from pathlib import Path
    import torch
    from encoder import checkpoint
    from encoder.systems import KINDS
    from encoder.training import train
    from encoder.training.stem_cache import StemCache
    torch.set_num_threads(1)  # as here: sums in another order differ in the last bit, which Adam blows up
    path, cache, out = map(Path, sys.argv[1:4])
    step = train._Run._step

    def dies(run, number, views):
        if number == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(run, number, views)

    train._Run._step = dies
    for record in train.train(StemCache.open(cache), checkpoint.load(path, *KINDS).config, out):
        print(record.epoch, flush=True)
"""


@pytest.fixture(scope="module")
def uninterrupted(cache, system, tmp_path_factory):
    """The records of two epochs and the folder they left."""
    out = tmp_path_factory.mktemp("uninterrupted")
    return list(train.train(cache, system, out)), out


def weights(out):
    return torch.load(out / state.FILE, weights_only=True)["network"]


def assert_same_run(records, out, expected):
    for record, other in zip(records, expected[0][-len(records) :], strict=True):
        assert record.loss == pytest.approx(other.loss, rel=1e-4)
        assert (record.epoch, record.hit_rate_1, record.best) == (other.epoch, other.hit_rate_1, other.best)
    for name, values in weights(expected[1]).items():
        torch.testing.assert_close(weights(out)[name], values, rtol=1e-3, atol=1e-5)


def test_every_epoch_has_a_record(uninterrupted, system):
    records, _ = uninterrupted
    assert [r.epoch for r in records] == [1, 2]
    assert [r.pairs for r in records] == [32, 64]  # 4 steps of 8 pairs an epoch
    assert all(0 <= r.hit_rate_1 <= r.hit_rate_10 <= 1 for r in records)
    assert records[0].best
    assert records[0].pairs_per_second > 0
    # The last of 8 steps: cosine (1 + cos(7 pi / 8)) / 2 = 0.0381 between 7e-7 and 3e-3
    assert records[1].learning_rate == pytest.approx(7e-7 + 0.03806 * (3e-3 - 7e-7), rel=1e-3)


def test_a_run_killed_in_an_epoch_goes_on_after_the_last_whole_one(cache, saved, system, uninterrupted, tmp_path):
    # Step 5 is the second of the second epoch.
    command = [sys.executable, "-c", KILLED, saved, cache.directory, tmp_path, "5"]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout == "1\n"
    records = list(train.train(cache, system, tmp_path))
    assert [r.epoch for r in records] == [2]
    assert_same_run(records, tmp_path, uninterrupted)
    history = checkpoint.load(tmp_path / train.FILE, *KINDS).provenance["history"]
    assert [epoch["epoch"] for epoch in history] in ([1], [1, 2])


def test_a_run_left_after_an_epoch_is_taken_up_by_the_next(cache, system, uninterrupted, tmp_path, caplog):
    next(train.train(cache, system, tmp_path))
    with caplog.at_level(logging.INFO):
        assert_same_run(list(train.train(cache, system, tmp_path)), tmp_path, uninterrupted)
    assert "resumed after epoch 1" in caplog.text
    assert list(train.train(cache, system, tmp_path)) == []  # done


def mixed_thrice(system, changed):
    """Three mixes a batch and four steps an epoch: the second batch lies in both epochs."""
    curriculum = {"level": (-10.0, 8.0), "level_start": (0.0, 10.0), "level_steps": 6}
    return changed(system, pairing={"mixes": 3, "interferers": 0.5} | curriculum)


def test_steps_are_the_mixes_of_the_batches_whatever_the_epoch(cache, system, changed, tmp_path):
    other = mixed_thrice(system, changed)
    run, made = train._Run(cache, other, tmp_path, torch.device("cpu")), []
    batch = run.maker.batch
    run.maker.batch = lambda number, size, *, step: made.append((number, step)) or batch(number, size, step=step)
    spans = (mixed(run.maker, run.schedule.batch, run.front_end, *span) for span in ((0, 8), (0, 4), (4, 8)))
    through, first, second = ({step: views for step, _, views in span} for span in spans)
    # Steps 0 to 7 are batches 0, 1, 2; steps 0 to 3 batches 0 and 1, steps 4 to 7 batches 1 and 2.
    assert made == [(0, 0), (1, 3), (2, 6), (0, 0), (1, 3), (1, 3), (2, 6)]
    assert (list(through), list(first), list(second)) == (list(range(8)), [0, 1, 2, 3], [4, 5, 6, 7])
    for step, views in (first | second).items():
        assert torch.equal(views.queries, through[step].queries)
        assert torch.equal(views.covers, through[step].covers)
    assert not torch.equal(through[0].queries, through[1].queries)


def test_a_run_with_several_mixes_is_taken_up_in_the_middle_of_a_batch(cache, system, changed, tmp_path):
    other = mixed_thrice(system, changed)
    whole = list(train.train(cache, other, tmp_path / "whole")), tmp_path / "whole"
    next(train.train(cache, other, tmp_path / "left"))
    assert_same_run(list(train.train(cache, other, tmp_path / "left")), tmp_path / "left", whole)


def test_validation_is_at_the_last_level_and_mixed_as_waveforms(cache, system, changed, monkeypatch, tmp_path):
    other = changed(mixed_thrice(system, changed), pairing={"same_song": 1.0})
    seen, views = [], augment.views
    monkeypatch.setattr(augment, "views", lambda batch, *rest: seen.append(batch) or views(batch, *rest))
    train._Run(cache, other, tmp_path, torch.device("cpu"))
    (batch,) = seen
    assert len(batch.mixes) == 1
    assert batch.mixes[0].gain.min() < -2  # of twelve in -10 to 8 dB; none of 0 to 10
    assert not batch.moments.any()


def test_without_resume_a_run_starts_over(cache, system, tmp_path):
    next(train.train(cache, system, tmp_path))
    assert next(train.train(cache, system, tmp_path, resume=False)).epoch == 1


def test_the_state_of_other_settings_is_refused(cache, system, changed, uninterrupted):
    _, out = uninterrupted
    for part, values in (
        ("schedule", {"learning_rate": 1e-3}),
        ("schedule", {"steps": 9}),
        ("pairing", {"gain": 10.0}),
        ("network", {"hidden": 8}),
    ):
        told = rf"belongs to other settings \({part} changed\); choose another --out, or remove it"
        with pytest.raises(ValueError, match=told):
            next(train.train(cache, changed(system, **{part: values}), out))


def test_a_run_on_other_data_is_not_gone_on_with(fewer, system, uninterrupted):
    with pytest.raises(ValueError, match=r"belongs to other settings \(data changed\)"):
        next(train.train(fewer, system, uninterrupted[1]))


def test_what_is_learned_from_is_told_by_names_and_lengths(cache, system, tmp_path):
    maker = train._Run(cache, system, tmp_path, torch.device("cpu")).maker
    before = maker.told()
    maker.tracks = [replace(maker.tracks[0], length=maker.tracks[0].length - 1), *maker.tracks[1:]]
    assert maker.told()["digest"] != before["digest"]
    maker.tracks = [
        replace(maker.tracks[0], length=maker.tracks[0].length + 1, title="of no account"),
        *maker.tracks[1:],
    ]
    assert maker.told() == before


def test_a_run_that_began_with_other_weights_is_not_gone_on_with(cache, system, changed, uninterrupted, tmp_path):
    before, run = uninterrupted[1] / train.FILE, tmp_path / "run"
    next(train.train(cache, system, run, start=before))
    assert next(train.train(cache, changed(system, schedule={"epochs": 2}), run, start=before)).epoch == 2
    for other in (None, run / train.FILE):
        with pytest.raises(ValueError, match="belongs to other settings"):
            next(train.train(cache, system, run, start=other))


def test_a_run_may_be_prolonged_or_cut_short(cache, system, changed, tmp_path):
    next(train.train(cache, system, tmp_path))
    other = changed(system, schedule={"patience": 99, "epochs": 3})
    assert [r.epoch for r in train.train(cache, other, tmp_path)] == [2, 3]
    assert list(train.train(cache, changed(system, schedule={"epochs": 1}), tmp_path)) == []


def test_training_ends_when_validation_no_longer_gets_better(cache, system, changed, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "retrieval", lambda network, views: (0.5, 0.5))
    records = list(train.train(cache, changed(system, schedule={"epochs": 9, "steps": 1, "patience": 2}), tmp_path))
    assert [r.best for r in records] == [True, False, False]


def test_the_best_epoch_is_an_encoder_that_says_how_it_was_made(uninterrupted, system, cache):
    records, out = uninterrupted
    encoder = Encoder(out / train.FILE)
    assert encoder.system == system
    best = max(r.epoch for r in records if r.best)
    assert [epoch["epoch"] for epoch in encoder.provenance["history"]] == list(range(1, best + 1))
    facts = encoder.provenance["data"]
    assert (facts["tracks"], facts["hours"]) == (12, 0.02)  # 12 x 6 s
    assert encoder.provenance["seed"] == 1


def test_what_is_kept_is_the_network_of_the_best_epoch(cache, system, changed, monkeypatch, tmp_path):
    hits = iter([(0.1, 0.1), (0.5, 0.5), (0.3, 0.3)])
    monkeypatch.setattr(train, "retrieval", lambda network, views: next(hits))
    records = train.train(cache, changed(system, schedule={"epochs": 3, "steps": 1}), tmp_path)
    networks = [weights(tmp_path) for _ in records]
    kept = checkpoint.load(tmp_path / train.FILE, *KINDS).weights
    for name, learned in networks[1].items():
        assert torch.equal(kept[name], learned.to(kept[name].dtype))
    assert not torch.equal(kept["projector.layers.0.weight"], networks[2]["projector.layers.0.weight"].half())


@pytest.mark.parametrize("lanes", [1, 2])
def test_the_loss_falls_and_retrieval_rises_on_a_small_problem(cache, system, changed, tmp_path, lanes):
    steps = {"epochs": 3, "steps": 20, "batch": 12, "chunk": 12, "lanes": lanes}
    easy = changed(
        system,
        schedule=steps | {"learning_rate": 5e-3, "validation_pairs": 6},
        pairing={"gain": 0.0, "transposition": 0.0, "tempo": (1.0, 1.0), "offset": 0.05},
    )
    records = list(train.train(cache, easy, tmp_path))
    assert records[-1].loss < records[0].loss - 0.2
    assert max(r.hit_rate_1 for r in records) > 1 / 6  # chance


def test_side_by_side_the_shares_of_a_batch_give_the_same_steps(cache, system, changed, tmp_path):
    records = [
        next(train.train(cache, changed(system, schedule=dict(epochs=1, steps=3, portion=2, **lanes)), tmp_path / name))
        for name, lanes in (("one", {}), ("two", {"lanes": 2}))
    ]
    assert records[0].loss == pytest.approx(records[1].loss, rel=1e-3)


def test_a_chunk_that_lanes_have_no_use_for_is_refused(cache, changed, tmp_path):
    with pytest.raises(ValueError, match="chunk is 64, which this training has no use for; leave it away"):
        next(train.train(cache, changed(GRAFPRINT_SMALL, schedule={"lanes": 2, "chunk": 64}), tmp_path))
    assert train._unread(changed(GRAFPRINT_SMALL, schedule={"chunk": 64})) == []


@pytest.mark.parametrize("sizes", [{"portion": 2}, {"chunk": 3}, {"portion": 2, "lanes": 2}])
def test_no_norm_sees_both_sides_of_a_pair(cache, system, changed, tmp_path, sizes):
    run = train._Run(cache, changed(system, schedule=sizes), tmp_path, torch.device("cpu"))
    pairs, seen, forward = run.schedule.batch, [], run.network.forward
    _, _, views = next(mixed(run.maker, pairs, run.front_end, 0, 1))
    numbers = torch.arange(2.0 * pairs).view(2, pairs, 1, 1)
    marked = views._replace(references=views.references * 0 + numbers[0], queries=views.queries * 0 + numbers[1])
    run.network.forward = lambda spectra: seen.append(spectra[:, 0, 0].long() % pairs) or forward(spectra)
    run._step(0, marked)
    assert sorted(torch.cat(seen).unique().tolist()) == list(range(pairs))
    assert all(len(part.unique()) == len(part) for part in seen)


def test_a_loss_that_is_no_number_stops_the_run(cache, system, monkeypatch, tmp_path):
    monkeypatch.setattr(train.losses, "nt_xent", lambda references, *_, **__: references.sum() * torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 0; lower the learning rate"):
        next(train.train(cache, system, tmp_path))
    assert not list(tmp_path.iterdir())


def test_training_leaves_the_random_state_of_others_alone(cache, system, uninterrupted, tmp_path):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = next(train.train(cache, system, tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.loss == pytest.approx(uninterrupted[0][0].loss, rel=1e-4)


def test_retrieval_counts_ties_against_us():
    class Look(torch.nn.Module):
        def forward(self, x):
            return torch.nn.Module() if x is None else _Encoded(x[:, :, 0])

    class _Encoded:
        def __init__(self, fingerprints):
            self.fingerprints = fingerprints

    # Similarities of queries (rows) and references: the first finds its own, the second ties with the third, the
    # third prefers the first.
    references = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    queries = torch.tensor([[1.0, 0], [0, 1], [1, 0.5]])
    views = augment.Views(references.unsqueeze(2), queries.unsqueeze(2), torch.arange(3))
    assert train.retrieval(Look(), views) == (pytest.approx(1 / 3), 1.0)


def test_warm_up_rises_linearly_and_may_be_left_out():
    slow = Schedule(warmup=4, steps=1000, epochs=2, learning_rate=3e-3)
    assert [rate(slow, step) for step in range(3)] == pytest.approx([3e-3 / 4, 3e-3 / 2, 3e-3 * 3 / 4], rel=1e-3)
    at_once = Schedule(warmup=0, learning_rate=1.0)
    assert rate(at_once, 0) == pytest.approx(1.0)
    assert rate(at_once, at_once.total_steps) == pytest.approx(7e-7)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"batch": 1}, "at least 2"),
        ({"epochs": 0}, "epochs is 0, expected more than 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"clip": 0.0}, "clip is 0.0, expected more than 0"),
        ({"validation_pairs": 0}, "validation_pairs is 0, expected more than 0"),
        ({"portion": -1}, "portion is -1, expected 0 or more"),
        ({"warmup": -1}, "warmup is -1, expected 0 or more"),
        ({"final_rate": -1e-6}, "final_rate is -1e-06, expected 0 or more"),
    ],
)
def test_an_impossible_schedule_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        Schedule(**values)


def test_the_next_batch_is_made_while_this_one_is_used():
    began, ended = [], []

    def make(number):
        began.append(number)
        time.sleep(0.05)
        ended.append(number)
        return number * 10

    seen = []
    for number, item in state.ahead(make, 3, 3):
        time.sleep(0.02)
        assert len(began) == min(len(seen) + 2, 3)
        seen.append((number, item))
    assert seen == [(3, 30), (4, 40), (5, 50)]
    assert began == ended == [3, 4, 5]


def test_an_error_in_the_making_of_a_batch_comes_through():
    def make(number):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(state.ahead(make, 0, 2))


def test_a_state_half_written_is_not_seen_and_makes_way(tmp_path):
    settings = {"a": 1}
    assert state.load(tmp_path, settings) is None
    state.save(tmp_path, settings, {"epoch": 1})
    (tmp_path / f"{state.FILE}.unfinished").write_bytes(b"half")
    assert state.load(tmp_path, settings) == {"epoch": 1}
    state.save(tmp_path, settings, {"epoch": 2})
    assert os.listdir(tmp_path) == [state.FILE]
    assert state.load(tmp_path, settings) == {"epoch": 2}


def test_a_disk_that_is_full_is_told_in_one_line_and_the_state_before_stays(tmp_path):
    state.save(tmp_path, {"a": 1}, {"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"state.pt: cannot be written \(.*\), the one before stays; make room"
        ) as caught:
            state.save(tmp_path, {"a": 1}, {"epoch": 2, "network": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [state.FILE]
    assert state.load(tmp_path, {"a": 1}) == {"epoch": 1}


def test_a_state_is_on_the_disk_before_it_takes_the_place_of_the_last(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, call=call: (calls.append(name), call(*given)))
    state.save(tmp_path, {}, {"epoch": 1})
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("damage", ["empty", "half", "words", "flipped", "another"])
def test_a_damaged_state_is_told_in_one_line(tmp_path, damage):
    state.save(tmp_path, {}, {"network": torch.ones(1000)})
    path = tmp_path / state.FILE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # of a weight
    torch.save([1, 2], tmp_path / "another")
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "words": b"these are words", "flipped": bytes(flipped)}
    broken["another"] = (tmp_path / "another").read_bytes()
    path.write_bytes(broken[damage])
    with pytest.raises(ValueError, match=r"state.pt: is damaged, .*; remove it to start over") as caught:
        state.load(tmp_path, {})
    assert "\n" not in str(caught.value)

"""Training on versions: sets are read as they are, batches are anchors with their versions, a killed run goes on."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from encoder import systems
from encoder.clews import Clews
from encoder.encode import Encoder
from encoder.training import train, version_augment, version_set, versions
from encoder.training.version_batches import BatchMaker, SpectraCache
from encoder.training.version_schedule import VersionSchedule
from encoder.training.version_set import Version, VersionSetError

TINY = Clews(start=(2, 4), channels=(4, 4), blocks=(1, 1), strides=(2, 2), dimensions=8)
SCHEDULE = VersionSchedule(
    epochs=3, steps=2, anchors=2, positives=1, block=30, block_hop=10, learning_rate=1e-3, masking=0.5,
    stretching=0.5, transposing=0.5,
)  # fmt: skip
SYSTEM = replace(systems.CLEWS, name="tiny", network=TINY, schedule=SCHEDULE)


def version(track, work, split="train", **more):
    return Version(track=track, work=work, split=split, path=more.pop("path", f"{track}.wav"), **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four works of two versions to train on, two to validate with: melodies of their own, of 20 to 26 s."""
    made = tmp_path_factory.mktemp("versions")
    (made / "audio").mkdir()
    rows = []
    for work, number in itertools.product(range(6), range(2)):
        rng, name = np.random.default_rng(work), f"{work}-{number}"
        pitches = 110 * 2 ** ((rng.integers(0, 24, 40) + 2 * number) / 12)
        notes = [np.sin(2 * np.pi * f * np.arange(8000 + 2000 * number) / 16_000) for f in pitches]
        soundfile.write(made / "audio" / f"{name}.wav", 0.3 * np.concatenate(notes), 16_000)
        rows.append((name, f"work {work}", "train" if work < 4 else "validation", f"{name}.wav"))
    write_list(made, rows)
    return made


def write_list(folder, rows, columns=("track", "work", "split", "file")):
    with (folder / version_set.FILE).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def test_a_list_of_versions_is_read(folder):
    read = version_set.read(folder)
    assert read == version_set.read(folder / "versions.csv")
    assert read[1] == version("0-1", "work 0", path=folder / "audio" / "0-1.wav")
    assert len(version_set.of_split(read, "train")) == 8
    version_set.require_files(read)
    with pytest.raises(VersionSetError, match=r"0-0.wav: no such file \(12 missing\); name their folder with --audio"):
        version_set.require_files(version_set.read(folder, audio=folder / "elsewhere"))
    with pytest.raises(VersionSetError, match=r"no work has two versions in the split test \(splits .* train, valid"):
        version_set.of_split(read, "test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", "w", "dev", "a.wav"), "line 2: split is 'dev', expected train, validation, test"),
        (("b", "w", "train", "b.wav"), "line 3: track 'b' is there twice"),
        (("a", "", "train", "a.wav"), "line 2: work is empty, expected track, work, split, file in each"),
        (("a", "w", "train"), "line 2: file is empty, expected track, work, split, file in each"),
        (("a",), "line 2: work is empty"),
        (("a", "w", "train", "../a.wav"), "file is '../a.wav', expected a path below the audio folder"),
        (("a", "w", "train", "/a.wav"), "file is '/a.wav', expected a path below the audio folder"),
    ],
)
def test_broken_lists_are_refused(tmp_path, row, message):
    write_list(tmp_path, [row, ("b", "w", "train", "b.wav")])
    with pytest.raises(VersionSetError, match=message):
        version_set.read(tmp_path)


def test_a_list_with_a_byte_order_mark_is_read(tmp_path):
    text = "track,work,split,file\na,w,train,a.wav\nb,w,train,b.wav\n"
    (tmp_path / version_set.FILE).write_text(text, encoding="utf-8-sig")
    assert [v.track for v in version_set.read(tmp_path)] == ["a", "b"]


def test_a_list_without_a_column_and_a_folder_without_a_list_are_refused(tmp_path):
    with pytest.raises(VersionSetError, match="is no version set, expected versions.csv"):
        version_set.read(tmp_path)
    write_list(tmp_path, [("a", "train", "a.wav")], columns=("track", "split", "file"))
    with pytest.raises(VersionSetError, match="has no column work"):
        version_set.read(tmp_path)


def metadata(**entry):
    info = {f"12-{n}": {"id": n, "clique": "12", "filename": f"12/12-{n}.mp3", "length": 200.5} | entry for n in (1, 2)}
    return [info, {"train": {}, "valid": {"12": ["12-1", "12-2"]}, "test": {}}]


def test_the_metadata_of_the_field_is_read(tmp_path):
    torch.save(metadata(title="Song", artist="Band"), tmp_path / "metadata-shs.pt")
    first, second = version_set.read(tmp_path)
    path = tmp_path / "12" / "12-1.mp3"
    assert first == version("12-1", "12", "validation", path=path, title="Song", artist="Band")
    assert second.track == "12-2"


def test_metadata_that_holds_objects_or_something_else_is_refused(tmp_path):
    torch.save([*metadata(), tmp_path], tmp_path / "metadata.pt")
    with pytest.raises(VersionSetError, match="holds code or objects, which are never loaded"):
        version_set.read(tmp_path)
    torch.save({"weights": torch.zeros(2)}, tmp_path / "metadata.pt")
    with pytest.raises(VersionSetError, match="is no metadata of versions"):
        version_set.read(tmp_path)
    torch.save(metadata(filename="../../etc/passwd"), tmp_path / "metadata.pt")
    with pytest.raises(VersionSetError, match="expected a path below the audio folder"):
        version_set.read(tmp_path)


def test_the_lists_of_shs100k_are_read(tmp_path):
    (tmp_path / "list").write_text("7\t0\tSong\tBand\turl\n7\t1\tSong\tOthers\turl\n1234\t5\tTune\tHer\turl\n")
    (tmp_path / "SHS100K-TEST").write_text("7\t0\n7\t1\n1234\t5\n")
    read = version_set.read(tmp_path)
    assert [(v.track, v.work, v.split, v.artist) for v in read[:2]] == [
        ("7-0", "7", "test", "Band"), ("7-1", "7", "test", "Others"),
    ]  # fmt: skip
    assert read[2].path == tmp_path / "12" / "1234-5.mp3"
    assert [v.track for v in version_set.of_split(read, "test")] == ["7-0", "7-1"]
    (tmp_path / "SHS100K-VAL").write_text("9\t9\n")
    with pytest.raises(VersionSetError, match="recording 9-9 is not in list"):
        version_set.read(tmp_path)


def test_a_work_on_both_sides_is_refused():
    with pytest.raises(VersionSetError, match="work 'w' is in the split train and in another one"):
        version_set.require_apart([version("a", "w")], [version("b", "w", "test"), version("c", "x", "test")])


def frames_of(number, length=1000):
    """Frames that tell their track and time: (3 bins, frames)."""
    return np.stack([np.full(length, number), np.arange(length), np.zeros(length)]).astype(np.float32)


def maker(lengths, works, **schedule):
    tracks = [version(str(n), work) for n, work in enumerate(works)]
    spectra = {track.track: frames_of(n, length) for n, (track, length) in enumerate(zip(tracks, lengths, strict=True))}
    settings = replace(SCHEDULE, **schedule)
    return BatchMaker(tracks, lambda track: spectra[track.track], systems.CLEWS.grid, settings)


def test_a_batch_holds_anchors_and_other_versions_of_their_works():
    made = maker([1000] * 5, ["a", "a", "a", "b", "b"], anchors=5, positives=2).batch(0)
    groups = made.tracks.view(5, 3).tolist()
    works = made.works.view(5, 3)
    assert (works == works[:, :1]).all()
    # two others of a, each once; of b the only other one, again
    assert sorted(tuple(sorted(group)) for group in groups) == [(0, 1, 2)] * 3 + [(3, 3, 4), (3, 4, 4)]
    assert all(anchor not in others for anchor, *others in groups)
    np.testing.assert_array_equal(made.spectra[:, :, 0, 0], made.tracks[:, None].expand(-1, made.spectra.shape[1]))


def test_every_track_is_an_anchor_once_before_any_is_again():
    built = maker([400] * 6, ["a", "a", "b", "b", "c", "c"], anchors=2, positives=1)
    anchors = [int(t) for number in range(6) for t in built.batch(number).tracks[::2]]
    assert sorted(anchors[:6]) == sorted(anchors[6:]) == list(range(6))
    assert built.steps == 2
    assert maker([400] * 6, ["a", "a", "b", "b", "c", "c"], steps=0).steps == 3


def test_shingles_come_from_one_block_which_begins_anew_where_it_ends():
    # block of 30 s = 300 frames, shingles of 200 every 100: the second ends with the block
    made = maker([1000] * 4, ["a", "a", "b", "b"]).batch(3)
    times = made.spectra[:, :, 1]
    assert times.shape == (4, 2, 200)
    assert ((times[:, 1, 0] - times[:, 0, 0]) == 100).all()
    assert (times.diff(dim=2) == 1).all()
    assert len(set(times[:, 0, 0].tolist())) > 1
    # 35 s: a third shingle of 200 ... 349, then the block's 0 ... 49
    longer = maker([350] * 4, ["a", "a", "b", "b"], block=35).batch(0).spectra[0, 2, 1]
    np.testing.assert_array_equal(longer, [*range(200, 350), *range(50)])
    short = maker([120] * 4, ["a", "a", "b", "b"]).batch(0).spectra[0, :, 1]
    np.testing.assert_array_equal(short[1, :30], [*range(100, 120), *range(10)])


def test_validation_takes_the_first_block_twice_as_dense():
    made = maker([1000] * 4, ["a", "a", "b", "b"]).first_blocks()
    np.testing.assert_array_equal(made.spectra[0, :, 1, 0], [0, 50, 100])
    assert made.tracks.tolist() == [0, 1, 2, 3]


def test_one_work_is_refused():
    with pytest.raises(ValueError, match="versions of 1 works, expected at least 2"):
        maker([400] * 2, ["a", "a"])


def test_masking_zeroes_one_band_of_bins_or_of_frames():
    generator, ones = torch.Generator().manual_seed(0), torch.ones(84, 200)
    axes = set()
    for _ in range(40):
        zero = version_augment.mask(ones, SCHEDULE, generator) == 0
        rows, columns = zero.all(dim=1).sum().item(), zero.all(dim=0).sum().item()
        assert bool(rows) != bool(columns)
        assert rows <= 12  # 15 % of the bins
        assert columns <= 30
        assert zero.sum() == rows * 200 + columns * 84
        axes.add(bool(rows))
    assert axes == {True, False}
    assert ones.min() == 1


def test_transposition_shifts_by_bins_and_lets_zeros_in():
    generator, spectrum = torch.Generator().manual_seed(0), torch.arange(1.0, 85).unsqueeze(1).repeat(1, 3)
    by_shift = {s: [float(b - s + 1) if 0 <= b - s < 84 else 0.0 for b in range(84)] for s in range(-12, 13)}
    shifts = set()
    for _ in range(100):
        moved = version_augment.transpose(spectrum, SCHEDULE, generator)[:, 0].tolist()
        shifts |= {shift for shift, expected in by_shift.items() if moved == expected}
    assert len(shifts) > 15
    assert {min(shifts), max(shifts)} == {-12, 12}


def test_stretching_changes_the_pace_and_keeps_the_length():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.arange(200.0).expand(84, 200)
    for factor in (0.6, 1.0, 1.8):
        made = version_augment.stretch(ramp, replace(SCHEDULE, stretch=(factor, factor)), generator)
        assert made.shape == (84, 200)
        pace = (made[:, 60] - made[:, 10]) / 50  # where it is repeated, that is later
        assert pace.mean().item() == pytest.approx(1 / factor, rel=0.02)


def test_augmentation_alters_its_share_of_shingles_and_not_its_input():
    spectra = torch.rand(300, 84, 60)
    kept = spectra.clone()
    settings = replace(SCHEDULE, masking=0.2, stretching=0.0, transposing=0.0)
    altered = version_augment.augmented(spectra, settings, torch.Generator().manual_seed(1))
    assert 0.1 < (altered != spectra).flatten(1).any(dim=1).float().mean() < 0.3
    torch.testing.assert_close(spectra, kept, rtol=0, atol=0)


def test_frames_are_computed_once_and_anew_when_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=32_000), 16_000)
    front_end = systems.CLEWS.spectra()
    cache = SpectraCache(tmp_path / "spectra", front_end)
    first = np.array(cache(version("a", "w", path=path)))
    assert first.shape == (84, 20)
    calls = []
    monkeypatch.setattr(cache, "_frames", lambda p: calls.append(p) or first)
    cache(version("a", "w", path=path))
    assert calls == []
    soundfile.write(path, 0.1 * np.random.default_rng(1).normal(size=48_000), 16_000)
    cache(version("a", "w", path=path))
    assert calls == [path]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of three epochs without interruption."""
    out = tmp_path_factory.mktemp("run")
    return out, list(versions.train(version_set.read(folder), SYSTEM, out))


def test_training_writes_an_encoder_and_says_what_it_did(whole):
    out, records = whole
    assert [r.epoch for r in records] == [1, 2, 3]
    assert [r.tracks for r in records] == [8, 16, 24]
    assert all(0 < r.average_precision <= 1 and r.align >= 0 and r.uniform >= 0 for r in records)
    encoder = Encoder(out / versions.FILE)
    assert encoder.system == SYSTEM
    facts = encoder.provenance["data"]
    assert (facts["tracks"], facts["works"]) == (8, 4)
    best = max(r.average_precision for r in records)
    assert max(h["average_precision"] for h in encoder.provenance["history"]) == best


def test_a_run_that_was_killed_ends_where_an_uninterrupted_one_does(folder, whole, tmp_path):
    read = version_set.read(folder)
    next(versions.train(read, SYSTEM, tmp_path))
    resumed = list(versions.train(read, SYSTEM, tmp_path))
    assert [r.epoch for r in resumed] == [2, 3]
    kept = [torch.load(out / "state.pt", weights_only=True)["network"] for out in (whole[0], tmp_path)]
    for name, weight in kept[0].items():
        torch.testing.assert_close(kept[1][name], weight, rtol=0, atol=0)


def test_parts_of_a_batch_give_its_loss(folder, whole, tmp_path):
    read = version_set.read(folder)
    chunked = replace(SYSTEM, schedule=replace(SCHEDULE, chunk=3))
    record = next(versions.train(read, chunked, tmp_path))
    # batch norm sees parts of 3 instead of 8: near, not equal
    assert record.uniform == pytest.approx(whole[1][0].uniform, rel=0.5)


def test_other_settings_and_other_systems_are_refused(folder, whole):
    read = version_set.read(folder)
    with pytest.raises(ValueError, match="belongs to other settings"):
        next(versions.train(read, replace(SYSTEM, schedule=replace(SCHEDULE, gamma=4)), whole[0]))
    fewer = [v for v in read if v.work != "work 0"]
    with pytest.raises(ValueError, match=r"belongs to other settings \(data changed\)"):
        next(versions.train(fewer, SYSTEM, whole[0]))
    with pytest.raises(ValueError, match="system asid is not trained on versions; use `asid train encoder`"):
        next(versions.train(read, systems.ASID, whole[0]))
    with pytest.raises(ValueError, match="system tiny does not learn from pairs of stems; use `asid train versions`"):
        next(train.train(None, SYSTEM, whole[0]))


def test_the_rate_falls_on_a_plateau_and_ends_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "mean_average_precision", lambda *_: 0.5)
    schedule = replace(SCHEDULE, epochs=50, steps=1, patience=1, factor=0.1, final_rate=2e-5, learning_rate=1e-3)
    records = list(versions.train(version_set.read(folder), replace(SYSTEM, schedule=schedule), tmp_path))
    # the first is best; two without a better one lower the rate: 3 at 1e-3, 2 at 1e-4, then 1e-5 is below the last
    assert [r.learning_rate for r in records] == pytest.approx([1e-3] * 3 + [1e-4] * 2)


def test_average_precision_counts_ties_against_us():
    class Same(torch.nn.Module):
        def forward(self, x):
            return type("E", (), {"node_matrices": torch.zeros(len(x), 1, 2)})

    batch = maker([400] * 4, ["a", "a", "b", "b"]).first_blocks()
    # every distance is 0: the one version ranks behind both others, at 3
    assert versions.mean_average_precision(Same(), batch, SCHEDULE, torch.device("cpu")) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": 1}, "anchors is 1, expected at least 2"),
        ({"positives": 0}, "positives is 0"),
        ({"masking": 1.5}, "masking is 1.5, expected 0 to 1"),
        ({"stretch": (2.0, 1.0)}, "expected a rising pair above 0"),
        ({"factor": 1.0}, "factor is 1.0"),
        ({"chunk": -1}, "chunk is -1, expected 0 or more"),
        ({"positive_reduction": "median"}, "no reduction is called 'median'"),
    ],
)
def test_impossible_schedules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VersionSchedule(**changes)

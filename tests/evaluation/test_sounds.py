"""Similar sounds: precision as recorded and by hand, folds, listings of every layout, the study as a whole."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import io

from encoder.adaptive_graph import AdaptiveGraph
from encoder.systems import AN_GNN
from encoder.training.sound_schedule import SoundSchedule
from evaluation.sounds import judgements, layouts, material, notes, precision, study
from evaluation.sounds.folds import folds
from evaluation.sounds.judgements import Judgements
from evaluation.sounds.listing import Sounds
from evaluation.sounds.material import Gathered
from evaluation.sounds.notes import NoteSettings

RECORDED = Path(__file__).parents[2] / ".." / "shared" / "reference" / "fixtures" / "an_gnn"
RATE = 16_000


def recorded(name):
    if not RECORDED.is_dir():
        pytest.skip("the folder shared, with the recorded outputs, is not beside the checkout")
    return dict(np.load(RECORDED / f"{name}.npz"))


# Precision


@pytest.mark.parametrize("name", ["iip5_rand", "iip5_cluster"])
@pytest.mark.parametrize("k", [5, 10, 15, 20])
@pytest.mark.parametrize("pruned", [True, False])
def test_precision_equals_the_released_code(name, k, pruned):
    expected = recorded(name)
    found = precision.published(expected["emb"], expected["labels"], expected["seed_id"], k=k, pruned=pruned)
    assert found.value == pytest.approx(float(expected[f"{'pruned' if pruned else 'unpruned'}_{k}"]), abs=1e-6)


@pytest.mark.parametrize("name", ["iip5_rand", "iip5_cluster"])
def test_each_query_counts_as_in_the_released_code(name):
    expected = recorded(name)
    found = precision.published(expected["emb"], expected["labels"], expected["seed_id"])
    np.testing.assert_array_equal(found.right, expected["per_query_correct"])
    np.testing.assert_array_equal(found.counted, expected["per_query_listlen"])


def crowd():
    """A technique of 103 sounds close together, three sounds of another technique of the same label, two strangers.

    From any of the 103, the 100 nearest are its own technique.
    """
    at = np.r_[np.arange(103) * 0.01, [5.0, 5.1, 5.2], [8.0, 8.1]]
    labels = np.r_[np.zeros(106), np.ones(2)].astype(int)
    techniques = np.r_[np.zeros(103), np.ones(3), [2, 3]].astype(int)
    return at[:, None].astype(np.float32), labels, techniques


def test_published_drops_a_query_whose_hundred_nearest_are_of_its_technique():
    found = precision.published(*crowd())
    assert found.counted[:103].sum() == 0
    assert found.dropped == 103


def test_strict_drops_no_query_that_has_something_to_find():
    """Of the 103, each has the three and then two strangers among its five: 3 of 5 each."""
    found = precision.strict(*crowd())
    assert found.right[:103].tolist() == [3] * 103
    assert (found.counted == 5).all()
    assert found.relevant[0] == 3
    assert found.ceiling == pytest.approx((103 * 3 + 3 * 5 + 2 * 1) / (5 * 108))


def test_published_counts_a_short_list_by_its_length():
    """Three sounds: the first has one neighbour of another technique, and it is right: 1 of 1, not of 5."""
    found = precision.published(np.array([[0.0], [1.0], [2.0]]), np.zeros(3, int), np.array([0, 0, 1]))
    assert found.right[0] == found.counted[0] == 1


def test_strict_orders_equally_near_sounds_wrong_before_right():
    """One right sound and five wrong ones at the same place."""
    at, labels = np.array([[0.0]] + [[1.0]] * 6), np.array([0, 0, 1, 1, 1, 1, 1])
    assert precision.strict(at, labels, np.arange(7), queries=np.array([0])).right.tolist() == [0]


def test_strict_leaves_out_a_query_to_which_nothing_is_relevant():
    found = precision.strict(np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1]), np.arange(3))
    assert found.counted.tolist() == [0, 5, 5]
    assert found.dropped == 1


def test_pruned_neighbours_are_of_another_technique():
    """On a line: query, two of its technique, one wrong, one right. Pruned 1 of the first 2, unpruned 2."""
    at, labels = np.arange(5.0)[:, None], np.array([0, 0, 0, 1, 0])
    techniques, asked = np.array([0, 0, 0, 1, 2]), np.array([0])
    assert precision.strict(at, labels, techniques, queries=asked, k=2).right.tolist() == [1]
    assert precision.strict(at, labels, techniques, queries=asked, k=2, pruned=False).right.tolist() == [2]


def test_sounds_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2, 3\)"):
        precision.strict(np.zeros((3, 1)), np.zeros(2), np.zeros(3))


# Folds


def test_folds_by_item_equal_those_of_the_released_code():
    expected = recorded("kfold_F4_seed12345")
    found = list(folds("item", expected["label"], expected["seed_id"]))
    for number, fold in enumerate(found):
        np.testing.assert_array_equal(fold.test, expected[f"test_{number}"])


def test_folds_by_technique_never_ask_about_what_was_trained_on():
    labels = np.repeat(np.arange(4), 40)
    techniques = np.repeat(np.arange(20), 8)
    asked = []
    for fold in folds("technique", labels, techniques):
        assert not set(techniques[fold.train]) & set(techniques[fold.test])
        assert set(labels[fold.test]) == {0, 1, 2, 3}  # five techniques of each label, one in each fold
        asked += fold.test.tolist()
    assert sorted(asked) == list(range(160))


@pytest.mark.parametrize(("by", "count"), [("technique", 3), ("item", 1)])
def test_folds_that_cannot_be_are_refused(by, count):
    with pytest.raises(ValueError, match=f"{count} folds of"):
        list(folds(by, np.zeros(9), np.repeat([0, 1], [4, 5]), count=count))


# Layouts


def tone(path, frequency=440.0, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * time) * np.exp(-3 * time), RATE)


def table(path, head, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_folders_are_labels_and_their_folders_techniques(tmp_path):
    for name in ("brass/mute/a.wav", "brass/mute/b.wav", "brass/open/c.wav", "drum/d.wav", "drum/e.wav", "stray.wav"):
        tone(tmp_path / name)
    found = layouts.read(tmp_path)
    assert found.label_names == ("brass", "drum")
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert len(set(found.techniques.tolist())) == 4  # mute, open, d, e


def test_a_manifest_of_music_gives_its_one_shots_by_the_first_word_of_their_title(tmp_path):
    rows = [
        ("a.ogg", "bd_808", "oneshot", "train"),
        ("b.ogg", "bd_fat", "oneshot", "test"),
        ("c.ogg", "song", "song", ""),
    ]
    table(tmp_path / "manifest.csv", ("file", "title", "kind", "split"), *rows)
    assert [path.name for path in layouts.read(tmp_path).paths] == ["a.ogg", "b.ogg"]
    only = layouts.read(tmp_path, split="test")
    assert (only.names, only.label_names) == (("b.ogg",), ("bd",))


def test_a_table_without_its_columns_is_refused(tmp_path):
    table(tmp_path / "sounds.csv", ("file", "label"), ("a.wav", "x"))
    with pytest.raises(ValueError, match="no column 'technique'"):
        layouts.read(tmp_path)


@pytest.mark.parametrize(("place", "message"), [("missing", "no such folder"), (".", "names no sounds")])
def test_where_nothing_is_that_is_said(tmp_path, place, message):
    with pytest.raises(FileNotFoundError, match=message):
        layouts.read(tmp_path / place)


@pytest.fixture
def judged(tmp_path):
    """Three techniques, four listeners, two clusters; technique 1 has one more file, technique 2 lacks its audio."""
    groups = np.array([[1, 1, 2], [1, 1, 2], [3, 2, 2], [1, 2, 3]], np.uint8)
    io.savemat(tmp_path / "ticelJudgments.mat", {"ci": groups, "ensemble": np.array([[1, 1, 2]], np.uint8)})
    table(
        tmp_path / "jasmp" / "seed_filelist.csv", ("fpath", "IMT"), ("S/a.wav", "A"), ("S/b.wav", "B"), ("c.wav", "C")
    )
    table(tmp_path / "jasmp" / "extended_pitch_F1.csv", ("seed_id", "filepath"), (2, "S/never.wav"))
    table(tmp_path / "jasmp" / "extended_pitch_F4.csv", ("seed_id", "filepath"), (1, "S/b2.wav"), (1, "S/b.wav"))
    for name in ("a", "b", "b2"):
        tone(tmp_path / "SOL_0.9_HQ" / "S" / f"{name}.wav")
    return tmp_path


def test_the_public_judgements_label_the_files_that_are_there(judged):
    """The widest extension counts, and a judged file stands in it once more, as published."""
    found = layouts.read(judged)
    assert found.names == ("a.wav", "b.wav", "b2.wav", "b.wav")
    assert found.labels.tolist() == [1, 1, 1, 1]
    assert found.techniques.tolist() == [0, 1, 1, 1]
    assert "4 of 5 files" in found.about


def test_the_similarity_of_techniques_is_how_many_listeners_grouped_them(judged):
    """0 and 1 by the first two listeners, 1 and 2 by the third."""
    assert judgements.read(judged).similarity.tolist() == [[4, 2, 0], [2, 4, 1], [0, 1, 4]]
    np.savez(judged / "ticelSimilarity.npz", similarity=np.eye(3))
    with pytest.raises(ValueError, match="is not what the groups"):
        judgements.read(judged)


def test_precomputed_features_stand_in_for_audio(judged):
    for name, value in (("a", 1.0), ("b", 2.0)):
        path = judged / "SOL_0.9_HQ" / "openl3" / "S" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((7, 4), value, np.float32))  # frames, bins
    gathered = material.gather(layouts.read(judged, feature="openl3"), AN_GNN)
    assert gathered.features.tolist() == [[1.0] * 4, [2.0] * 4, [2.0] * 4]


def test_tables_without_audio_say_what_is_missing(judged):
    with pytest.raises(FileNotFoundError, match="none of 5 files is there"):
        layouts.read(judged, feature="openl3")


def test_a_table_that_would_have_to_be_unpickled_is_refused(judged):
    np.savez(judged / "ticelSimilarity.npz", similarity=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        judgements.read(judged)


def test_a_path_that_leads_out_of_the_folder_is_not_there(judged):
    tone(judged.parent / "outside.wav")
    table(judged / "jasmp" / "extended_pitch_F4.csv", ("seed_id", "filepath"), (1, "../outside.wav"))
    assert layouts.read(judged).names == ("a.wav", "b.wav")


def test_judgements_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        Judgements(groups=np.zeros((2, 3), int), consensus=np.zeros(2, int))


# Notes


def voices(**given):
    return NoteSettings(**{"programs": (0,), "pitches": (60,), "velocities": (50, 110), "kits": ()} | given).voices


def test_notes_are_cut_where_they_begin():
    """The second note 1.6 s after the first; a silent one is left out."""
    played = voices()[0].notes[:3]
    wave = np.zeros(round(4.8 * RATE), np.float32)
    wave[round(1.6 * RATE)] = 0.5
    wave[round(3.2 * RATE) + 3] = 0.25
    (first, one), (second, other) = notes.cut(wave, played, RATE)
    assert (first, one[0], second, other[3]) == (played[1], 0.5, played[2], 0.25)


def test_the_score_gives_every_note_its_place():
    (voice,) = voices(programs=(40,), pitches=(60, 62), velocities=(50,))
    assert [note.name for note in voice.notes] == ["60-50-short", "60-50-long", "62-50-short", "62-50-long"]
    time, onsets = 0.0, []
    for message in notes.score(voice):
        time += message.time
        if message.type == "note_on":
            onsets.append(round(time, 3))
    assert onsets == [0.0, 1.6, 3.2, 4.8]


def test_drums_are_labelled_by_their_key_whatever_the_kit():
    (kit,) = voices(programs=(), kits=(25,), velocities=(90,))
    files = [kit.file(note, Path("A.sf2")).as_posix() for note in kit.notes]
    assert files[:2] == ["kick/key-35/A-kit-25-90.flac", "kick/key-36/A-kit-25-90.flac"]
    assert {message.channel for message in notes.score(kit) if message.type == "note_on"} == {9}


def test_no_instrument_has_two_clusters():
    """All programs but sound effects and the orchestra hit; all keys but whistles and cuicas."""
    assert sorted(p for programs in notes.CLUSTERS.values() for p in programs) == [p for p in range(120) if p != 55]
    keys = sorted(key for keys in notes.DRUMS.values() for key in keys)
    assert keys == [key for key in range(35, 82) if key not in (71, 72, 78, 79)]


@pytest.mark.parametrize(
    ("given", "message"), [(dict(programs=(55,)), "hold 55"), (dict(velocities=(128,)), "hold 128")]
)
def test_impossible_notes_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        NoteSettings(**given)


def test_rendered_programs_become_labelled_sounds(tmp_path):
    from encoder.training import midi

    try:
        midi.find_soundfont()
    except midi.MidiError:
        pytest.skip("no soundfont is installed")
    settings = NoteSettings(programs=(0, 73), pitches=(60,), velocities=(100,), kits=())
    assert [voice.name for voice in notes.write(tmp_path, settings)] == ["000", "073"]
    found = layouts.read(tmp_path)
    assert found.label_names == ("piano", "pipe")
    assert found.labels.tolist() == [0, 0, 1, 1]
    kept = found.paths[0].stat().st_mtime_ns
    list(notes.write(tmp_path, settings))
    assert found.paths[0].stat().st_mtime_ns == kept


# Material and study


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path):
    for number, name in enumerate(("a", "b")):
        tone(tmp_path / "x" / f"{name}.wav", 200.0 * (1 + number))
    (tmp_path / "x" / "broken.wav").write_bytes(b"RIFF....WAVEnothing")
    gathered = material.gather(layouts.read(tmp_path), AN_GNN, cache=tmp_path / "cache")
    assert gathered.sounds.names == ("a.wav", "b.wav")
    assert len(gathered.failures) == 1
    again = material.gather(layouts.read(tmp_path), AN_GNN, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.features, gathered.features)
    assert again.failures == gathered.failures


def test_features_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    tone(tmp_path / "x" / "a.wav", 200.0)

    def killed(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", killed)
        with pytest.raises(KeyboardInterrupt):
            material.gather(layouts.read(tmp_path), AN_GNN, cache=tmp_path / "cache")
    assert len(material.gather(layouts.read(tmp_path), AN_GNN, cache=tmp_path / "cache").features) == 1


@pytest.fixture(scope="module")
def gathered():
    """Four labels of ten techniques of three sounds: labels lie in two of eight dimensions, techniques in the rest."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(4), 30)
    techniques = np.repeat(np.arange(40), 3)
    features = 2 * rng.standard_normal((40, 8))[techniques] + 0.3 * rng.standard_normal((120, 8))
    features[:, :2] = 3 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[labels] + rng.standard_normal((120, 2))
    sounds = Sounds(
        about="made", names=("",) * 120, paths=(Path("x"),) * 120, labels=labels, techniques=techniques,
        label_names=tuple("abcd"),
    )  # fmt: skip
    return Gathered(sounds=sounds, features=features.astype(np.float32), failures=())


SMALL = replace(
    AN_GNN, network=AdaptiveGraph(drop_path=0.0), schedule=SoundSchedule(epochs=20, batch=48, learning_rate=0.02)
)


@pytest.mark.parametrize("protocol", ["honest", "published"])
def test_trained_networks_bring_techniques_of_one_label_together(gathered, protocol):
    rows = study.study(gathered, SMALL, protocol, variants=("linear", "weighted"), count=3)
    assert list(rows) == ["euclid", "linear, untrained", "linear", "weighted, untrained", "weighted"]
    facts = study.summary(rows)
    assert facts["weighted"]["queries"] == 120
    assert facts["weighted"]["gain_low"] > 0
    assert facts["weighted"]["ii_p5"] > facts["euclid"]["ii_p5"] + 0.05
    assert "ii-P@5 less untrained" in study.text(facts, protocol=protocol)


def test_a_fold_knows_nothing_of_the_folds_before_it(gathered):
    """The released code goes on with the network of the fold before; the last fold alone gives the same here."""
    whole = study.study(gathered, SMALL, "honest", variants=("knn",), count=3)["knn"].folds[2]
    sounds = gathered.sounds
    fold = list(folds("technique", sounds.labels, sounds.techniques, count=3))[2]
    alone = study.Training(gathered.material.pick(fold.train), replace(SMALL.network, variant="knn"), SMALL.schedule)
    list(alone)
    embeddings = study._all(alone.network, gathered.features, fold, "honest")
    found = precision.strict(embeddings, sounds.labels, sounds.techniques, queries=fold.test)
    np.testing.assert_array_equal(found.right, whole.pruned.right)


def test_honest_features_are_standardised_without_what_is_asked_about(gathered):
    """One test sound a thousand times as far out changes nothing that is trained; as published it does."""
    fold = next(iter(folds("technique", gathered.sounds.labels, gathered.sounds.techniques, count=3)))
    features = gathered.features.copy()
    features[fold.test[0]] *= 1000
    other = replace(gathered, features=features)

    def shown(given, protocol):
        rows = study._embedded(given, SMALL, protocol, fold, 0, ("linear",), None, None)
        return dict(rows)["euclid"][fold.train]

    np.testing.assert_array_equal(shown(gathered, "honest"), shown(other, "honest"))
    assert np.abs(shown(gathered, "published") - shown(other, "published")).max() > 0.1


def test_published_embeddings_hang_on_the_batch_of_64_they_are_in(gathered):
    """A fold of 70: the 65th is in a graph of six, whatever the first 64 are."""
    network = study.Training(gathered.material, replace(SMALL.network, variant="knn"), SMALL.schedule).network
    rows = np.arange(70)
    first = study._all(network, gathered.features, study.Fold(rows, rows), "published")
    features = gathered.features.copy()
    features[:64] = features[:64][::-1]
    second = study._all(network, features, study.Fold(rows, rows), "published")
    np.testing.assert_array_equal(first[64:70], second[64:70])
    assert np.abs(first[:64] - second[:64]).max() > 0.1


def test_a_killed_study_goes_on_and_ends_the_same(gathered, tmp_path):
    told = []
    first = study.study(gathered, SMALL, "honest", variants=("mlp",), count=2, out=tmp_path)
    again = study.study(
        gathered, SMALL, "honest", variants=("mlp",), count=2, out=tmp_path, told=lambda *seen: told.append(seen)
    )
    assert not told  # nothing was left to train
    np.testing.assert_array_equal(first["mlp"].precision(pruned=True).right, again["mlp"].precision(pruned=True).right)


@pytest.mark.parametrize(("protocol", "variants"), [("fair", ("knn",)), ("honest", ("gat",))])
def test_unknown_protocols_and_networks_are_refused(gathered, protocol, variants):
    with pytest.raises(ValueError, match="expected"):
        study.study(gathered, SMALL, protocol, variants=variants)

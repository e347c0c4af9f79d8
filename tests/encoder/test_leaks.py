"""No leak: what is kept for evaluation is not trained on, neither the tracks nor their artists and groups."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from encoder.segments import SegmentGrid
from encoder.training import sources, stems
from encoder.training.pairing import Pairing
from encoder.training.pairs import PairMaker
from encoder.training.stem_cache import StemCache

RATE = 16_000
GRID = SegmentGrid(frames=32, step=8, minimum_samples=16_000)
SPLITS = ("train", "validation", "test")
MUSIC = Path(__file__).parents[2].parent / "shared" / "music"


def write(path, frequency):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(3 * RATE) / RATE
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time), RATE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Nine tones, three of each split, of four artists, prepared as music for training is."""
    folder = tmp_path_factory.mktemp("music")
    rows = ["id,title,artist,group,file,split"]
    for number in range(9):
        write(folder / f"{number}.flac", 200 + 100 * number)
        rows.append(f"t{number},,Artist {number // 2},g{number // 2},{number}.flac,{SPLITS[number // 3]}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    out = tmp_path_factory.mktemp("cache")
    chosen = {"settings": stems.StemSettings(min_beats=0), "splits": ("train", "validation")}
    records = list(stems.prepare(folder, out, **chosen))
    assert [r.status for r in records] == ["stored"] * 6
    return folder, StemCache.open(out)


def test_tracks_of_a_split_that_is_not_asked_for_are_not_in_the_cache(prepared):
    _, cache = prepared
    assert {track.track: track.split for track in cache.tracks} == {
        f"t{number}": SPLITS[number // 3] for number in range(6)
    }


@pytest.mark.parametrize("split", ["train", "validation"])
def test_pairs_of_a_split_are_drawn_and_covered_by_tracks_of_that_split_alone(prepared, split, monkeypatch):
    _, cache = prepared
    read, whose = cache.read, set()
    monkeypatch.setattr(cache, "read", lambda track, *span: whose.add(track.track) or read(track, *span))
    pairing = Pairing(foreign_interference=1.0, mixes=4, interferers=1.0, tempo=(0.9, 1.1))
    maker = PairMaker(cache, pairing, GRID, 2048, split=split, seed=1)
    for number in range(5):
        batch = maker.batch(number, 6)
        assert {maker.tracks[i].split for i in batch.tracks} == {split}
        covers = {i for mix in batch.mixes for i in mix.covers.flatten() if i >= 0}
        assert {maker.tracks[i].split for i in covers} == {split}
    assert whose == {track.track for track in cache.tracks if track.split == split}


def shared(listed, attribute):
    """{artist or group: splits} of those that are in more than one."""
    splits = defaultdict(set)
    for source in listed:
        if getattr(source, attribute):
            splits[getattr(source, attribute)].add(source.split)
    return {name: found for name, found in splits.items() if len(found) > 1}


def test_an_artist_in_two_splits_is_noticed(prepared):
    listed = sources.discover(prepared[0])
    # t2 and t3 are of artist 1, the last of train and the first of validation; t4 and t5 stay together, t6 is alone
    assert shared(listed, "artist") == {"Artist 1": {"train", "validation"}}
    assert shared(listed, "group") == {"g1": {"train", "validation"}}


@pytest.mark.skipif(not (MUSIC / "manifest.csv").is_file(), reason="the folder shared is not beside the checkout")
def test_no_artist_or_group_of_the_test_split_is_trained_on():
    listed = sources.discover(MUSIC)
    assert {source.split for source in listed} == set(SPLITS)
    assert shared(listed, "group") == {}
    # The truth: one artist has music on both sides of training and validation, kept so by the manifest; none of test.
    assert shared(listed, "artist") == {"Software-Entwicklungskit": {"train", "validation"}}
    assert {(source.form, source.split) for source in listed} >= {(f, s) for f in ("recording", "midi") for s in SPLITS}

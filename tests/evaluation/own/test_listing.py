"""Listing: folders, lists and manifests name tracks; a filter keeps a part."""

import csv
import os

import pytest

from evaluation.own import listing
from evaluation.own.listing import Music

MANIFEST = "id,title,artist,group,stem,file,split\n"


@pytest.fixture
def folder(tmp_path):
    """A manifest of two tracks and a song of two stems; one file more that it does not name."""
    rows = ["a,A,Ann,g:ann,,a.wav,test", "b,B,Bob,g:bob,,b.wav,train"]
    rows += ["s-drums,S,Sue,stems:s,drums,s-drums.wav,test", "s-bass,S,Sue,stems:s,bass,s-bass.wav,test"]
    (tmp_path / "manifest.csv").write_text(MANIFEST + "\n".join(rows) + "\n")
    for name in ("a", "b", "s-drums", "s-bass", "unnamed"):
        (tmp_path / f"{name}.wav").write_bytes(b"not looked into")
    return tmp_path


def ids(music: Music) -> list[str]:
    return [listed.source.track for listed in listing.read(music)]


def test_a_manifest_is_the_whole_list_and_stems_of_one_song_are_one_track(folder):
    assert ids(Music(path=folder / "manifest.csv")) == ["a", "b", "stems:s"]


def test_a_filter_keeps_the_rows_of_one_value_and_several_values_are_alternatives(folder):
    assert ids(Music(path=folder, where=("split=test",))) == ["a", "stems:s"]
    assert ids(Music(path=folder, where=("split=test", "split=train"))) == ["a", "b", "stems:s"]


def test_filters_of_two_columns_must_both_fit(folder):
    assert ids(Music(path=folder, where=("split=test", "artist=Ann"))) == ["a"]


def test_a_filter_by_an_unknown_column_names_the_known_ones(folder):
    with pytest.raises(ValueError, match="no column 'genre' .* artist, file, group, id, split, stem, title"):
        listing.read(Music(path=folder, where=("genre=funk",)))


def test_a_filter_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column 'split' .* none, as it has no manifest"):
        listing.read(Music(path=tmp_path, where=("split=test",)))


def test_a_filter_is_a_column_and_a_value():
    with pytest.raises(ValueError, match="filter 'split', expected COLUMN=VALUE"):
        Music(path="music", where=("split",))


def test_a_list_names_files_from_its_own_folder_on(folder):
    (folder / "list.txt").write_text("# mine\na.wav\n\nsub/../b.wav\n")
    assert ids(Music(path=folder / "list.txt")) == ["a.wav", "b.wav"]


def test_files_of_a_list_share_a_group_with_those_of_the_same_folder_unless_they_lie_at_the_top(tmp_path):
    (tmp_path / "list.txt").write_text("x/1.wav\nx/2.wav\ny/3.wav\n4.wav\n")
    groups = {listed.source.track: listed.source.group for listed in listing.read(Music(path=tmp_path / "list.txt"))}
    assert groups == {"x/1.wav": "x", "x/2.wav": "x", "y/3.wav": "y", "4.wav": "4.wav"}


def test_a_missing_source_is_told_with_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder, expected a folder, a list"):
        listing.read(Music(path=tmp_path / "nowhere"))


def test_a_track_is_another_one_after_its_file_changed(folder):
    before = [listed.identity for listed in listing.read(Music(path=folder / "manifest.csv"))]
    os.utime(folder / "a.wav", ns=(1, 1))
    after = [listed.identity for listed in listing.read(Music(path=folder / "manifest.csv"))]
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_a_track_is_another_one_after_its_artist_was_corrected(folder):
    manifest = folder / "manifest.csv"
    before = [listed.identity for listed in listing.read(Music(path=manifest))]
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *({"artist"} - rows[0].keys())])
        writer.writeheader()
        writer.writerows(row | {"artist": "Another"} for row in rows)
    after = [listed.identity for listed in listing.read(Music(path=manifest))]
    assert len(after) == len(before)
    assert all(old != new for old, new in zip(before, after))

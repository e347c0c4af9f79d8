"""Sources: what is recognised in a folder of music, with and without a manifest."""

import pytest

from encoder.training import sources
from encoder.training.sources import discover


def lay(directory, *names):
    """Empty files: discovery opens nothing but manifests."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def manifest(directory, *lines):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / sources.MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def found(directory, **options):
    return {source.track: source for source in discover(directory, **options)}


def stems_of(source):
    return sorted(file.stem for file in source.files)


def test_the_htdemucs_layout_gives_one_track_per_id_and_leaves_out_the_mixes(tmp_path):
    four = ("vocals", "drums", "bass", "other")
    lay(tmp_path, *(f"htdemucs/{i}/{stem}.mp3" for i in ("000002", "000005") for stem in four))
    lay(tmp_path, "000002.mp3", "000/000005.mp3")
    tracks = found(tmp_path)
    assert sorted(tracks) == ["000002", "000005"]
    source = tracks["000002"]
    assert (source.form, source.split, source.kind) == ("stems", "train", "multitrack")
    assert stems_of(source) == ["bass", "drums", "other", "vocals"]
    assert len({source.group for source in tracks.values()}) == 2  # ids say nothing of artists: each its own group


def test_a_manifest_describes_separated_tracks_by_id(tmp_path):
    lay(tmp_path, "htdemucs/7/vocals.mp3", "htdemucs/7/drums.mp3", "fma/7.mp3")
    manifest(tmp_path, "id,title,artist,file,split", "7,Seven,Ann,fma/7.mp3,validation")
    (source,) = discover(tmp_path)
    assert (source.track, source.form, source.title, source.group) == ("7", "stems", "Seven", "Ann")
    assert (stems_of(source), source.split) == (["drums", "vocals"], "validation")


@pytest.mark.parametrize(
    "place", ["Ann/Song/vocals.wav Ann/Song/Drums.wav", "Ann/Song/stems/S00.wav Ann/Song/stems/S01.flac"]
)
def test_a_folder_of_stems_is_one_track_and_its_mix_is_left_out(tmp_path, place):
    lay(tmp_path, *place.split(), "Ann/Song/mixture.wav" if "stems" not in place else "notes.txt")
    (source,) = discover(tmp_path)
    assert (source.track, source.group, source.form, len(source.files)) == ("Ann/Song", "Ann", "stems", 2)


def test_recordings_of_one_folder_are_a_group_and_those_at_the_top_are_their_own(tmp_path):
    lay(tmp_path, "a.wav", "b.mp3", "Ann/c.flac", "Ann/bass.ogg", "Ben/d.mid", "Ben/.hidden.wav", "Ben/cover.jpg")
    groups = {track: (source.group, source.form) for track, source in found(tmp_path).items()}
    assert groups == {
        "a.wav": ("a.wav", "recording"),
        "b.mp3": ("b.mp3", "recording"),
        "Ann/c.flac": ("Ann", "recording"),
        "Ann/bass.ogg": ("Ann", "recording"),  # "c" is no stem, so this is no folder of stems
        "Ben/d.mid": ("Ben", "midi"),
    }


def test_the_folder_given_may_itself_be_named_stems_or_hold_the_stems_of_one_track(tmp_path):
    lay(tmp_path, "stems/a.wav", "stems/b.wav", "Song/bass.wav", "Song/drums.wav")
    assert set(found(tmp_path / "stems")) == {"a.wav", "b.wav"}
    assert [(track, source.form) for track, source in found(tmp_path / "Song").items()] == [("Song", "stems")]


def test_rows_of_a_stems_group_are_one_track_and_their_sum_is_left_out(tmp_path):
    manifest(
        tmp_path,
        "id,title,artist,licence,kind,group,stem,file,split",
        "h1,Hydrogen,Eif,CC0,stem,stems:h,drums,audio/h_drums.ogg,train",
        "h2,Hydrogen,Eif,CC0,stem,stems:h,synth,audio/h_synth.ogg,train",
        "h3,Hydrogen (sum),Eif,CC0,song,stems:h,,audio/h_mix.ogg,train",
        "x,Kick,Bo,CC0,oneshot,pack:Bo,,audio/x.ogg,test",
    )
    tracks = found(tmp_path)
    assert set(tracks) == {"stems:h", "x"}
    assert (stems_of(tracks["stems:h"]), tracks["stems:h"].licence) == (["drums", "synth"], "CC0")
    assert (tracks["x"].kind, tracks["x"].group, tracks["x"].split) == ("oneshot", "pack:Bo", "test")
    assert set(found(tmp_path, splits={"train", "validation"})) == {"stems:h"}


def test_a_manifest_is_the_whole_list_of_its_folder_and_of_no_other(tmp_path):
    lay(tmp_path, "midi/a.mid", "midi/b.mid", "more/c.wav")
    manifest(tmp_path / "midi", "id,artist,source_repo,split", "a,Ann,ann/tunes,validation")
    tracks = found(tmp_path)
    assert set(tracks) == {"a", "more/c.wav"}
    assert (tracks["a"].path, tracks["a"].group) == (tmp_path / "midi/a.mid", "ann/tunes:Ann")


def test_a_manifest_that_lies_elsewhere_speaks_for_the_folder_given(tmp_path):
    lay(tmp_path, "music/a.wav", "music/b.wav")
    manifest(tmp_path / "lists", "id,file", "song a,a.wav")
    (source,) = discover(tmp_path / "music", manifest=tmp_path / "lists" / sources.MANIFEST)
    assert (source.track, source.path) == ("song a", tmp_path / "music/a.wav")


def test_a_listed_file_that_is_missing_is_still_a_source(tmp_path):
    manifest(tmp_path, "id,file", "lost,lost.wav")
    (source,) = discover(tmp_path)
    assert source.path == tmp_path / "lost.wav"


def test_a_folder_without_music_is_empty_and_a_missing_one_is_an_error(tmp_path):
    lay(tmp_path, "notes.txt")
    assert discover(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="no folder"):
        discover(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no manifest"):
        discover(tmp_path, manifest=tmp_path / "list.csv")


def test_manifests_without_ids_or_with_an_id_twice_are_refused(tmp_path):
    manifest(tmp_path, "title,file", "A,a.wav")
    with pytest.raises(ValueError, match="line 2: no id"):
        discover(tmp_path)
    manifest(tmp_path, "id,file", "a,a.wav", "a,b.wav")
    with pytest.raises(ValueError, match=r"track 'a' occurs 2 times \(.*a.wav, .*b.wav\)"):
        discover(tmp_path)

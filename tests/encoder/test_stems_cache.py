"""The stem cache: what is appended is read back, and nothing a killed or starved writer leaves behind is."""

import errno
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from encoder.training import stem_cache
from encoder.training.stem_cache import AUDIO, STEMS, Stem, StemCache, StemCacheError, StemCacheWriter, StemTrack


def track(name, *stems):
    stems = tuple(Stem(name=stem, start=0, scale=0.0) for stem in stems)
    return StemTrack(track=name, group="band", split="train", stems=stems, length=0, title='A, "b"\nc', artist="Ø")


def append(directory, name, *waveforms):
    with StemCacheWriter(directory) as cache:
        stems = [f"stem {i}" for i in range(len(waveforms))]
        return cache.append(track(name, *stems), [np.asarray(w, np.float32) for w in waveforms])


@pytest.fixture
def cache(tmp_path):
    append(tmp_path, "one", [0.5, -1.0, 0.25, 0.0], [2.0, 1.0])
    append(tmp_path, "two", [0.1, 0.2, 0.3])
    return tmp_path


def test_stems_come_back_aligned_padded_and_at_their_level(cache):
    one, two = StemCache.open(cache).tracks
    assert (one.length, two.length) == (4, 3)
    # Stem 0 takes samples 0-3, stem 1 (padded to 4) samples 4-7, the next track begins at 8.
    assert [stem.start for stem in one.stems + two.stems] == [0, 4, 8]
    # The peak of a stem is 32767 steps; half a step is the error: 1 / 65534 and 2 / 65534.
    stems = StemCache.open(cache).read(one, 0, 4)
    assert stems.dtype == np.float32
    np.testing.assert_allclose(stems, [[0.5, -1.0, 0.25, 0.0], [2.0, 1.0, 0.0, 0.0]], atol=2 / 65534)


def test_descriptions_survive_commas_quotes_and_line_breaks(cache):
    one = StemCache.open(cache).tracks[0]
    assert (one.track, one.group, one.split, one.title, one.artist) == ("one", "band", "train", 'A, "b" c', "Ø")


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(1, 2, [0.2, 0.3]), (-2, 3, [0, 0, 0.1]), (2, 3, [0.3, 0, 0]), (-1, 5, [0, 0.1, 0.2, 0.3, 0]), (7, 2, [0, 0])],
)
def test_a_window_is_zero_outside_the_track(cache, start, length, expected):
    opened = StemCache.open(cache)
    np.testing.assert_allclose(opened.read(opened.tracks[1], start, length), [expected], atol=1e-4)


def test_an_empty_stem_is_stored_as_silence(tmp_path):
    append(tmp_path, "one", [0.0, 0.0], [1.0, 0.0])
    opened = StemCache.open(tmp_path)
    np.testing.assert_array_equal(opened.read(opened.tracks[0], 0, 2), [[0, 0], [1, 0]])


def test_several_threads_and_a_pickled_copy_read_the_same(cache):
    opened = StemCache.open(cache)
    copy = pickle.loads(pickle.dumps(opened))
    with ThreadPoolExecutor(4) as executor:
        windows = list(executor.map(lambda i: opened.read(opened.tracks[i % 2], 0, 4), range(100)))
    for i, window in enumerate(windows):
        np.testing.assert_array_equal(window, copy.read(copy.tracks[i % 2], 0, 4))


@pytest.mark.parametrize("left_behind", ["audio", "half a row", "rows of half a track", "garbage"])
def test_what_a_killed_writer_left_is_cut_off_and_the_next_track_lands_right(cache, left_behind):
    rows, audio = (cache / STEMS).read_bytes(), (cache / AUDIO).read_bytes()
    append(cache, "three", [0.5, 0.5], [0.25, 0.25])
    whole = (cache / STEMS).read_bytes()[len(rows) :]
    first, second = whole.splitlines(keepends=True)
    assert first.startswith(b"three")
    assert second.startswith(b"three")
    torn = {
        "audio": b"",
        "half a row": first[:9],
        "rows of half a track": first + second[:5],
        "garbage": b"\x00\xff\n\n",
    }
    (cache / STEMS).write_bytes(rows + torn[left_behind])

    assert [t.track for t in StemCache.open(cache).tracks] == ["one", "two"]
    append(cache, "four", [0.75])
    opened = StemCache.open(cache)
    assert [t.track for t in opened.tracks] == ["one", "two", "four"]
    assert (cache / AUDIO).stat().st_size == len(audio) + 2  # one sample
    np.testing.assert_allclose(opened.read(opened.tracks[2], 0, 1), [[0.75]], rtol=1e-6)


def test_a_reader_sees_the_committed_tracks_while_a_writer_is_open(cache):
    with StemCacheWriter(cache) as writer:
        assert "two" in writer
        writer.append(track("three", "a"), [np.ones(2, np.float32)])
        assert len(StemCache.open(cache)) == 3


def test_a_track_enters_once(cache):
    with pytest.raises(ValueError, match="'one' is in the cache already"):
        append(cache, "one", [1.0])


def test_two_writers_of_one_cache_are_refused(cache):
    with StemCacheWriter(cache), pytest.raises(StemCacheError, match="another preparation is writing"):
        StemCacheWriter(cache)


@pytest.mark.parametrize("full", [AUDIO, STEMS])
def test_a_full_disk_loses_nothing_that_was_committed(cache, monkeypatch, full):
    before = {name: (cache / name).read_bytes() for name in (AUDIO, STEMS)}
    write = stem_cache._write

    def starved(file, data):
        if file.name == cache / full:
            file.write(data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, data)

    monkeypatch.setattr(stem_cache, "_write", starved)
    with pytest.raises(OSError, match=r"no room for track 'three' .* the 2 tracks there are kept: free some space"):
        append(cache, "three", [1.0, 1.0])
    assert {name: (cache / name).read_bytes() for name in (AUDIO, STEMS)} == before


def test_no_cache_an_empty_one_and_a_cut_one_are_told_apart(tmp_path, cache):
    with pytest.raises(StemCacheError, match="is no stem cache"):
        StemCache.open(tmp_path / "nowhere")
    StemCacheWriter(tmp_path / "new").close()
    with pytest.raises(StemCacheError, match="holds 0 tracks"):
        StemCache.open(tmp_path / "new")
    (cache / AUDIO).write_bytes(b"1234")
    # 2 x 4 samples of the first track and 3 of the second.
    with pytest.raises(StemCacheError, match="holds 2 samples, expected 11"):
        StemCache.open(cache)
    with pytest.raises(StemCacheError, match="holds 4 bytes, expected 22"):
        StemCacheWriter(cache)


def test_a_table_of_other_columns_is_refused_and_left_alone(tmp_path):
    (tmp_path / STEMS).write_text("id,file\n1,a.wav\n")
    with pytest.raises(StemCacheError, match="has the columns id, file"):
        StemCacheWriter(tmp_path)
    assert (tmp_path / STEMS).read_text() == "id,file\n1,a.wav\n"


def test_names_and_waveforms_must_agree(tmp_path):
    with StemCacheWriter(tmp_path) as writer, pytest.raises(ValueError, match="2 names for 1 stems"):
        writer.append(track("one", "a", "b"), [np.ones(2, np.float32)])


def test_a_placed_track_equals_the_track_read_back(tmp_path):
    placed = append(tmp_path, "one", [0.3, 0.2])
    assert StemCache.open(tmp_path).tracks == [replace(placed, title='A, "b" c')]

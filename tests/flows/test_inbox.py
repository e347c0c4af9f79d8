"""The inbox: each file dropped is answered once, beside it."""

import os

import pytest

from flows import find
from flows.inbox import answer_inbox
from flows.installation import taking_turns


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    monkeypatch.setenv("ASID_DATA", str(tmp_path))
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def asked(monkeypatch):
    """The names of the queries that a stand-in for the query flow was given; it dies over one called fatal.*."""
    names = []

    class Flow:
        @staticmethod
        def fn(queries, settings, *, include_self, reports):
            for query in queries:
                names.append(query.name)
                if query.stem == "fatal":
                    raise OSError("Milvus is away")
                (reports / f"{query.name}.json").write_text("{}")

    monkeypatch.setattr(find, "find_samples", Flow)
    return names


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_answered_beside_it_and_only_once(inbox, asked):
    (inbox / "song.wav").write_bytes(b"x")
    (inbox / "notes.txt").write_text("no query")
    assert answer_inbox.fn(settle=0).startswith("1 answered")
    assert names(inbox) == ["answered", "notes.txt"]
    assert names(inbox / "answered") == ["song.wav", "song.wav.json"]
    assert answer_inbox.fn(settle=0).startswith("0 answered")
    assert asked == ["song.wav"]


def test_another_file_of_the_same_name_is_another_query(inbox, asked):
    for content in (b"x", b"y"):
        (inbox / "song.wav").write_bytes(content)
        answer_inbox.fn(settle=0)
    assert names(inbox / "answered") == ["song-2.wav", "song-2.wav.json", "song.wav", "song.wav.json"]
    assert (inbox / "answered" / "song-2.wav").read_bytes() == b"y"


def test_a_file_that_may_still_be_written_waits(inbox, asked):
    (inbox / "song.wav").write_bytes(b"x")
    assert answer_inbox.fn(settle=60) == "0 answered, 1 waiting, 0 refused"
    assert (inbox / "song.wav").exists()
    assert asked == []


def test_what_was_interrupted_is_answered_at_the_next_tick(inbox, asked):
    (inbox / "fatal.wav").write_bytes(b"x")
    (inbox / "song.wav").write_bytes(b"x")
    with pytest.raises(OSError, match="Milvus is away"):
        answer_inbox.fn(settle=0)
    (inbox / "answered" / "fatal.wav").unlink()
    assert answer_inbox.fn(settle=0).startswith("1 answered")
    assert asked == ["fatal.wav", "song.wav"]


def test_a_tick_leaves_the_work_to_one_that_is_still_at_it(inbox, asked, tmp_path):
    (inbox / "song.wav").write_bytes(b"x")
    with taking_turns(tmp_path, "inbox") as alone:
        assert alone
        assert answer_inbox.fn(settle=0) == "the last tick is still at work"
    assert answer_inbox.fn(settle=0).startswith("1 answered")


def test_a_link_out_of_the_inbox_is_refused(inbox, asked, tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"x")
    (inbox / "link.wav").symlink_to(tmp_path / "secret.wav")
    assert answer_inbox.fn(settle=0) == "0 answered, 0 waiting, 1 refused"
    assert asked == []


def test_the_inbox_of_the_installation_is_made_where_it_is_missing(inbox, asked):
    inbox.rmdir()
    assert answer_inbox.fn(settle=0) == "0 answered, 0 waiting, 0 refused"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        answer_inbox.fn(inbox / "nowhere", settle=0)


def test_names_that_no_answer_could_bear_are_mended(inbox, asked):
    for name in ("é" * 125 + ".wav", os.fsdecode(b"caf\xe9.wav"), "good.wav"):
        (inbox / name).write_bytes(b"x")
    assert answer_inbox.fn(settle=0).startswith("3 answered")
    assert asked == [r"caf\udce9.wav", "good.wav", "é" * 100 + ".wav"]
    assert answer_inbox.fn(settle=0).startswith("0 answered")


@pytest.mark.parametrize("left", ["json", "html"])
def test_an_answer_that_was_left_behind_is_not_that_of_the_next_file(inbox, asked, left):
    (inbox / "answered").mkdir()
    (inbox / "answered" / f"song.wav.{left}").write_text("of another song")
    (inbox / "song.wav").write_bytes(b"x")
    assert answer_inbox.fn(settle=0).startswith("1 answered")
    assert names(inbox / "answered") == ["song-2.wav", "song-2.wav.json", f"song.wav.{left}"]

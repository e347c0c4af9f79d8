"""What is taken for audio under a folder, and what is refused before anybody opens it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.discover import Found, discover


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(found: Found) -> list[str]:
    return [path.name for path in found.files]


def reasons(found: Found) -> dict[str, str]:
    assert all("\n" not in one.reason for one in found.refused)
    return {one.path.name: one.reason for one in found.refused}


def test_files_are_found_by_suffix_in_order_of_name_and_in_subfolders(tmp_path):
    touched(tmp_path, "b.wav", "a/c.FLAC", "a/notes.txt", "a/._c.flac", "x.wav/inside.mp3")
    found = discover([tmp_path])
    assert found == Found(files=(tmp_path / "a/c.FLAC", tmp_path / "b.wav", tmp_path / "x.wav/inside.mp3"))


def test_hidden_folders_are_not_looked_into_unless_they_are_named(tmp_path):
    touched(tmp_path, "a.wav", ".Trash-1000/files/b.wav", ".snapshot/daily/a.wav", "deep/.cache/c.wav")
    assert names(discover([tmp_path])) == ["a.wav"]
    assert names(discover([tmp_path / ".Trash-1000", tmp_path / "deep" / ".cache"])) == ["b.wav", "c.wav"]


def test_a_path_that_is_not_there_and_a_folder_without_audio_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        discover([tmp_path / "x"])
    with pytest.raises(FileNotFoundError, match="holds no audio file"):
        discover([tmp_path])


def test_paths_keep_their_order_and_a_file_given_by_name_needs_no_suffix(tmp_path):
    touched(tmp_path, "z/1.wav", "a/2.wav", "song")
    assert names(discover([tmp_path / "z", tmp_path / "song", tmp_path / "a"])) == ["1.wav", "song", "2.wav"]


def test_links_out_of_the_folder_are_refused_and_links_within_are_followed(tmp_path):
    root, other = touched(tmp_path / "music", "one.wav"), touched(tmp_path / "private", "secret.wav")
    (root / "away.wav").symlink_to(other / "secret.wav")
    (root / "folder").symlink_to(other, target_is_directory=True)
    (root / "within.wav").symlink_to(root / "one.wav")
    (root / "winding.wav").symlink_to(Path("../music/../private/secret.wav"))
    found = discover([root])
    assert names(found) == ["one.wav", "within.wav"]
    assert set(reasons(found)) == {"away.wav", "folder", "winding.wav"}
    assert all(f"outside of {root}" in reason and "private" in reason for reason in reasons(found).values())


def test_what_the_user_names_may_itself_be_a_link(tmp_path):
    root = touched(tmp_path / "music", "one.wav")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    (tmp_path / "song.wav").symlink_to(root / "one.wav")
    found = discover([tmp_path / "link", tmp_path / "song.wav"])
    assert found == Found(files=(tmp_path / "link/one.wav", tmp_path / "song.wav"))


def test_loops_of_links_end(tmp_path):
    touched(tmp_path, "a/one.wav")
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "self.wav").symlink_to(tmp_path / "self.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    found = discover([tmp_path])
    assert found.files == (tmp_path / "a/one.wav",)
    assert "Too many levels of symbolic links" in reasons(found)["self.wav"]
    assert "No such file" in reasons(found)["gone.wav"]


def test_dots_and_links_do_not_lead_out_of_the_folder_a_worker_is_given(tmp_path):
    inbox, other = touched(tmp_path / "inbox", "one.wav"), touched(tmp_path / "other", "two.wav")
    (inbox / "link").symlink_to(other, target_is_directory=True)
    asked = [inbox, inbox / ".." / "other", inbox / "link", other / "two.wav"]
    found = discover(asked, within=inbox)
    assert names(found) == ["one.wav"]
    # "link" twice: below the inbox, and named.
    assert [one.path.name for one in found.refused] == ["link", "other", "link", "two.wav"]
    assert all(f"outside of {inbox}" in one.reason for one in found.refused)
    assert names(discover([other / ".." / "inbox" / "one.wav"], within=inbox)) == ["one.wav"]


def test_pipes_are_never_opened_whether_met_or_named(tmp_path):
    touched(tmp_path, "one.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for asked in ([tmp_path], [tmp_path / "one.wav", tmp_path / "pipe.wav"]):
        found = discover(asked)
        assert names(found) == ["one.wav"]
        assert "is a pipe, a socket or a device" in reasons(found)["pipe.wav"]


def test_a_name_that_is_no_text_is_refused_in_a_printable_line(tmp_path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff\n.wav"))).write_bytes(b"x")
    touched(tmp_path, "é ü 🎵.wav", "new\nline.wav", "-x.wav", "x%03d.wav")
    found = discover([tmp_path])
    assert names(found) == ["-x.wav", "new\nline.wav", "x%03d.wav", "é ü 🎵.wav"]
    assert reasons(found) == {r"b\udcff\n.wav": "has a name that is not UTF-8, which no ledger can hold; rename it"}


def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    touched(tmp_path, "one.wav", "closed/two.wav")
    code = (
        "import os, sys; from pathlib import Path; from flows.discover import discover;"
        "os.geteuid() or os.seteuid(1234);"  # root reads everything
        "found = discover([Path(sys.argv[1])]);"
        "print([p.name for p in found.files], [(r.path.name, r.reason) for r in found.refused])"
    )
    for folder in [tmp_path, *tmp_path.parents][:3]:
        os.chmod(folder, 0o755)
    (tmp_path / "closed").chmod(0)
    try:
        done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    finally:
        (tmp_path / "closed").chmod(0o755)
    expected = [("closed", "cannot be read: Permission denied; check its permissions")]
    assert done.stdout.strip() == f"['one.wav'] {expected}"

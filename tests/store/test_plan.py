"""What the ledger makes of files that are new, unchanged, changed, moved, broken or removed."""

import os

import pytest
import sqlalchemy as sa

from store.catalogue import Catalogue
from store.identity import Identity, IndexMismatch
from store.ledger import LedgerMismatch, LedgerUnavailable, open_engine, write_setting
from store.plan import plan

DIGEST = "0123456789abcdef"


def identity_of(digest):
    return Identity(digest=digest, nodes=3, channels=4, dimensions=16, hop=0.5, segment_duration=4.0)


@pytest.fixture
def catalogue():
    return Catalogue.open("sqlite://", DIGEST)


def store_all(catalogue, paths):
    for pending in plan(catalogue, paths).pending:
        catalogue.placed(pending.number, rows=3, segments=2, duration=1.5, title=pending.path.stem)
        catalogue.stored(pending.number)


def test_new_files_are_pending_in_their_order_and_stay_so_until_stored(catalogue, files):
    paths = files(3)
    first, second = plan(catalogue, paths), plan(catalogue, paths)
    assert [pending.path for pending in first.pending] == paths
    assert first == second
    assert len({pending.number for pending in first.pending}) == 3


def test_the_same_path_given_twice_is_planned_once(catalogue, files, monkeypatch):
    (path,) = files(1)
    monkeypatch.chdir(path.parent)
    assert len(plan(catalogue, [path, path.name, str(path)]).pending) == 1


def test_stored_files_are_skipped_without_being_read(catalogue, files, monkeypatch):
    paths = files(2)
    store_all(catalogue, paths)
    monkeypatch.setattr("store.plan.content_hash", lambda path: pytest.fail(f"{path} was read"))
    outcome = plan(catalogue, paths)
    assert outcome.pending == ()
    assert [track.path for track in outcome.unchanged] == paths


def test_a_touched_file_with_the_same_content_is_unchanged(catalogue, files):
    paths = files(1)
    store_all(catalogue, paths)
    os.utime(paths[0], (1, 1))
    assert len(plan(catalogue, paths).unchanged) == 1
    assert catalogue.by_paths(paths)[0].mtime_ns == 1_000_000_000  # 1 s


def test_a_changed_file_is_pending_again_under_its_number(catalogue, files):
    paths = files(1)
    store_all(catalogue, paths)
    paths[0].write_bytes(b"another recording")
    (pending,) = plan(catalogue, paths).pending
    assert pending.number == 1
    assert [track.number for track in catalogue.leftovers()] == [1]


def test_another_checkpoint_has_rows_of_its_own_for_the_same_files(catalogue, files):
    paths = files(2)
    store_all(catalogue, paths)
    other = Catalogue(catalogue._engine, "fedcba9876543210")
    assert [pending.number for pending in plan(other, paths).pending] == [3, 4]
    assert (other.counts().stored, catalogue.counts().stored) == (0, 2)
    assert [track.number for track in other.find("1.wav") + other.by_paths(paths[:1])] == [3]
    other.forget()
    assert (other.tracks(), len(catalogue.tracks())) == ([], 2)


def test_the_first_checkpoint_is_in_use_until_another_takes_over(catalogue):
    first, second = identity_of(DIGEST), identity_of("fedcba9876543210")
    catalogue.adopt(first)
    other = Catalogue(catalogue._engine, second.digest)
    with pytest.raises(IndexMismatch, match=f"made with digest {DIGEST}, this encoder has digest fedcba"):
        other.adopt(second)
    other.adopt(second, beside=True)
    assert other.current() == DIGEST
    other.switch()
    assert other.current() == second.digest
    with pytest.raises(IndexMismatch):
        catalogue.adopt(first)
    assert other.identities() == {DIGEST: first, second.digest: second}


def test_a_moved_file_keeps_its_number_and_only_changes_its_path(catalogue, files):
    paths = files(2)
    store_all(catalogue, paths)
    moved = paths[0].rename(paths[0].with_name("renamed.wav"))
    outcome = plan(catalogue, [moved, paths[1]])
    assert [(track.number, track.path) for track in outcome.unchanged] == [(1, moved), (2, paths[1])]
    assert len(catalogue.tracks()) == 2


def test_a_copy_of_a_file_that_is_still_there_is_a_track_of_its_own(catalogue, files):
    paths = files(1)
    store_all(catalogue, paths)
    copy = paths[0].with_name("copy.wav")
    copy.write_bytes(paths[0].read_bytes())
    assert [pending.number for pending in plan(catalogue, [copy]).pending] == [2]


def test_a_failed_file_is_reported_again_but_tried_again_only_on_request_or_change(catalogue, files):
    paths = files(1)
    (pending,) = plan(catalogue, paths).pending
    catalogue.failed(pending.number, "no audio in it")
    again = plan(catalogue, paths)
    assert again.pending == ()
    assert [(track.number, track.reason) for track in again.failed] == [(1, "no audio in it")]
    assert plan(catalogue, paths, retry=True).pending == (pending,)
    catalogue.failed(pending.number, "no audio in it")
    paths[0].write_bytes(b"repaired")
    assert [one.number for one in plan(catalogue, paths).pending] == [1]


def test_an_unreadable_file_fails_with_its_reason_and_the_rest_goes_on(catalogue, files):
    paths = files(2)
    missing = paths[0].with_name("missing.wav")
    outcome = plan(catalogue, [missing, *paths])
    assert [(track.path, track.reason) for track in outcome.failed] == [
        (missing, "cannot be read: No such file or directory")
    ]
    assert len(outcome.pending) == 2
    missing.write_bytes(b"it is here now")
    assert [pending.path for pending in plan(catalogue, [missing]).pending] == [missing]


def test_a_stored_track_stays_stored_while_its_file_is_out_of_reach(catalogue, files):
    paths = files(1)
    store_all(catalogue, paths)
    paths[0].unlink()
    assert len(plan(catalogue, paths).unchanged) == 1


def test_many_files_are_planned_at_once(catalogue, files):
    paths = files(1200)  # more than two batches of 500
    store_all(catalogue, paths[:600])
    outcome = plan(catalogue, paths)
    assert (len(outcome.unchanged), len(outcome.pending)) == (600, 600)


def test_tracks_are_found_by_number_path_or_title(catalogue, files):
    paths = files(3)
    store_all(catalogue, paths)
    assert [track.number for track in catalogue.find(3)] == [3]
    assert [track.number for track in catalogue.find(paths[1])] == [2]
    assert [track.number for track in catalogue.find("2")] == [2, 3]  # number 2, and the file 2.wav titled "2"
    assert catalogue.find("nothing of that name") == []


def test_titles_are_found_in_any_case_of_any_letters(catalogue, files):
    (pending,) = plan(catalogue, files(1)).pending
    catalogue.placed(pending.number, rows=1, segments=1, duration=1.0, title="Été")
    assert [len(catalogue.find(title)) for title in ("Été", "été", "ÉTÉ", "Ete")] == [1, 1, 1, 0]


def test_counts_and_states_agree(catalogue, files):
    paths = files(4)
    store_all(catalogue, paths[:2])
    plan(catalogue, paths)
    catalogue.failed(3, "broken")
    counts = catalogue.counts()
    assert (counts.pending, counts.stored, counts.failed, counts.removed) == (1, 2, 1, 0)
    assert (counts.segments, counts.duration) == (4, 3.0)  # two tracks of 2 segments and 1.5 s
    assert [track.number for track in catalogue.tracks("failed")] == [3]


def test_unknown_numbers_are_told(catalogue):
    with pytest.raises(LookupError, match="no track 7"):
        catalogue.track(7)
    with pytest.raises(LookupError, match="no track 7"):
        catalogue.stored(7)


def test_a_ledger_survives_being_closed_with_its_times_in_utc(tmp_path, files):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    catalogue = Catalogue.open(url, DIGEST)
    store_all(catalogue, files(1))
    catalogue.close()
    (track,) = Catalogue.open(url, DIGEST).tracks("stored")
    assert track.created.utcoffset().total_seconds() == 0
    assert track.updated >= track.created


def test_a_ledger_of_another_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    with open_engine(url).begin() as connection:
        write_setting(connection, "schema", "99")
    with pytest.raises(LedgerMismatch, match="schema 99, this version of asid reads schema 2; use the version of asid"):
        Catalogue.open(url, DIGEST)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("these are words, not tables" * 100)
    with pytest.raises(LedgerUnavailable, match="file is not a database"):
        Catalogue.open(f"sqlite:///{tmp_path}/ledger.sqlite", DIGEST)


def test_a_second_writer_is_told_that_the_ledger_is_held(tmp_path, monkeypatch, files):
    monkeypatch.setattr("store.ledger.BUSY_TIMEOUT", 0.1)
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    one, other = Catalogue.open(url, DIGEST), Catalogue.open(url, DIGEST)
    plan(one, files(1))
    with one._engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        assert len(other.tracks()) == 1  # reading goes on
        with pytest.raises(LedgerUnavailable, match="database is locked"):
            other.failed(1, "broken")


def test_files_that_another_process_has_just_planned_are_planned_all_the_same(tmp_path, files, monkeypatch):
    url, paths = f"sqlite:///{tmp_path}/ledger.sqlite", files(3)
    one, other = Catalogue.open(url, DIGEST), Catalogue.open(url, DIGEST)
    by_paths, calls = one.by_paths, []

    def late(wanted):
        found = by_paths(wanted)
        if not calls:  # the other process writes after this one has looked
            plan(other, paths)
        calls.append(wanted)
        return found

    monkeypatch.setattr(one, "by_paths", late)
    assert [pending.number for pending in plan(one, paths).pending] == [1, 2, 3]


def test_what_another_worker_encodes_is_left_as_it_is(catalogue, files):
    paths = files(1)
    (pending,) = plan(catalogue, paths).pending
    catalogue.claims.take(pending.number)
    paths[0].write_bytes(b"another recording")
    assert plan(catalogue, paths).pending == (pending,)
    assert catalogue.leftovers() == []


def test_a_file_that_is_moved_while_another_worker_encodes_it_waits_for_the_next_run(catalogue, files):
    paths = files(2)
    moved, other = plan(catalogue, paths).pending
    catalogue.claims.take(moved.number)
    there = paths[0].rename(paths[0].with_name("moved.wav"))
    assert plan(catalogue, [there, paths[1]]).pending == (other,)
    catalogue.claims.release()
    assert [(one.number, one.path) for one in plan(catalogue, [there]).pending] == [(moved.number, there)]


def test_two_that_begin_a_catalogue_at_the_same_time_have_one_between_them(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    one, other = Catalogue.open(url, DIGEST), Catalogue.open(url, DIGEST)
    third = Catalogue.open(url, "fedcba9876543210")
    looked = [catalogue.current() for catalogue in (one, other, third)]
    for catalogue in (one, other, third):  # each looks before any has written
        monkeypatch.setattr(catalogue, "current", lambda: None)
        monkeypatch.setattr(catalogue, "identities", dict)
    one.adopt(identity_of(DIGEST))
    name = one.name()
    other.adopt(identity_of(DIGEST))
    with pytest.raises(IndexMismatch, match="digest 0123456789abcdef, this encoder has digest fedcba9876543210"):
        third.adopt(identity_of("fedcba9876543210"))
    assert (looked, one.name(), other.name()) == ([None] * 3, name, name)
    assert list(Catalogue.open(url, DIGEST).identities()) == [DIGEST]


def test_a_database_that_lets_nobody_create_tables_is_told(monkeypatch):
    def refused(*_):
        raise sa.exc.ProgrammingError("CREATE TABLE", {}, Exception("permission denied for schema public"))

    monkeypatch.setattr("store.ledger._tables.create_all", refused)
    with pytest.raises(LedgerUnavailable, match="permission denied for schema public; let its user create tables"):
        open_engine("sqlite://")


@pytest.fixture
def other(catalogue):
    """The rows of a second encoder in the same ledger; the first is the one in use."""
    catalogue.adopt(identity_of(DIGEST))
    second = Catalogue(catalogue._engine, "fedcba9876543210")
    second.adopt(identity_of("fedcba9876543210"), beside=True)
    return second


def names_of(tracks):
    return [track.path.name for track in tracks]


def test_a_removed_file_stays_out_when_another_encoder_takes_over(catalogue, other, files):
    paths = files(2)
    store_all(catalogue, paths)
    catalogue.removed(1)
    outcome = plan(other, paths)
    assert (names_of(outcome.removed), names_of(outcome.pending)) == (["0.wav"], ["1.wav"])
    assert plan(other, paths) == outcome


def test_a_removed_file_that_was_moved_stays_out_with_another_encoder_and_a_copy_that_is_kept_does_not(
    catalogue, other, files
):
    paths = files(1)
    copy = paths[0].with_name("copy.wav")
    copy.write_bytes(paths[0].read_bytes())
    store_all(catalogue, [*paths, copy])
    catalogue.removed(1)
    moved = paths[0].rename(paths[0].with_name("moved.wav"))
    outcome = plan(other, [moved, copy])
    assert (names_of(outcome.removed), names_of(outcome.pending)) == (["moved.wav"], ["copy.wav"])


def test_what_is_removed_is_removed_from_every_encoder_that_has_it(catalogue, other, files):
    paths = files(2)
    store_all(catalogue, paths)
    store_all(other, paths)
    (track, _) = other.by_paths(paths)
    other.removed(track.number)
    assert names_of(catalogue.tracks("removed")) == ["0.wav"]
    assert names_of(catalogue.leftovers()) == ["0.wav"]  # cleared when it is opened for writing
    assert names_of(catalogue.tracks("stored")) == names_of(other.tracks("stored")) == ["1.wav"]


def test_a_removed_file_stays_out_though_its_content_changes_or_cannot_be_read(catalogue, files):
    paths = files(1)
    store_all(catalogue, paths)
    catalogue.removed(1)
    paths[0].write_bytes(b"the same music with another tag")
    assert names_of(plan(catalogue, paths).removed) == ["0.wav"]
    paths[0].unlink()
    assert names_of(plan(catalogue, paths).removed) == ["0.wav"]
    paths[0].write_bytes(b"back again")
    assert names_of(plan(catalogue, paths).removed) == ["0.wav"]
    assert names_of(plan(catalogue, paths, retry=True).pending) == ["0.wav"]


def test_a_removed_file_that_is_asked_for_again_comes_back_for_every_encoder(catalogue, other, files):
    paths = files(1)
    store_all(catalogue, paths)
    catalogue.removed(1)
    assert names_of(plan(other, paths).removed) == ["0.wav"]
    assert names_of(plan(other, paths, retry=True).pending) == ["0.wav"]
    assert names_of(plan(catalogue, paths).pending) == ["0.wav"]
    assert names_of(plan(other, paths).pending) == ["0.wav"]


def test_that_a_file_was_removed_outlives_the_encoder_it_was_removed_from(catalogue, other, files):
    paths = files(3)
    store_all(catalogue, paths)
    store_all(other, paths[1:2])
    catalogue.removed(1)
    other.switch()
    catalogue.forget()
    assert catalogue.tracks() == []
    outcome = plan(other, paths)
    assert [names_of(tracks) for tracks in (outcome.removed, outcome.unchanged, outcome.pending)] == [
        ["0.wav"], ["1.wav"], ["2.wav"],
    ]  # fmt: skip
    assert other.leftovers() == []


def test_a_file_given_with_dots_in_its_path_is_no_second_track(catalogue, files):
    (path,) = files(1)
    dotted = path.parent / ".." / path.parent.name / path.name
    assert [pending.path for pending in plan(catalogue, [dotted, path]).pending] == [path]
    store_all(catalogue, [path])
    assert [track.path for track in plan(catalogue, [dotted]).unchanged] == [path]
    assert [track.path for track in catalogue.find(dotted)] == [path]


def test_dots_behind_a_link_lead_where_the_disk_says(catalogue, files, tmp_path):
    (path,) = files(1)
    (path.parent / "inner").mkdir()
    (tmp_path / "link").symlink_to(path.parent / "inner")
    behind = tmp_path / "link" / ".." / path.name  # lies in audio/, not in the folder of the link
    assert [pending.path for pending in plan(catalogue, [behind]).pending] == [behind]

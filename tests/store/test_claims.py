"""Claims: one worker a track, and a dead worker's tracks come back."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from store import ledger
from store.catalogue import Catalogue
from store.claims import Claims
from store.plan import plan

DIGEST = "0123456789abcdef"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """URL of a PostgreSQL server of this test's own, on a socket; ends with the module."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries or shutil.which("runuser") is None or os.getuid() != 0:
        pytest.skip("no PostgreSQL that can be started here (needs root, runuser and Debian's postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `cluster`)")
    folder, home = binaries[-1].parent, Path(tempfile.mkdtemp(prefix="asid-pg-"))
    shutil.chown(home, "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    options = f"-k {home} -c listen_addresses= -c fsync=off"
    try:
        subprocess.run(
            [*as_postgres, folder / "initdb", "-D", home / "data", "-A", "trust"], check=True, stdout=subprocess.DEVNULL
        )
        start = [folder / "pg_ctl", "-D", home / "data", "-l", home / "log", "-o", options, "-w"]
        subprocess.run([*as_postgres, *start, "start"], check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://postgres@/postgres?host={home}"
        subprocess.run([*as_postgres, *start, "stop", "-m", "immediate"], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.sqlite"
        return
    url = request.getfixturevalue("postgres")
    yield url
    engine = sa.create_engine(url)
    ledger._tables.drop_all(engine)
    engine.dispose()


def two_workers(url, holds=60.0):
    catalogue = Catalogue.open(url, DIGEST)
    return catalogue, *(Claims(catalogue._engine, url, holds=holds) for _ in range(2))


def test_a_claimed_track_is_nobody_elses_until_it_is_settled(url, files):
    catalogue, one, other = two_workers(url)
    first, second = (pending.number for pending in plan(catalogue, files(2)).pending)
    assert (one.take(first), other.take(first), one.take(first), other.take(second)) == (True, False, True, True)
    catalogue.stored(first)
    assert not other.take(first)
    catalogue.pending(first)
    assert other.take(first)


def test_a_claim_that_ran_out_may_be_taken(url, files, monkeypatch):
    catalogue, one, other = two_workers(url)
    (pending,) = plan(catalogue, files(1)).pending
    now = 1000.0
    monkeypatch.setattr("store.claims.time.time", lambda: now)
    monkeypatch.setattr("store.catalogue.time.time", lambda: now)
    one.take(pending.number)
    assert catalogue.leftovers() == []
    now = 1059.0
    assert not other.take(pending.number)
    assert one.take(pending.number)  # renewed until 1119
    now = 1118.0
    assert not other.take(pending.number)
    now = 1120.0
    assert [track.number for track in catalogue.leftovers()] == [pending.number]
    assert other.take(pending.number)
    assert not one.take(pending.number)


def test_nothing_is_claimed_of_a_track_that_is_not_pending_or_not_there(url, files):
    catalogue, one, _ = two_workers(url)
    (pending,) = plan(catalogue, files(1)).pending
    catalogue.failed(pending.number, "broken")
    assert not one.take(pending.number)
    assert not one.take(99)


def test_a_worker_that_ends_gives_up_what_it_has_left_undone(url, files, open_references):
    catalogue, one, other = two_workers(url)
    first, second = (pending.number for pending in plan(catalogue, files(2)).pending)
    one.take(first)
    other.take(second)
    one.release()
    assert (other.take(first), one.take(second)) == (True, False)


def test_closing_references_gives_up_their_claims(url, files, open_references):
    references = open_references(ledger_url=url)
    (pending,) = references.plan(files(1)).pending
    assert references.claim(pending)
    references.close()
    assert open_references(ledger_url=url).claim(pending)


def test_claims_of_a_process_that_is_gone_are_given_up_at_once(url, files):
    catalogue, one, other = two_workers(url)
    first, second, third = (pending.number for pending in plan(catalogue, files(3)).pending)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host, _, token = one.worker.rsplit(":", 2)
    one.worker = f"{host}:{gone.pid}:{token}"
    one.take(first)
    alive = Claims(catalogue._engine, url)  # of this very process
    alive.take(second)
    far = Claims(catalogue._engine, url)
    far.worker = f"another.host:{gone.pid}:{token}"
    far.take(third)
    other.release_dead()
    assert [other.take(number) for number in (first, second, third)] == [True, False, False]


def test_many_threads_and_connections_never_share_a_track(url, files):
    catalogue = Catalogue.open(url, DIGEST)
    numbers = [pending.number for pending in plan(catalogue, files(20)).pending]
    workers = [Claims(Catalogue.open(url, DIGEST)._engine, url) for _ in range(6)]
    taken = [[] for _ in workers]

    def work(worker, mine):
        mine += [number for number in numbers if worker.take(number)]

    threads = [threading.Thread(target=work, args=pair) for pair in zip(workers, taken)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in taken for number in mine) == numbers


def test_a_worker_is_named_after_host_and_process(url):
    _, one, other = two_workers(url)
    assert one.worker != other.worker
    assert one.worker.rsplit(":", 2)[1] == str(os.getpid())


def test_the_references_work_with_either_ledger(url, files, encode, open_references):
    references = open_references(ledger_url=url)
    first, second = references.plan(files(2)).pending
    references.add(first, [encode(1, range(300))], duration=150.0, title="first")
    references.failed(second.number, "no audio in it")
    assert references.counts().segments == 300
    assert [track.number for track in references.catalogue.find("FIRST")] == [first.number]
    assert references.remove(first.number).state == "removed"
    assert references.sizes().ledger is None or url.startswith("sqlite")
    assert references.plan(files(2)).failed[0].reason == "no audio in it"

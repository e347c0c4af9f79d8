"""Two encoders in one catalogue: the second is filled beside the first, takes over, and the first is dropped."""

from pathlib import Path

import pytest

from store import models
from store.catalogue import Catalogue
from store.directory import ledger_url
from store.fingerprints import IndexIncomplete
from store.identity import IndexMismatch
from store.segment_ids import segment_id

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def place(tmp_path):
    return models.Place(directory=tmp_path / "data")


def fill(references, paths, encode, seed):
    return [
        references.add(pending, [encode(seed + n, range(300))], duration=150.0)
        for n, pending in enumerate(references.plan(paths).pending)
    ]


def test_a_second_model_is_filled_beside_the_first_and_takes_over(place, files, encode, open_references):
    paths = files(2)
    old = open_references()
    fill(old, paths, encode, 0)
    with pytest.raises(IndexMismatch, match="asid ingest --checkpoint NEW"):
        open_references(digest=NEW)
    new = open_references(digest=NEW, beside=True)
    fill(new, paths[:1], encode, 10)
    assert len(old.candidates(encode(1, [0]).fingerprints, limit=600)) == 600  # each sees its own
    assert len(new.candidates(encode(1, [0]).fingerprints, limit=600)) == 300
    assert [(m.digest, m.in_use, m.counts.stored) for m in models.models(place)] == [(OLD, True, 2), (NEW, False, 1)]
    assert models.stored_paths(place) == paths
    assert new._fingerprints._target() == f"fingerprints_{OLD[:12]}"
    new.switch()
    assert new._fingerprints._target() == f"fingerprints_{NEW[:12]}"
    assert [(m.digest, m.in_use) for m in models.models(place)] == [(NEW, True), (OLD, False)]
    old.close()
    with pytest.raises(IndexMismatch, match=f"digest {NEW}, this encoder has digest {OLD}"):
        open_references(read_only=True)
    assert open_references(digest=NEW, read_only=True).counts().stored == 1


def test_what_is_removed_under_the_new_model_is_not_searchable_after_going_back(files, encode, open_references):
    paths, old = files(2), open_references()
    fill(old, paths, encode, 0)
    new = open_references(digest=NEW, beside=True)
    fill(new, paths, encode, 10)
    new.switch()
    new.remove(new.catalogue.by_paths(paths)[0].number)
    old.switch()
    old.close()
    back = open_references()
    assert [track.path for track in back.catalogue.tracks("stored")] == paths[1:]
    assert back._fingerprints.count() == back.require_complete() == 300
    assert back.plan(paths).pending == ()


def test_an_alias_left_behind_by_an_interrupted_switch_follows_the_ledger(files, encode, open_references):
    open_references()
    new = open_references(digest=NEW, beside=True)
    new.catalogue.switch()  # and then the process died
    assert open_references(digest=NEW)._fingerprints._target() == f"fingerprints_{NEW[:12]}"


def test_rebuilding_the_model_beside_leaves_the_alias_alone(files, encode, open_references):
    old = open_references()
    fill(old, files(1), encode, 0)
    new = open_references(digest=NEW, beside=True)
    fill(new, files(1), encode, 5)
    assert new.rebuild() == 300
    assert new._fingerprints._target() == f"fingerprints_{OLD[:12]}"
    assert old.rebuild() == 300
    assert new._fingerprints._target() == f"fingerprints_{OLD[:12]}"


def test_dropping_deletes_one_model_everywhere_and_no_other(place, files, encode, open_references, tmp_path):
    old, paths = open_references(), files(2)
    fill(old, paths, encode, 0)
    new = open_references(digest=NEW, beside=True)
    fill(new, paths, encode, 10)
    new.switch()
    for references in (old, new):
        references.close()
    with pytest.raises(ValueError, match="fedcba987654 is in use"):
        models.drop(place, "fed")
    with pytest.raises(LookupError, match="'abc' names 0 of the models here, expected one of fedcba987654, 012345"):
        models.drop(place, "abc")
    assert models.drop(place, "0123") == OLD
    assert [model.digest for model in models.models(place)] == [NEW]
    assert [path.name for path in (tmp_path / "data" / "nodes").iterdir() if path.is_dir()] == [NEW[:12]]
    left = open_references(digest=NEW)
    assert left.require_answers() == 100
    assert not left._fingerprints._client.has_collection(f"fingerprints_{OLD[:12]}")


def test_what_does_not_find_itself_is_told(files, encode, open_references, monkeypatch):
    references = open_references()
    assert references.require_answers() == 0  # nothing stored, nothing to ask
    (track,) = fill(references, files(1), encode, 0)
    assert references.require_answers(segments=20) == 20
    wrong = encode(77, range(300)).fingerprints
    references._fingerprints.upsert(segment_id(track.number, range(300)), wrong)
    with pytest.raises(IndexIncomplete, match="of track 1 .* is not found by its own fingerprint; run `asid reindex`"):
        references.require_answers()


def test_a_folder_without_catalogue_has_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `asid ingest` first"):
        models.models(models.Place(directory=Path(tmp_path)))


def test_an_empty_catalogue_has_stored_no_files(place, tmp_path):
    place.directory.mkdir()
    Catalogue.open(ledger_url(place.directory), NEW).close()
    with pytest.raises(FileNotFoundError, match="is empty; run `asid ingest` first"):
        models.stored_paths(place)

"""A bundle holds what a result rests on; verifying it finds whatever is no longer the same."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from encoder.audio import AudioError
from evaluation.evidence import bundle, provenance
from evaluation.evidence.bundle import BundleError, Verified
from reranker import confidence
from reranker.confidence import Calibration, Model
from reranker.rank import Ranking
from reranker.search import Answer
from store.catalogue import Counts


class Stub:
    """A searcher that knows one answer."""

    def __init__(self, matches, tracks, *, digest="e" * 64, ranking=Ranking()):
        self.matches, self.ranking, self.classifier, self.asked = matches, ranking, None, []
        self.minimum, self.calibration, self.correlator = 120.0, None, None
        self.encoder = SimpleNamespace(digest=digest, system=SimpleNamespace(name="asid"))
        counts = Counts(pending=0, stored=len(tracks), failed=0, removed=0, segments=9, duration=80.0)
        self.references = SimpleNamespace(counts=lambda: counts, catalogue=SimpleNamespace(tracks=lambda state: tracks))

    def __call__(self, path, *, include_self=False):
        self.asked.append((path, include_self))
        if not path.exists():
            raise AudioError(path, "no such file; check the path")
        return Answer(query=path, duration=12.0, matches=self.matches)


@pytest.fixture
def tracks(track):
    return [track(1), track(2)]


@pytest.fixture
def searcher(reply, tracks):
    return Stub(reply.matches, tracks)


@pytest.fixture
def kept(reply, unusable, searcher, tmp_path):
    """A bundle of an answered query and one that could not be read."""
    made = provenance.of(searcher, command="asid find song.flac --bundle kept", include_self=True)
    return bundle.write(tmp_path / "kept", [reply, unusable], made, searcher)


def test_a_bundle_is_repeated_where_nothing_changed(kept, searcher):
    assert bundle.verify(kept, searcher) == Verified(differences=(), notes=())
    assert searcher.asked == [(kept / "queries" / "1-song.flac", True), (kept / "queries" / "2-gone.wav", True)]


def test_a_bundle_holds_queries_excerpts_digests_and_the_catalogue(kept, case):
    assert (kept / "queries" / "1-song.flac").read_bytes() == case.query.read_bytes()
    told = json.loads((kept / "provenance.json").read_text())
    assert (told["encoder"], told["tracks"], told["include_self"]) == ("e" * 64, 2, True)
    assert told["minimum"] == 120.0
    assert (kept / "catalogue.csv").read_text().splitlines()[0] == "number,content_hash,path"
    assert len((kept / "catalogue.csv").read_text().splitlines()) == 3
    excerpts = {p.name: soundfile.info(p) for p in (kept / "excerpts").iterdir()}
    assert {name.removeprefix("query-1-match-1-") for name in excerpts if "match-1" in name} == {
        "query.flac", "reference.flac", "reference-fitted.flac", "both.flac",
    }  # fmt: skip
    assert excerpts["query-1-match-1-query.flac"].duration == pytest.approx(7.0, abs=0.001)
    assert excerpts["query-1-match-1-both.flac"].channels == 2


def test_the_sums_are_those_that_sha256sum_reads(kept):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=kept, check=True)


def test_changed_missing_and_added_files_are_told(kept, searcher):
    (kept / "excerpts" / "query-1-match-1-query.flac").write_bytes(b"other")
    (kept / "excerpts" / "query-1-match-1-both.flac").unlink()
    (kept / "catalogue.csv").unlink()
    (kept / "note.txt").write_text("mine")
    assert set(bundle.verify(kept, searcher).differences) == {
        "excerpts/query-1-match-1-query.flac: was changed (SHA-256)",
        "excerpts/query-1-match-1-both.flac: is missing",
        "catalogue.csv: is missing",
        "note.txt: was added",
    }


def test_a_result_that_was_changed_together_with_its_sum_is_still_found(kept, searcher):
    result = json.loads((kept / "result.json").read_text())
    result["queries"][0]["matches"][0]["score"] = 9999.0
    (kept / "result.json").write_text(json.dumps(result))
    sums = (kept / "SHA256SUMS").read_text().splitlines()
    kept_sums = [line for line in sums if not line.endswith("result.json")]
    (kept / "SHA256SUMS").write_text("\n".join([*kept_sums, f"{bundle._sha256(kept / 'result.json')}  result.json"]))
    (line,) = bundle.verify(kept, searcher).differences
    assert line == "query 1, match 1: score 9999.0 then, 431.25 now"


def test_another_encoder_is_a_difference_and_another_catalogue_a_note(kept, reply, track):
    verified = bundle.verify(kept, Stub(reply.matches, [track(1), track(3), track(4)], digest="f" * 64))
    assert verified.differences == (f"encoder: {'e' * 64} then, {'f' * 64} now",)
    path = track(1).path
    assert verified.notes == (f"catalogue: references gone since: 1, {path}",
                              f"catalogue: references added since: 2, {path} ...")  # fmt: skip


def test_other_versions_are_a_note(kept, searcher):
    told = json.loads((kept / "provenance.json").read_text())
    now = told["versions"]["torch"]
    told["versions"]["torch"] = "1.0"
    (kept / "provenance.json").write_text(json.dumps(told))
    verified = bundle.verify(kept, searcher)
    assert verified.notes == (f"torch: 1.0 then, {now} now",)
    assert verified.differences == ("provenance.json: was changed (SHA-256)",)


def test_a_searcher_that_ranks_otherwise_is_refused(kept, reply, tracks):
    with pytest.raises(BundleError, match="ranked by .* the searcher ranks by"):
        bundle.verify(kept, Stub(reply.matches, tracks, ranking=Ranking(top=1)))


def test_a_reference_that_is_gone_leaves_its_excerpts_out_with_the_reason(reply, searcher, made, tmp_path):
    gone = replace(reply.matches[0], reference=replace(reply.matches[0].reference, path=Path("gone.flac")))
    kept = bundle.write(tmp_path / "b", [replace(reply, answer=replace(reply.answer, matches=(gone,)))], made, searcher)
    (reason,) = json.loads((kept / "provenance.json").read_text())["missing_excerpts"]
    assert reason == "query-1-match-1: gone.flac: no such file; check the path"


def test_a_bundle_holds_the_calibration_that_its_confidences_came_from(reply, searcher, made, tmp_path):
    model = Model(features=("score",), means=(0.0,), spreads=(1.0,), weights=(1.0,), intercept=0.0)
    searcher.calibration = Calibration(encoder="e" * 64, scoring={}, sampled=0.5, model=model, false=((1.0,),))
    kept = bundle.write(tmp_path / "b", [reply], made, searcher)
    assert confidence.load(kept / "calibration.json").digest == searcher.calibration.digest
    assert "calibration.json" in (kept / "SHA256SUMS").read_text()


def test_a_bundle_never_mixes_with_what_is_there(reply, made, searcher, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(BundleError, match="is not empty, expected a new folder"):
        bundle.write(tmp_path, [reply], made, searcher)


@pytest.mark.parametrize("name", ["SHA256SUMS", "provenance.json", "result.json"])
def test_a_folder_without_its_parts_is_no_bundle(kept, searcher, name):
    (kept / name).unlink()
    with pytest.raises(BundleError, match=f"no {name}, expected a folder written by asid find --bundle"):
        bundle.verify(kept, searcher)


def test_a_damaged_part_is_told(kept, searcher):
    (kept / "result.json").write_text("{")
    with pytest.raises(BundleError, match="the bundle is damaged, get it again"):
        bundle.verify(kept, searcher)
    for text, told in (("[]", "holds list, expected an object"), ("{}", "lacks 'include_self'")):
        (kept / "provenance.json").write_text(text)
        with pytest.raises(BundleError, match=told):
            bundle.verify(kept, searcher)

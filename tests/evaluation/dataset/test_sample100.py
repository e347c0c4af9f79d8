"""Sample100-ext: with audio on a miniature in its format that is rendered here, described on the real thing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from encoder.audio import AudioError
from evaluation.dataset import annotations, sample100
from evaluation.dataset.annotations import Track
from evaluation.dataset.dataset_audio import IncompleteDataset
from evaluation.dataset.relations import Annotation, Relation

RATE = 8000
# T001 samples T002 all the time but in 8-9 s, and T004 in 2-5 s; T003 samples T004; T004, a reference, samples T005.
SECONDS = {"T001": 24, "T002": 8, "T003": 9, "T004": 12, "T005": 6, "T006": 7, "N001": 6, "N002": 7}


def span(start, end, label=1, kind="occurrence"):
    return Annotation(start=start, end=end, label=label, kind=kind)


RELATIONS = (
    Relation(
        sample_id="S001",
        query="T001",
        reference="T002",
        tempo_ratio=1.1,
        sample_type="beat",
        in_query=(span(0, 3), span(8, 9, 0, "absence"), span(16, 17, 0, "absence")),
        in_reference=(span(1, 4),),
    ),
    Relation(
        sample_id="S002",
        query="T001",
        reference="T004",
        transposition=-2.0,
        level=1.5,
        in_query=(span(2, 5),),
        in_reference=(span(6, 9),),
    ),
    Relation(sample_id="S003", query="T003", reference="T004", in_query=(span(1, 7.5),), in_reference=(span(6, 9),)),
    Relation(sample_id="S004", query="T004", reference="T005"),  # not annotated, like S029 of the dataset
)


@pytest.fixture
def miniature(tmp_path):
    """Annotations and audio of the miniature: (annotations folder, audio folder)."""
    tracks = [Track(id=name, role="query" if name == "T006" else "") for name in SECONDS if name[0] == "T"]
    annotations.write(tmp_path / "annotated", RELATIONS, tracks=tracks, noise=("N001", "N002"))
    (tmp_path / "audio" / "noise").mkdir(parents=True)
    for number, (name, seconds) in enumerate(SECONDS.items()):
        path = tmp_path / "audio" / (f"noise/{name}.ogg" if name[0] == "N" else f"{name}.flac")
        wave = 0.2 * np.random.default_rng(number).standard_normal(seconds * RATE)
        soundfile.write(path, wave, RATE)
    return tmp_path / "annotated", tmp_path / "audio"


def test_queries_references_and_distractors_are_those_of_the_files(miniature):
    benchmark = sample100.load(*miniature)
    assert set(benchmark.references) == {"T002", "T004", "T005"}
    assert set(benchmark.distractors) == {"N001", "N002"}
    assert {q.id: sorted(q.relevant) for q in benchmark.queries} == {
        "T001": ["T002", "T004"], "T003": ["T004"], "T004": ["T005"], "T006": [],
    }  # fmt: skip
    assert benchmark.queries[0].path == miniature[1] / "T001.flac"
    assert benchmark.facts["complete"]
    assert json.loads(json.dumps(benchmark.facts)) == benchmark.facts


def test_a_query_that_is_also_a_reference_is_its_own_alias(miniature):
    aliases = {q.id: q.aliases for q in sample100.load(*miniature).queries}
    assert aliases == {"T001": frozenset(), "T003": frozenset(), "T004": frozenset({"T004"}), "T006": frozenset()}


def test_a_relation_carries_what_the_table_says_and_where_it_sounds(miniature):
    first, second = sample100.load(*miniature).queries[0].sampled
    # Marked 0-3; absent 8-9 and 16-17: the gaps 3-8 and 9-16 sound, and the tail 17-24, known from the file.
    assert [o.query_span for o in first.occurrences] == [(0, 3), (3, 8), (9, 16), (17, 24)]
    assert {o.reference_span for o in first.occurrences} == {(1, 4)}
    assert (first.sample_id, first.tempo_ratio, first.sample_type, first.length) == ("S001", 1.1, "beat", 3.0)
    assert (first.level, first.transposition) == (None, None)
    assert (second.level, second.transposition, second.length) == (1.5, -2.0, 3.0)


def test_missing_audio_is_counted_by_kind_and_named(miniature):
    for name in ("T003.flac", "T005.flac", "noise/N002.ogg"):
        (miniature[1] / name).unlink()
    line = r"1 of 4 queries missing \(T003\), 1 of 3 references missing \(T005\), 1 of 2 noise tracks missing \(N002\)"
    with pytest.raises(IncompleteDataset, match=line + "; add them, or allow") as raised:
        sample100.load(*miniature)
    assert raised.value.inventory.missing == ("N002", "T003", "T005")


def test_what_is_there_can_be_used_and_what_is_not_is_in_the_facts(miniature):
    for name in ("T003.flac", "T005.flac", "noise/N002.ogg"):
        (miniature[1] / name).unlink()
    benchmark = sample100.load(*miniature, allow_missing=True)
    # T004 samples only T005, which is missing: it is left out, for it is not sample-free.
    assert [q.id for q in benchmark.queries] == ["T001", "T006"]
    assert set(benchmark.references) == {"T002", "T004"}
    assert benchmark.facts["missing"] == ["N002", "T003", "T005"]
    assert (benchmark.facts["complete"], benchmark.facts["relations"], benchmark.facts["noise_tracks"]) == (False, 2, 1)


def test_an_empty_file_and_another_edition_of_a_recording_cannot_be_used(miniature):
    (miniature[1] / "T002.flac").write_bytes(b"fLaC")
    soundfile.write(miniature[1] / "T003.flac", np.zeros(6 * RATE), RATE)
    with pytest.raises(
        IncompleteDataset, match=r"2 cannot be used \(T002: .*; T003: lasts 6\.0 s, but .* up to 7\.5 s"
    ):
        sample100.load(*miniature)
    assert set(sample100.load(*miniature, allow_missing=True).facts["unusable"]) == {"T002", "T003"}


def test_without_noise_tracks_the_dataset_is_incomplete(miniature):
    (miniature[0] / "noise.json").unlink()
    assert set(sample100.load(*miniature).distractors) == {"N001", "N002"}  # by name
    for path in (miniature[1] / "noise").iterdir():
        path.unlink()
    with pytest.raises(IncompleteDataset, match="no noise tracks"):
        sample100.load(*miniature)


def test_two_files_of_one_name_and_a_wrong_folder_are_refused(miniature):
    with pytest.raises(ValueError, match="no such folder, expected the dataset's audio"):
        sample100.load(miniature[0], miniature[1] / "elsewhere")
    soundfile.write(miniature[1] / "T002.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match=r"T002\.flac and .*T002\.wav are one track by name"):
        sample100.load(*miniature)


def test_a_folder_without_any_pair_is_no_benchmark(miniature, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(IncompleteDataset, match="4 of 4 queries missing .* not one query with its reference"):
        sample100.load(miniature[0], tmp_path / "empty", allow_missing=True)


# Excerpts


def cut(miniature, **options):
    benchmark = sample100.load(*miniature, allow_missing=True)
    folder = miniature[1].parent / "cache"
    return sample100.excerpts(benchmark, folder, annotations_dir=miniature[0], **options)


def test_excerpts_are_the_first_seconds_of_the_entries_long_enough(miniature):
    # Entries: T001 0-3, 3-8, 9-16 (S001; the tail is not in the index) and 2-5 (S002), T003 1-7.5 (S003). For 5 s two
    # windows are needed, 4.576 s; for 7 s six, 6.624 s.
    excerpts = cut(miniature, lengths=(5.0, 7.0))
    assert [(e.id, e.excerpt) for e in excerpts] == [
        ("T001-S001-001-5s", 5.0), ("T001-S001-002-5s", 5.0), ("T003-S003-001-5s", 5.0), ("T001-S001-001-7s", 7.0),
    ]  # fmt: skip
    whole, rate = soundfile.read(excerpts[-1].path)
    assert len(whole) == 7 * rate
    source, _ = soundfile.read(miniature[1] / "T001.flac")
    assert np.sqrt(np.mean(whole**2)) == pytest.approx(np.sqrt(np.mean(source**2)), rel=0.1)


def test_an_excerpt_goes_on_past_the_annotated_end_and_tells_where_that_is(miniature):
    relations = [*RELATIONS[:2], Relation(sample_id="S003", query="T003", reference="T004",
                 in_query=(span(1, 5.7),), in_reference=(span(6, 9),)), RELATIONS[3]]  # fmt: skip
    annotations.write(miniature[0], relations, tracks=[Track(id="T006", role="query")], noise=("N001", "N002"))
    excerpt = cut(miniature, lengths=(5.0,))[-1]
    assert soundfile.info(excerpt.path).duration == pytest.approx(5.0, abs=1e-3)
    assert excerpt.sampled[0].occurrences[0].query_span == pytest.approx((0.0, 4.7))


def test_true_of_an_excerpt_is_what_sounds_in_it_or_all_of_its_track(miniature):
    # The excerpt of S001 from 3 to 8 s holds 2 s of S002 (2-5 s).
    sounding = cut(miniature, lengths=(5.0,))
    assert [[s.sample_id for s in e.sampled] for e in sounding] == [["S001", "S002"], ["S001"], ["S003"]]
    other = sounding[0].sampled[1].occurrences
    assert [o.query_span for o in other] == [(0.0, 2.0)]
    assert [o.reference_span for o in other] == [(7.0, 9.0)]  # the last 2 of 3 s
    published = cut(miniature, lengths=(5.0,), truth="track")
    assert [sorted(e.relevant) for e in published] == [["T002", "T004"], ["T002", "T004"], ["T004"]]


def test_a_complete_folder_is_not_cut_again_and_another_source_is(miniature):
    first = cut(miniature, lengths=(5.0,))
    times = [e.path.stat().st_mtime_ns for e in first]
    assert cut(miniature, lengths=(5.0,)) == first
    assert [e.path.stat().st_mtime_ns for e in first] == times
    first[0].path.unlink()
    assert cut(miniature, lengths=(5.0,)) == first
    assert first[0].path.exists()
    soundfile.write(miniature[1] / "T003.flac", np.full(9 * RATE, 0.25), RATE)
    cut(miniature, lengths=(5.0,))
    assert soundfile.read(first[-1].path)[0][4000:-4000] == pytest.approx(0.25, abs=0.01)


def test_a_truncated_file_is_named_when_it_is_cut(miniature):
    path = miniature[1] / "T003.flac"
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(AudioError, match=r"T003\.flac: "):
        cut(miniature, lengths=(5.0,))


def test_excerpts_of_missing_queries_are_left_out(miniature):
    (miniature[1] / "T003.flac").unlink()
    assert {e.id[:4] for e in cut(miniature, lengths=(5.0,))} == {"T001"}


# Descriptions


def test_a_description_needs_no_audio(miniature):
    described = sample100.describe(miniature[0])
    assert json.loads(json.dumps(described)) == described
    assert described["index_rows"] == 5
    assert described["segments_by_query_length"] == {"5": 3, "7": 1, "10": 0, "15": 0, "20": 0}
    assert described["time_stretch"] == {"above_5": 1, "below_5": 3}
    assert (described["relations"], described["relations_annotated"], described["unique_pairs"]) == (4, 3, 4)
    assert (described["queries"], described["sample_free_queries"], described["references"]) == (3, 1, 3)
    assert described["occurrence_seconds"]["count"] == 3
    assert described["occurrence_seconds"]["maximum"] == 6.5
    assert not described["published"]


SHARED = Path(__file__).parents[3] / ".." / "shared" / "sample100-ext"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared, with Sample100-ext, is not beside the checkout")
def test_the_published_dataset_has_the_published_counts():
    described = sample100.describe(SHARED)
    assert described["published"]
    assert described["index_rows"] == 971
    assert (described["index_queries"], described["index_references"], described["index_samples"]) == (73, 67, 102)
    assert described["segments_by_query_length"] == {"5": 561, "7": 464, "10": 371, "15": 230, "20": 163}
    assert described["queries_by_query_length"] == {"5": 66, "7": 62, "10": 58, "15": 52, "20": 50}
    assert described["index_by_class_released"] == {
        "riff": {"rows": 728, "samples": 67},
        "beat": {"rows": 216, "samples": 31},
        "interpolation no": {"rows": 798, "samples": 87},
        "interpolation yes": {"rows": 157, "samples": 13},
    }
    assert described["time_stretch"] == {"above_5": 44, "below_5": 62}
    assert described["sample_types"] == {"riff": 71, "beat": 33, "1-note": 2}
    assert (described["tempo_ratio"]["minimum"], described["tempo_ratio"]["maximum"]) == (0.75, 1.37)
    assert [described[name] for name in ("relations", "unique_pairs", "queries", "references", "tracks")] == [
        106, 90, 75, 68, 144,
    ]  # fmt: skip
    assert described["queries_with_several_references"] == 11
    assert sum(described["annotations_in_query"].values()) == 1038
    assert described["annotations_in_query"]["absence"] == 327
    assert described["index_seconds"]["median"] == pytest.approx(5.49, abs=0.005)


def test_another_dataset_that_counts_as_many_is_told_apart(miniature):
    first = sample100.load(*miniature).facts
    assert sample100.load(*miniature).facts == first
    later = [replace(r, query_start=1.0) if r.sample_id == "S004" else r for r in RELATIONS]
    tracks = [Track(id=name, role="query" if name == "T006" else "") for name in SECONDS if name[0] == "T"]
    annotations.write(miniature[0], later, tracks=tracks, noise=("N001", "N002"))
    other = sample100.load(*miniature).facts
    assert other["digest"] != first["digest"]
    assert {k: v for k, v in other.items() if k != "digest"} == {k: v for k, v in first.items() if k != "digest"}

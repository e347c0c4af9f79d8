"""Annotation files -> records and back, and what is malformed in them."""

import json
from pathlib import Path

import pytest

from evaluation.dataset import annotations
from evaluation.dataset.annotations import AnnotationError, Track
from evaluation.dataset.relations import Annotation, Relation

HEADER = (
    "sample_id,target_track_id,query_track_id,t_target,t_query,n_repetitions,estimated_tempo_ratio,"
    "target_instruments,query_interfering_instruments,sample_type,interpolation,comments"
)
ROW = "S001,T002,T001,0,14,2,0.95,drums/bass,vocals/bass?,riff,no, starts late"
ENTRIES = [
    {"start_time": 1.5, "end_time": 4.0, "id": 1, "type": "occurrence"},
    {"start_time": 4.0, "end_time": 6.0, "id": 1},
]


def span(start, end, label=1, kind="occurrence"):
    return Annotation(start=start, end=end, label=label, kind=kind)


def related(in_query=(), in_reference=(), **fields):
    known = {"sample_id": "S001", "query": "T001", "reference": "T002", **fields}
    return Relation(in_query=tuple(in_query), in_reference=tuple(in_reference), **known)


@pytest.fixture
def dataset(tmp_path):
    """``dataset(rows=..., entries=..., tracks=..., **keys of the JSON)``: a folder in the dataset's format."""

    def write(rows=(ROW,), entries=ENTRIES, tracks="T001, OC, Time's Up, 1994, Hip-hop\n", header=HEADER, **keys):
        (tmp_path / "annotations").mkdir()
        (tmp_path / "samples.csv").write_text("\r\n".join([header, *rows]) + "\r\n")
        (tmp_path / "tracks.csv").write_text("track_id, artist, title, year, genre\n" + tracks)
        ids = {"sample_id": "S001", "query_track_id": "T001", "target_track_id": "T002"} | keys
        document = {"query_time_annotations": entries, "target_time_annotations": ENTRIES[:1]} | ids
        (tmp_path / "annotations" / "S001.json").write_text(json.dumps(document))
        return tmp_path

    return write


def test_a_row_and_its_annotation_file_become_one_relation(dataset):
    read = annotations.read(dataset())
    assert read.relations == (
        related(
            query_start=14.0,
            repetitions=2,
            tempo_ratio=0.95,
            reference_stems=("drums", "bass"),
            interfering_stems=("vocals", "bass?"),
            comment="starts late",
            in_query=(span(1.5, 4.0), span(4.0, 6.0)),
            in_reference=(span(1.5, 4.0),),
        ),
    )
    assert read.tracks == (Track(id="T001", artist="OC", title="Time's Up", year=1994, genre="Hip-hop"),)
    assert (read.queries, read.references, read.noise) == (("T001",), ("T002",), ())


def test_a_type_holds_for_every_later_entry_of_its_id_only(dataset):
    entries = [
        {"start_time": 0.0, "end_time": 1.0, "id": 0, "type": "absence"},
        {"start_time": 1.0, "end_time": 2.0, "id": 2, "type": "partial occurrence"},
        {"start_time": 2.0, "end_time": 3.0, "id": 0},
        {"start_time": 3.0, "end_time": 4.0, "id": 3},
    ]
    read = annotations.read(dataset(entries=entries)).relations[0].in_query
    assert [a.kind for a in read] == ["absence", "partial occurrence", "absence", ""]


def test_in_a_file_without_types_label_0_is_absence_and_the_rest_occurrence(dataset):
    entries = [{"start_time": float(i), "end_time": i + 1.0, "id": i} for i in (0, 1, 2)]
    read = annotations.read(dataset(entries=entries)).relations[0].in_query
    assert [a.kind for a in read] == ["absence", "occurrence", "occurrence"]


def test_what_was_written_reads_back_equal(tmp_path):
    rich = related(
        in_query=(span(0.1, 2.3, 0, "absence"), span(2.3, 4.0, 1), span(5.0, 6.0, 1, ""), span(7.0, 8.0, 1)),
        in_reference=(span(1 / 3, 2 / 3, 4, "1-bar occurrence"),),
        tempo_ratio=1.0123456789,
        transposition=-2.0,
        level=-1.5,
        sample_stems=("drums", "bass"),
        comment='comma, "quotes" – ä',
        description="L1 occurrence",
        reference_start=0.125,
    )
    plain = related(sample_id="S002", query="T003", sample_type="beat", interpolation="probably not")
    tracks = (
        Track(id="T001", artist="A, B & C", title='"Quoted" 7"', year=None, genre="Soul", role="query"),
        Track(id="T009", title="Nothing sampled", year=1999, role="query"),
    )
    annotations.write(tmp_path, [rich, plain], tracks=tracks, noise=("N001", "N002"))
    read = annotations.read(tmp_path)
    assert read.relations == (rich, plain)
    assert read.tracks == tracks
    assert read.noise == ("N001", "N002")
    assert read.sample_free == ("T009",)  # T001 samples something
    assert not (tmp_path / "annotations" / "S002.json").exists()


def test_our_columns_stand_behind_the_datasets_own(tmp_path):
    annotations.write(tmp_path, [related(level=3.0)])
    header, row = (tmp_path / "samples.csv").read_text().splitlines()
    assert header == HEADER + ",transposition,level,sample_stems"
    assert row.endswith(",,3,")


def test_writing_into_the_folder_of_another_benchmark_is_refused(tmp_path):
    annotations.write(tmp_path, [related(in_query=(span(0, 1),))])
    annotations.write(tmp_path, [related(in_query=(span(0, 2),))])  # the same samples: replaced
    with pytest.raises(AnnotationError, match=r"holds S001\.json of another benchmark; name an empty folder"):
        annotations.write(tmp_path, [related(sample_id="S007", in_query=(span(0, 1),))])


def test_the_released_noise_list_gives_ids_from_paths(dataset):
    folder = dataset()
    (folder / "sample_100.json").write_text(json.dumps({"dummy": ["audio/N001.mp3", "d:\\audio\\N2.1.wav", "N003"]}))
    assert annotations.read(folder).noise == ("N001", "N2.1", "N003")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [ROW, ROW.replace("S001", "S002") + ", and a comma"]},
         r"samples\.csv, row 3: 13 fields, expected 12; quote"),
        ({"rows": [ROW, ROW]}, r"row 3: S001 stands twice"),
        ({"rows": [ROW.replace("0.95", "fast")]}, r"row 2: estimated_tempo_ratio is 'fast', expected a number"),
        ({"rows": [ROW.replace("0.95", "0")]}, r"row 2: relation S001: estimated_tempo_ratio is 0\.0, expected a num"),
        ({"rows": [ROW.replace("riff", "rif")]}, r"row 2: .*sample_type 'rif' is none of"),
        ({"rows": [ROW.replace("T002", "T001")], "target_track_id": "T001"}, r"row 2: .*T001 samples itself"),
        ({"rows": []}, r"samples\.csv: holds no relations"),
        ({"header": HEADER.replace("t_query", "query")}, r"samples\.csv, row 1: no column 't_query'"),
        ({"query_track_id": "T009"}, r"S001\.json: query_track_id is 'T009', expected 'T001' \(.*row 2\)"),
        ({"entries": None}, r"S001\.json: query_time_annotations is no list of objects"),
        ({"entries": [{"start_time": 1, "id": 1}]}, r"query_time_annotations 1: from 1 to None, expected start_time"),
        ({"entries": [{"start_time": 5, "end_time": 4, "id": 1}]}, r"annotations 1: from 5 to 4 s, expected 0 <="),
        ({"entries": [{"start_time": 5, "end_time": 6, "id": "1"}]}, r"annotations 1: id is '1', expected a whole"),
        ({"entries": [{"start_time": 5, "end_time": 6, "id": 1, "type": 3}]}, r"annotations 1: type is 3, expected"),
        ({"tracks": "T001, OC, Time's, Up, 1994, Hip-hop\n"}, r"tracks\.csv, row 2: 6 fields, expected 5"),
        ({"tracks": "T001, OC, Up, '94, Hip-hop\n"}, r"tracks\.csv, row 2: year is \"'94\", expected a number"),
        ({"tracks": "T1, OC, Up, 1994, X\nT1, OC, Up, 1994, X\n"}, r"tracks\.csv: T1 stands twice"),
    ],
)  # fmt: skip
def test_a_malformed_file_gets_one_line_with_file_row_and_expectation(dataset, change, message):
    with pytest.raises(AnnotationError, match=message) as raised:
        annotations.read(dataset(**change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("annotations/S001.json", b'{"query_time', r"S001\.json: not JSON"),
        ("annotations/S001.json", b"[]", r"S001\.json: holds a list, expected an object"),
        ("annotations/S777.json", b"{}", r"S777\.json: samples\.csv has no row S777"),
        ("samples.csv", HEADER.encode() + b"\nS001,\xff", r"samples\.csv: no table in UTF-8"),
        ("noise.json", b'{"noise": []}', r"noise\.json: expected an object"),
        ("tracks.csv", b"id, artist\n", r"tracks\.csv, row 1: columns \['id', 'artist'\], expected track_id"),
    ],
)
def test_a_broken_file_is_named(dataset, name, content, message):
    folder = dataset()
    (folder / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=message):
        annotations.read(folder)


def test_a_folder_without_the_files_is_named(tmp_path, dataset):
    with pytest.raises(AnnotationError, match="no samples.csv; name the folder"):
        annotations.read(tmp_path / "elsewhere")
    (dataset() / "tracks.csv").unlink()
    with pytest.raises(AnnotationError, match="tracks.csv: no such file"):
        annotations.read(tmp_path)


# The published dataset

SHARED = Path(__file__).parents[3] / ".." / "shared" / "sample100-ext"


@pytest.fixture(scope="module")
def published():
    if not SHARED.is_dir():
        pytest.skip("the folder shared, with the annotations of Sample100-ext, is not beside the checkout")
    return annotations.read(SHARED)


def released(name):
    return json.loads((SHARED / "released" / f"{name}.json").read_text())


def test_types_are_those_of_the_released_annotations(published):
    kinds = {r.sample_id: [a.kind or None for a in r.in_query] for r in published.relations}
    for entry in released("annotations_full"):
        expected = [e.get("type") for e in entry["query"]]
        read = kinds[entry["sample_id"]]
        if entry["sample_id"] in ("S013", "S019"):  # released without their number of bars
            read = [kind and kind.replace("2-bar ", "") for kind in read]
        assert read == expected, entry["sample_id"]


def test_relations_are_those_of_the_released_ground_truth(published):
    pairs = sorted((r.reference, r.query) for r in published.relations)
    assert pairs == sorted((reference, q) for reference, queries in released("gt_dict").items() for q in queries)


def test_the_whole_dataset_is_written_and_read_back_equal(published, tmp_path):
    annotations.write(tmp_path, published.relations, tracks=published.tracks)
    assert annotations.read(tmp_path) == published

"""Exports are read back with what the field reads them with."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import jams
import pandas as pd
import pytest

from evaluation.evidence import exports, page
from reranker.rank import Carried

SHARED = Path(__file__).parents[3] / ".." / "shared" / "sample100-ext" / "sonic_visualiser_annotations"


def read_layer(path):
    """A Sonic Visualiser layer as published: start, number, duration; no header."""
    return pd.read_csv(path, sep="\t", header=None, names=["start", "number", "duration"])


def test_json_says_everything_in_the_documented_form(reply, empty, unusable, tmp_path):
    (path,) = exports.write([reply, empty, unusable], tmp_path / "new" / "r.json")
    first, second, third = json.loads(path.read_text())["queries"]
    sure = {"barred", "false_alarms", "sample_free"}
    assert set(first) == {"query", "found", "duration", "error", "matches", "same_recording"} | sure
    known = {"number", "path", "title", "artist", "isrc", "duration", "content_hash"}
    assert set(first["matches"][0]["reference"]) == known
    assert first["matches"][0]["occurrences"][0] == {
        "query_span": [3.0, 9.0], "reference_span": [20.0, 26.6], "tempo_ratio": 1.1, "transposition": 2.0,
        "likeness": None,
    }  # fmt: skip
    assert (first["matches"][0]["relation"], first["same_recording"]) == (None, [])
    assert (first["matches"][0]["confidence"], first["matches"][1]["confidence"]) == (0.97, None)
    assert (second["found"], second["error"], second["matches"]) == (False, None, [])
    assert (third["duration"], third["error"]) == (None, "no such file; check the path")


def test_json_says_found_only_where_there_was_a_bar_and_how_sure_nothing_is(reply, empty, tmp_path):
    nearest = replace(reply, answer=replace(reply.answer, barred=False))
    nothing = replace(empty, answer=replace(empty.answer, false_alarms=0.01, sample_free=0.97))
    (path,) = exports.write([reply, nearest, nothing], tmp_path / "r.json")
    told = json.loads(path.read_text())["queries"]
    assert [(one["found"], one["barred"], bool(one["matches"])) for one in told] == [
        (True, True, True), (False, False, True), (False, True, False),
    ]  # fmt: skip
    assert (told[2]["false_alarms"], told[2]["sample_free"]) == (0.01, 0.97)


def test_json_tells_which_stem_carries_a_match_where_that_was_asked(reply, tmp_path):
    told, untold = (
        Carried(shares={"drums": 0.75, "bass": 0.25}, stem="drums"),
        Carried(shares={"drums": 0.0}, stem=None),
    )
    matches = tuple(replace(m, carried=c) for m, c in zip(reply.matches, (told, untold), strict=True))
    asked = replace(reply, answer=replace(reply.answer, matches=matches))
    (path,) = exports.write([reply, asked], tmp_path / "r.json")
    first, second = json.loads(path.read_text())["queries"]
    assert [m["stems"] for m in first["matches"]] == [None, None]
    assert [m.pop("stems") for m in second["matches"]] == [
        {"carried_by": "drums", "shares": {"drums": 0.75, "bass": 0.25}},
        {"carried_by": None, "shares": {"drums": 0.0}},
    ]
    assert [m | {"stems": None} for m in second["matches"]] == first["matches"]


def test_json_tells_the_same_recording_from_a_sample(reply, tmp_path):
    first = reply.matches[0]
    copied, mixed = (
        replace(first, occurrences=(replace(o, tempo_ratio=1.0, transposition=0.0, likeness=likeness),))
        for o, likeness in ((first.occurrences[0], 0.95), (first.occurrences[0], 0.5))
    )
    told = replace(reply, answer=replace(reply.answer, matches=(mixed,), same=(copied,)))
    (path,) = exports.write([told], tmp_path / "r.json")
    (row,) = json.loads(path.read_text())["queries"]
    assert (row["matches"][0]["relation"], row["same_recording"][0]["relation"]) == ("sample", "same recording")
    assert row["matches"][0]["occurrences"][0]["likeness"] == 0.5


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_catalogue_rows_are_read_by_pandas_with_no_query_left_out(reply, empty, unusable, tmp_path, suffix):
    (path,) = exports.write([reply, empty, unusable], tmp_path / f"r{suffix}")
    frame = pd.read_csv(path, dtype={"isrc": str}) if suffix == ".csv" else pd.read_parquet(path)
    assert frame["result"].tolist() == ["match", "match", "no sample found", "no such file; check the path"]
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["isrc"], first["artist"], first["rank"], first["score"]) == ("QZES52600001", "Kiln", 1, 431.25)
    assert first["match_percent"] == 62.5  # 6 s and 1.5 s of 12 s
    assert second["match_percent"] == 37.5  # 4.5 s of 12 s
    assert first["confidence"] == 0.97
    assert math.isnan(second["confidence"])
    assert (first["tempo_ratio"], first["transposition"]) == (1.1, 2.0)
    assert math.isnan(second["tempo_ratio"])


def test_no_cell_of_a_csv_is_a_formula(reply, tmp_path):
    title = '=HYPERLINK("http://x","click")'
    first, *rest = reply.matches
    bad = replace(first, reference=replace(first.reference, title=title, artist="Kiln"))
    (path,) = exports.write([replace(reply, answer=replace(reply.answer, matches=(bad, *rest)))], tmp_path / "r.csv")
    frame = pd.read_csv(path)
    assert (frame["title"][0], frame["artist"][0]) == (f"'{title}", "Kiln")
    assert frame["transposition"][0] == 2.0


def test_segments_are_text_in_csv_and_numbers_in_parquet(reply, tmp_path):
    for name in ("r.csv", "r.parquet"):
        exports.write([reply], tmp_path / name)
    assert (
        pd.read_csv(tmp_path / "r.csv")["segments"][0]
        == "3.000-9.000 from 20.000-26.600; 9.500-11.000 from 20.000-21.650"
    )
    assert list(pd.read_parquet(tmp_path / "r.parquet")["segments"][0]) == [
        {"query_start": 3.0, "query_end": 9.0, "reference_start": 20.0, "reference_end": 26.6},
        {"query_start": 9.5, "query_end": 11.0, "reference_start": 20.0, "reference_end": 21.65},
    ]


def test_parquet_has_the_same_columns_where_nothing_was_found(reply, empty, tmp_path):
    types = []
    for name, replies in (("a", [reply]), ("b", [empty])):
        exports.write(replies, tmp_path / f"{name}.parquet")
        types.append(pd.read_parquet(tmp_path / f"{name}.parquet", dtype_backend="pyarrow").dtypes.to_dict())
    assert types[0] == types[1]


def test_audacity_labels_are_three_columns_by_time(reply, tmp_path):
    (path,) = exports.write([reply], tmp_path / "labels.txt")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert [(float(a), float(b)) for a, b, _ in rows] == [(0.0, 4.5), (3.0, 9.0), (9.5, 11.0)]
    assert rows[1][2].endswith("0:20.0-0:26.6, tempo x 1.10, +2.0 semitones, confidence 97 %")


def test_sonic_visualiser_layers_lie_in_a_folder_two_a_match(reply, tmp_path):
    (folder,) = exports.write([reply], tmp_path / "layers")
    assert sorted(p.name for p in folder.iterdir()) == [f"song-0{n}_{side}.csv" for n in (1, 2) for side in "rs"]
    query, reference = (read_layer(folder / f"song-01_{side}.csv") for side in "sr")
    assert query.to_numpy().tolist() == [[3.0, 1, 6.0], [9.5, 2, 1.5]]
    assert reference.to_numpy().ravel().tolist() == pytest.approx([20.0, 1, 6.6, 20.0, 2, 1.65])


def test_layers_of_matches_that_are_none_any_more_go_and_those_of_others_stay(reply, empty, tmp_path):
    other = replace(reply, query=reply.query.with_name("song-01.wav"))
    for one in (reply, other, empty):
        exports.write([one], tmp_path / "layers")
    left = sorted(p.name for p in (tmp_path / "layers").iterdir())
    assert left == [f"song-01-0{n}_{side}.csv" for n in (1, 2) for side in "rs"]


def test_names_as_long_as_may_be_have_room_for_more(reply, tmp_path):
    long = replace(reply, query=reply.query.with_name("曲" * 83 + ".wav"))  # 249 bytes and a suffix
    assert [p.name[:10] for p in exports.write([long, reply], tmp_path / "l.txt")] == ["l.1-" + "曲" * 6, "l.2-song.t"]
    (folder,) = exports.write([long], tmp_path / "layers")
    assert len(list(folder.iterdir())) == 4


def test_layers_have_the_form_of_the_published_ones(reply, tmp_path):
    if not SHARED.is_dir():
        pytest.skip("the folder shared, with Sample100-ext's annotations, is not beside the checkout")
    published = read_layer(SHARED / "S013_s.csv")
    (folder,) = exports.write([reply], tmp_path / "layers")
    assert read_layer(folder / "song-01_s.csv").dtypes.equals(published.dtypes)
    assert published["number"].tolist()[:2] == [1, 3]
    theirs = (SHARED / "S013_s.csv").read_text().split("\n")[0].split("\t")
    ours = (folder / "song-01_s.csv").read_text().split("\n")[0].split("\t")
    digits = [[len(field.partition(".")[2]) for field in fields] for fields in (ours, theirs)]
    assert digits == [[9, 0, 9]] * 2


def test_jams_holds_an_annotation_a_match_with_its_places(reply, tmp_path):
    (path,) = exports.write([reply], tmp_path / "r.jams")
    document = json.loads(path.read_text())
    assert document["file_metadata"]["duration"] == 12.0
    assert [a["namespace"] for a in document["annotations"]] == ["segment_open"] * 2
    first = document["annotations"][0]
    assert [(o["time"], o["duration"], o["confidence"]) for o in first["data"]] == [(3.0, 6.0, 0.97), (9.5, 1.5, 0.97)]
    assert first["sandbox"]["occurrences"][0]["reference_span"] == [20.0, 26.6]
    assert len(first["data"]) == len(first["sandbox"]["occurrences"])


def test_jams_is_valid_for_its_own_library(reply, empty, unusable, tmp_path):
    for number, one in enumerate((reply, empty, unusable)):
        (path,) = exports.write([one], tmp_path / f"{number}.jams")
        loaded = jams.load(str(path), validate=True, strict=True)
        assert len(loaded.annotations) == len(one.matches)
    (path,) = exports.write([reply], tmp_path / "r.jams")
    intervals, values = jams.load(str(path)).annotations[0].to_interval_values()
    assert intervals.tolist() == [[3.0, 9.0], [9.5, 11.0]]
    assert values[0].startswith("Kiln")


def test_formats_of_one_recording_get_a_numbered_file_per_query(reply, empty, tmp_path):
    paths = exports.write([reply, empty], tmp_path / "labels.txt")
    assert [p.name for p in paths] == ["labels.1-song.txt", "labels.2-song.txt"]
    assert paths[1].read_text() == ""
    assert {p.name[:6] for p in exports.write([reply, empty], tmp_path / "layers")[0].iterdir()} == {"1-song"}


def test_an_unknown_suffix_is_refused_with_the_known_ones(reply, tmp_path):
    with pytest.raises(ValueError, match=r"suffix is '.xls', expected .json, .csv, .parquet, .txt, .jams, or none"):
        exports.write([reply], tmp_path / "r.xls")


def test_a_name_that_is_no_text_costs_no_export_its_other_queries(reply, empty, made, tmp_path):
    query = Path(os.fsdecode(b"caf\xe9.wav"))
    replies = [reply, replace(empty, query=query)]
    for name in ("r.json", "r.csv", "r.parquet", "r.txt", "r.jams", "layers"):
        exports.write(replies, tmp_path / name)
    assert json.loads((tmp_path / "r.json").read_text())["queries"][1]["query"] == str(query)
    for table in (pd.read_csv(tmp_path / "r.csv"), pd.read_parquet(tmp_path / "r.parquet")):
        assert table["query"].tolist()[-1] == r"caf\udce9.wav"
    assert (tmp_path / r"r.2-caf\udce9.txt").is_file()
    assert json.loads((tmp_path / r"r.2-caf\udce9.jams").read_text())["sandbox"]["query"] == str(query)
    assert r"caf\udce9.wav" in page.write(tmp_path / "r.html", [replies[1]], made).read_text()


def test_an_export_that_fails_leaves_the_earlier_one_and_nothing_beside_it(reply, tmp_path, monkeypatch):
    def fill(path, *_, **__):
        path.touch()
        raise OSError(28, "No space left on device")

    for name in ("r.json", "r.txt"):
        (path,) = exports.write([reply], tmp_path / name)
        before = path.read_text()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", fill)
            with pytest.raises(OSError, match="No space left"):
                exports.write([reply], path)
        assert path.read_text() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.json", "r.txt"]

"""The query index against the one released with the dataset."""

import json
from pathlib import Path

import pytest

from evaluation.dataset import annotations, query_index
from evaluation.dataset.query_index import Entry

SHARED = Path(__file__).parents[3] / ".." / "shared" / "sample100-ext"


@pytest.fixture(scope="module")
def published():
    if not SHARED.is_dir():
        pytest.skip("the folder shared, with the annotations of Sample100-ext, is not beside the checkout")
    return annotations.read(SHARED)


def released(name):
    return json.loads((SHARED / "released" / f"{name}.json").read_text())


def test_the_released_query_index_follows_from_the_annotations_row_for_row(published):
    index = query_index.as_released(query_index.build(published.relations))
    expected = released("sample100_query_index")
    assert len(index) == 971
    # The released file has S028 last, ours where it belongs; all else in the same order.
    assert sorted(index, key=lambda r: r["sample_id"] == "S028") == expected


def test_the_released_subsets_follow_from_the_index_and_the_table(published):
    index = query_index.build(published.relations)
    classes = query_index.by_class(index, published.relations)
    names = {"riff": "riff_query_type", "beat": "beat_query_type",
             "interpolation no": "no_interpolation", "interpolation yes": "yes_interpolation"}  # fmt: skip
    for name, file in names.items():
        rows = query_index.as_released(classes[name])
        assert sorted(rows, key=lambda r: r["sample_id"] == "S028") == released(file), name
    counts = {name: (len(rows), len({e.sample_id for e in rows})) for name, rows in classes.items()}
    assert counts == {
        "riff": (728, 67),
        "beat": (216, 31),
        "interpolation no": (798, 87),
        "interpolation yes": (157, 13),
    }
    whole = query_index.by_class(index, published.relations, released=False)
    assert {len(whole["riff"]), len(whole["interpolation yes"])} == {744, 168}  # + 5 of S084 and 11 of S123; + 11


def test_as_many_entries_are_long_enough_as_the_paper_divides_by(published):
    index = query_index.build(published.relations)
    found = {length: len(query_index.long_enough(index, length)) for length in query_index.LENGTHS}
    assert found == query_index.PUBLISHED == {5: 561, 7: 464, 10: 371, 15: 230, 20: 163}
    tracks = [len({e.query for e in query_index.long_enough(index, n)}) for n in query_index.LENGTHS]
    assert tracks == [66, 62, 58, 52, 50]
    assert sum(e.end - e.start < 4.08 for e in index) == 342


def test_an_entry_is_long_enough_when_it_holds_as_many_windows_as_the_query():
    # 5 s are 80,000 samples: 157 frames, (157 - 128) // 16 + 1 = 2 windows. Two windows need 144 frames, so
    # 143 * 512 = 73,216 samples = 4.576 s; 7 s have 219 frames, 6 windows, from 208 frames = 6.624 s on.
    assert [query_index.windows(s) for s in (1.0, 4.575, 4.577, 5.0, 6.623, 6.625, 7.0, 10.0)] == [
        1,
        1,
        2,
        2,
        5,
        6,
        6,
        12,
    ]
    entries = [
        Entry(sample_id="S1", query="T1", reference="T2", start=10.0, end=10.0 + seconds) for seconds in (4.5, 4.6, 6.7)
    ]
    assert [len(query_index.long_enough(entries, s)) for s in (5.0, 7.0)] == [2, 1]

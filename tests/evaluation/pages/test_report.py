"""The report of a run: Markdown, one self-contained page, figures."""

import re
from pathlib import Path

import pytest

from evaluation.pages import report
from evaluation.pages.report import Picture

PICTURE = Picture(name="one", about="A figure", light=b"light", dark=b"dark")


@pytest.fixture(scope="module")
def written(made_frame, made_summary, tmp_path_factory):
    """Folder of a whole report."""
    page = report.write(tmp_path_factory.mktemp("run") / "made on the way", made_frame, made_summary)
    assert page.name == "report.html"
    return page.parent


def test_the_markdown_says_what_was_run_and_with_what(written, made_summary):
    text = (written / "report.md").read_text()
    assert "`asid evaluate own music --seed 1 --out results`" in text
    assert "strict: distractors compete in the ranking" in text
    assert "60 sampled, 20 sample-free, 165 excerpts" in text
    assert "60 draws, seed 1" in text
    assert f"numpy {made_summary['versions']['numpy']}" in text
    assert "| asid | – | 000000000000 |" in text  # the digest
    assert "What became of each query is in [report.html](report.html)." in text


def test_the_markdown_has_the_tables_with_intervals(written, made_summary):
    text = (written / "report.md").read_text()
    value = made_summary["systems"]["asid"]["map"]
    assert f"| mAP (0-1) | {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}] |" in text
    for title in ("Metrics", "Differences to asid", "By class", "By query length",
                  "Places by sample length and level", "What went wrong", "Systems"):  # fmt: skip
        assert f"\n## {title}\n" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):  # every row as wide as its head
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_figures_that_the_markdown_shows_are_there(written):
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (written / "report.md").read_text())
    assert len(shown) == 7
    assert all((written / path).read_bytes().startswith(b"\x89PNG") for path in shown)


def test_the_page_asks_nobody_for_anything(written):
    text = (written / "report.html").read_text()
    addresses = re.findall(r"""(?:src|srcset|href)=["']?([^"'> ]{1,30})""", text)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in text


def test_names_of_tracks_are_text_in_the_page_and_in_markdown(written):
    page = (written / "report.html").read_text()
    assert "&lt;b&gt;&amp;&#34;x" in page
    assert '<b>&"x' not in page
    text = (written / "report.md").read_text()
    assert r"| \<b\>&\"x |".replace(r"\"", '"') in text
    assert r"| a \| b.mp3 | benchmark | left out | is silent |" in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b\n*c* `d` <e>", r"a\|b \*c\* \`d\` \<e\>"),
        ("[x](y) [1, 2] &amp; R&B", r"[x\](y) [1, 2] \&amp; R\&B"),
    ],
)
def test_markdown_is_escaped_only_where_it_could_mean_something(text, escaped):
    assert report._escape(text) == escaped


def test_a_command_with_pipes_and_backticks_stays_one_cell_of_code():
    assert report._code("a | b") == r"`a \| b`"
    assert report._code("a `b` c") == "`` a `b` c ``"


def test_the_same_rows_and_summary_give_the_same_text(made_frame, made_summary):
    once, twice = (
        (report.html(made_frame, made_summary, [PICTURE]), report.markdown(made_summary, [PICTURE])) for _ in range(2)
    )
    assert once == twice


def test_a_system_alone_is_reported_without_differences(made_frame, made_summary):
    alone = made_summary | {
        "differences": {},
        **{key: {"asid": made_summary[key]["asid"]} for key in ("systems", "by_length", "by_class", "peers")},
    }
    page = report.html(made_frame[made_frame["system"] == "asid"], alone, [PICTURE])
    assert 'id="metrics"' in page
    assert 'id="differences"' not in page


def test_templates_lie_in_the_package():
    assert {"page.html", "report.html", "report.md", "dashboard.html"} <= {
        path.name for path in (Path(report.__file__).parent / "templates").iterdir()
    }


def test_the_page_looks_right_and_its_query_table_filters_and_sorts(written, open_page):
    page = open_page(written / "report.html")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("#shown").inner_text() == "80 of 320 rows"  # the first system's
    page.select_option("#system", "")
    page.select_option("#verdict", "false alarm")
    verdicts = page.locator("#outcomes tbody tr:visible td:nth-child(4)").all_inner_texts()
    assert set(verdicts) == {"false alarm"}
    scores = page.locator("#outcomes tbody tr:visible td:nth-child(7)")
    for direction in (1, -1):
        page.get_by_role("button", name="score").click()
        shown = [float(text) for text in scores.all_inner_texts()]
        assert shown == sorted(shown, reverse=direction < 0)
    assert page.complaints == []

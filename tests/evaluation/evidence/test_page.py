"""The page of evidence: complete, self-contained, playable, small."""

import re
from dataclasses import replace

import pytest

from evaluation.evidence import page
from evaluation.evidence.listen import Excerpt
from evaluation.evidence.page import LARGEST
from evaluation.evidence.replies import Reply
from reranker.rank import Carried, Match
from reranker.search import Answer

AS_IT_IS = Excerpt(start=0.0, end=2.0, reference_start=0.0, tempo_ratio=1.0, transposition=0.0, aligned=True)


@pytest.fixture(scope="module")
def written(reply, empty, unusable, made, tmp_path_factory):
    return page.write(tmp_path_factory.mktemp("page") / "new" / "song.html", [reply, empty, unusable], made)


def test_the_page_asks_nobody_for_anything(written):
    text = written.read_text()
    addresses = re.findall(r"""(?:src|srcset|href)=["']?([^"'> ]{1,30})""", text)
    assert len(addresses) > 15
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'; img-src data:; media-src data:;" in text


def test_the_players_decode_and_nothing_leaves_the_page(written, open_page):
    shown = open_page(written)
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert shown.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    seconds = shown.evaluate(
        """Promise.all([...document.querySelectorAll("audio")].map(player => new Promise((loaded, failed) => {
            player.addEventListener("loadedmetadata", () => loaded(player.duration));
            player.addEventListener("error", () => failed(player.error.message));
            player.preload = "metadata";
            player.load();
        })))"""
    )
    # Query 2.5 to 9.5 s, the reference 1.1 times as long; then query 0 to 5 s, and a reference left as it is.
    assert seconds == pytest.approx([7.0, 7.7, 7.0, 7.0, 7.0, *[5.0] * 5], abs=0.1)
    assert shown.complaints == []


def test_playing_moves_the_line_in_the_pictures_and_stops_what_played_before(written, open_page):
    shown = open_page(written)
    for number in (0, 3):
        shown.locator("audio").nth(number).evaluate("async player => { player.muted = true; await player.play(); }")
    shown.locator("audio").nth(3).evaluate("player => new Promise(moved => { player.ontimeupdate = moved; })")
    assert shown.locator("audio").nth(0).evaluate("player => player.paused")
    head = shown.locator(".playhead").first
    assert head.evaluate("head => head.style.display") == "block"
    assert 0 < float(head.evaluate("head => parseFloat(head.style.left)")) < 100
    assert shown.complaints == []


def test_every_occurrence_of_every_match_stands_on_the_timeline(written, open_page):
    shown = open_page(written)
    lanes = shown.locator(".lane")
    assert [lanes.nth(n).locator("i").count() for n in range(lanes.count())] == [2, 1]
    first = lanes.nth(0).locator("i").nth(0)
    whole = lanes.nth(0).locator(".strip").bounding_box()
    assert first.bounding_box()["x"] - whole["x"] == pytest.approx(0.25 * whole["width"], abs=1)  # 3 of 12 s
    assert first.bounding_box()["width"] == pytest.approx(0.5 * whole["width"], abs=1)  # 6 of 12 s
    assert lanes.nth(0).inner_text().split("\n") == ['1. Kiln - <b>&"x 1', "confidence 97 %"]
    assert lanes.nth(1).inner_text().split("\n")[1] == "score 130.5"


def test_places_tempo_and_pitch_are_told_in_words(written, open_page):
    text = open_page(written).locator("main").inner_text()
    assert "The query from 0:03.0 to 0:09.0 matches “" in text
    assert "from 0:20.0 to 0:26.6, 10.0 % faster and 2.0 semitones higher in the query." in text
    assert "tempo and pitch were not measured" in text


def test_no_sample_and_no_answer_are_said(written, open_page):
    sheets = open_page(written).locator("main > section")
    assert "No sample found" in sheets.nth(1).inner_text()
    assert "required score of 120" in sheets.nth(1).inner_text()
    assert sheets.nth(1).locator("audio").count() == 0
    assert "Not answered: no such file; check the path" in sheets.nth(2).inner_text()


def test_a_reference_that_is_gone_is_told_in_the_place_of_its_pictures(reply, made, tmp_path):
    gone = replace(reply.matches[0], reference=replace(reply.matches[0].reference, path=tmp_path / "gone.flac"))
    text = page.html([replace(reply, answer=replace(reply.answer, matches=(gone,)))], made)
    assert "Pictures and players are missing" in text
    assert "gone.flac: no such file" in text
    assert "<audio" not in text


def test_a_match_whose_places_are_not_told_has_a_section_that_says_so(reply, made):
    placeless = replace(reply.matches[0], occurrences=())
    text = page.html([replace(reply, answer=replace(reply.answer, matches=(placeless,)))], made)
    assert "No place is told for this reference" in text


def test_three_queries_with_ten_matches_of_twelve_seconds_stay_under_the_limit(case, track, made):
    place = replace(case.occurrence, query_span=(0.0, 12.0), reference_span=(15.0, 28.2))
    one = page.html([_of(case, track, place, 1)], made)
    none = page.html([_of(case, track, replace(place, tempo_ratio=None), 0)], made)
    assert len(none) + 30 * (len(one) - len(none)) < LARGEST
    assert page.budget([10, 10, 10])[0] == 12.0


def test_the_same_recording_and_the_stem_that_carries_a_match_are_told(case, track, made):
    place = replace(case.occurrence, likeness=0.5)
    reply = _of(case, track, place, 1)
    (match,) = reply.matches
    copy = replace(match, occurrences=(replace(place, tempo_ratio=1.0, transposition=0.0, likeness=0.95),))
    carried = replace(match, carried=Carried(shares={"drums": 0.8, "bass": 0.2}, stem="drums"))
    html = page.html([replace(reply, answer=replace(reply.answer, matches=(carried,), same=(copy,)))], made)
    assert "with nothing over it. That is no sample." in html
    assert "<li>in the drums</li>" in html
    assert "<li>the same recording" not in html
    asked_for = page.html([replace(reply, answer=replace(reply.answer, matches=(copy,)))], made)
    assert "<li>the same recording, nothing over it</li>" in asked_for


def test_more_matches_get_shorter_excerpts_and_many_more_only_the_best():
    # 0.95 x 25 MB / 60 = 396 kB, less 160 kB of pictures: 236 kB, 47.3 kB a second
    assert page.budget([20, 20, 20]) == (pytest.approx(4.98, abs=0.05), 20)
    # Pictures and 3 s take 302 kB: 78 of them fit, 7 for each of 10 queries, with 8 that only have 3.
    assert page.budget([20] * 10) == (3.0, 7)
    assert page.budget([20] * 10 + [3] * 2) == (3.0, 7)
    assert page.budget([]) == (12.0, 0)


def test_the_manner_of_fitting_is_told():
    assert "hardly changed" in page.manner(AS_IT_IS)
    assert "turntable" in page.manner(replace(AS_IT_IS, tempo_ratio=1.12, transposition=1.96))
    assert "independently" in page.manner(replace(AS_IT_IS, tempo_ratio=1.12))
    assert "not measured" in page.manner(replace(AS_IT_IS, aligned=False))


def _of(case, track, place, count) -> Reply:
    matches = tuple(
        {"reference": track(n + 1), "score": 200.0, "confidence": None, "occurrences": (place,)} for n in range(count)
    )
    return Reply(
        query=case.query, answer=Answer(query=case.query, duration=12.0, matches=tuple(Match(**m) for m in matches))
    )

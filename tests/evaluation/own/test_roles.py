"""Roles: which tracks are sampled, laid over, or only stored."""

import pytest

from evaluation.own import roles
from evaluation.own.roles import Need
from evaluation.own.survey import Track

NEED = Need(references=6, unknown=2, interference=3, distractors=None)


def track(name: str, family: str, *, further: bool = False) -> Track:
    return Track(id=name, form="recording", files=(), family=family, artist="", title=name, duration=60.0,
                 further=further)  # fmt: skip


def families(count: int, size: int = 1, *, further: bool = False) -> list[Track]:
    prefix = "more" if further else "f"
    return [track(f"{prefix}{f}-{n}", f"{prefix}{f}", further=further) for f in range(count) for n in range(size)]


def test_every_role_has_its_number_and_no_track_has_two():
    drawn = roles.draw(families(20), NEED, seed=0)
    assert [len(drawn.references), len(drawn.unknown), len(drawn.interference)] == [6, 2, 3]
    assert len(drawn.distractors) == 9  # 20 families of one track, 11 with a role
    assert len({t.id for t in drawn.all}) == 20


def test_roles_go_to_whole_families():
    drawn = roles.draw(families(12, size=4), NEED, seed=3)
    taken = [{t.family for t in members} for members in (drawn.references, drawn.unknown, drawn.interference)]
    # 6 references need two families of four, the other roles one each; what is left of these four is not used.
    assert [len(names) for names in taken] == [2, 1, 1]
    assert len(set.union(*taken)) == 4
    assert len(drawn.distractors) == 32
    assert not {t.family for t in drawn.distractors} & set.union(*taken)
    assert set(drawn.shared.values()) == {0}


def test_a_number_of_distractors_is_filled_from_families_with_a_role_last_and_that_is_counted():
    need = Need(references=6, unknown=2, interference=3, distractors=34)
    drawn = roles.draw(families(12, size=4), need, seed=3)
    # 32 are of other families; interference has one track to spare, the unknown ones two
    assert len(drawn.distractors) == 34
    assert drawn.shared["distractors of a family laid over samples"] == 1
    assert drawn.shared["distractors of a sampled family"] == 0


def test_further_tracks_become_distractors_only():
    need = Need(references=6, unknown=2, interference=3, distractors=30)
    drawn = roles.draw([*families(12), *families(40, further=True)], need, seed=1)
    assert not any(t.further for t in (*drawn.references, *drawn.unknown, *drawn.interference))
    assert len(drawn.distractors) == 30


def test_the_order_of_the_tracks_does_not_matter_but_the_seed_does():
    tracks = families(30)
    assert roles.draw(tracks, NEED, seed=5) == roles.draw(tracks[::-1], NEED, seed=5)
    assert roles.draw(tracks, NEED, seed=5) != roles.draw(tracks, NEED, seed=6)


def test_too_few_tracks_are_counted_in_one_line():
    with pytest.raises(ValueError, match="6 references, .* 2 unknown ones need 11, found 10 usable; "):
        roles.draw(families(10), NEED, seed=0)
    need = Need(references=6, unknown=2, interference=3, distractors=10)
    with pytest.raises(ValueError, match="10 distractors need 21, found 12 usable, 3 further for distractors; name"):
        roles.draw([*families(12), *families(3, further=True)], need, seed=0)


def test_music_of_one_artist_alone_is_refused():
    with pytest.raises(ValueError, match="all 3 tracks of interference are of one group"):
        roles.draw(families(1, size=30), NEED, seed=0)


def test_one_large_family_and_a_few_others_still_give_something_to_lay_over_every_reference():
    drawn = roles.draw([*families(1, size=30), *families(4)], NEED, seed=0)
    for reference in drawn.references:
        assert any(other.family != reference.family for other in drawn.interference)

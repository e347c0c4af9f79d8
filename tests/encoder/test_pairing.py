"""Pairing: what is refused, the curriculum of levels, and settings stored before there were any of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from encoder import checkpoint
from encoder.systems import ASID, KINDS, NEURALSAMPLEID, PUBLISHED
from encoder.training.pairing import Pairing

SHIPPED = Path(checkpoint.__file__).parent / "weights"


@pytest.mark.parametrize("tempo", [(0.0, 1.0), (1.5, 0.7)])
def test_an_impossible_tempo_is_refused(tempo):
    with pytest.raises(ValueError, match="expected \\(low, high\\) with 0 < low <= high"):
        Pairing(tempo=tempo)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"chopped": 1.2}, "chopped is 1.2, expected a probability from 0 to 1"),
        ({"reverb": -0.1}, "reverb is -0.1, expected a probability from 0 to 1"),
        ({"level": (8, -10)}, "level is \\(8, -10\\), expected \\(low, high\\)"),
        ({"level_start": (0, 10)}, "level None after 0 steps, expected a level and 1 step or more"),
        ({"level_start": (0, 10), "level": (-10, 8)}, "after 0 steps, expected a level and 1 step or more"),
        ({"mixes": 0}, "mixes is 0, expected 1 or more"),
        ({"interferers": 0.3}, "with 1 mix, expected 2 mixes or more"),
    ],
)
def test_impossible_pairings_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        Pairing(**values)
    assert "\n" not in str(caught.value)


def test_levels_fall_linearly_to_their_last_and_stay_there():
    pairing = Pairing(level_start=(0, 10), level=(-10, 8), level_steps=200)
    assert pairing.levels(0) == (0, 10)
    assert pairing.levels(50) == (-2.5, 9.5)  # a quarter of the way: -10 / 4 and 10 - 2 / 4
    assert pairing.levels(200) == pairing.levels(10_000) == pairing.levels(None) == (-10, 8)
    assert Pairing(level=(-6, 6)).levels(0) == (-6, 6)
    assert Pairing().levels(0) == (-10, 10)  # the paper's gain


def test_the_papers_recipes_have_none_of_the_additions():
    for system in (NEURALSAMPLEID, PUBLISHED):
        assert system.pairing == Pairing()
        assert (system.pairing.mixes, system.pairing.level) == (1, None)
    added = {f.name: f.default for f in dataclasses.fields(Pairing)}
    assert all(not added[name] for name in ("saturation", "reverb", "band_limit", "chopped", "same_song", "short"))


def test_settings_stored_before_the_additions_load_with_these_off(tmp_path):
    plain = checkpoint.to_plain(Pairing(gain=3.0))
    for name in ("level", "level_start", "level_steps", "mixes", "interferers", "same_song", "chopped"):
        del plain[name]
    for name in ("saturation", "reverb", "band_limit"):
        del plain[name]
    assert checkpoint.from_plain(plain, {"Pairing": Pairing}, tmp_path) == Pairing(gain=3.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("asid.safetensors", (4, (-10.0, 8.0), 0.3)), ("neuralsampleid-published.safetensors", (1, None, 0.0))],
)
def test_the_shipped_weights_load_under_the_digest_they_were_saved_with(name, expected):
    loaded = checkpoint.load(SHIPPED / name, *KINDS)  # which compares the digest of what is stored
    pairing = loaded.config.pairing
    assert (pairing.mixes, pairing.level, pairing.interferers) == expected


def test_every_addition_survives_the_way_through_json(tmp_path):
    plain = json.loads(json.dumps(checkpoint.to_plain(ASID.pairing)))
    assert checkpoint.from_plain(plain, {"Pairing": Pairing}, tmp_path) == ASID.pairing


def test_validation_hears_tracks_as_a_catalogue_holds_them():
    pairing = Pairing(mixes=4, interferers=0.3, same_song=0.5, replayed=0.5, level=(-10, 8))
    assert pairing.unseen == Pairing(level=(-10, 8))

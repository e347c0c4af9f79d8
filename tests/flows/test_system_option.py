"""--system: another shipped system, with a catalogue of its own and a ranking of its own."""

import pytest

from encoder.checkpoint import CheckpointError
from encoder.encode import shipped
from flows import settings


def test_another_system_keeps_its_catalogue_in_a_folder_of_its_own(tmp_path):
    assert settings.load(data=tmp_path).data == tmp_path
    assert settings.load(data=tmp_path, system="asid").data == tmp_path
    assert settings.load(data=tmp_path, system="grafprint").data == tmp_path / "grafprint"


def test_the_same_system_of_a_settings_file_is_used(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(f'data = "{tmp_path}"\nsystem = "clews"\n')
    assert settings.load(file).data == tmp_path / "clews"


def test_names_without_weights_and_without_a_recipe_are_told_apart():
    with pytest.raises(CheckpointError, match="no weights of system 'neuralsampleid' come with asid, only of .*asid"):
        shipped("neuralsampleid")
    with pytest.raises(ValueError, match="no system is called 'nonsense', expected one of: asid"):
        shipped("nonsense")


def test_an_excerpt_is_found_by_the_sequence_of_its_segments(asid, music, tmp_path):
    data = ("--system", "grafprint", "--data", tmp_path)
    songs = sorted(music.glob("*.flac"))[:2]
    assert asid("ingest", *songs, *data).exit_code == 0
    answer = asid("find", songs[1], "--include-self", *data)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert "whether or not they are right" in lines[1]
    assert songs[1].name in lines[2]
    assert "0:00.0" in lines[3]

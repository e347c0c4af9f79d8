"""Settings: file, environment, arguments, in rising order of weight."""

import pytest

from flows import settings


def test_arguments_outweigh_the_environment_which_outweighs_the_file(tmp_path, monkeypatch):
    file = tmp_path / "s.toml"
    file.write_text('data = "/from/file"\nmilvus_uri = "http://file:1"\nworkers = 3\n[ranking]\ncandidates = 9\n')
    monkeypatch.setenv("ASID_MILVUS_URI", "http://environment:1")
    found = settings.load(file, data=tmp_path, ranking={"top": 2, "minimum": None})
    assert (found.data, found.milvus_uri, found.workers) == (tmp_path, "http://environment:1", 3)
    assert (found.ranking.candidates, found.ranking.top, found.ranking.minimum) == (9, 2, 1.0)


@pytest.mark.parametrize("text", ["nodes = 3\n", "[ranking]\nlimit = 3\n"])
def test_unknown_keys_are_refused_by_name(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match="unknown key"):
        settings.load(tmp_path / "s.toml")


def test_a_value_of_the_wrong_type_is_refused(tmp_path):
    (tmp_path / "s.toml").write_text('workers = "many"\n')
    with pytest.raises(ValueError, match="wrong type"):
        settings.load(tmp_path / "s.toml")
    (tmp_path / "s.toml").write_text('[ranking]\nevery = 2\ntop = "5"\n')
    with pytest.raises(ValueError, match=r"\[ranking\] of .*: top is '5', which is of the wrong type"):
        settings.load(tmp_path / "s.toml")
    (tmp_path / "s.toml").write_text("ranking = 5\n")
    with pytest.raises(ValueError, match=r"\[ranking\] of .*: is 5, expected a table of by, "):
        settings.load(tmp_path / "s.toml")


def test_a_missing_settings_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such settings file"):
        settings.load(tmp_path / "s.toml")


@pytest.mark.parametrize("name", ["laptop", "server"])
def test_the_settings_in_deploy_are_valid(request, name, monkeypatch):
    monkeypatch.delenv("ASID_MILVUS_URI", raising=False)
    found = settings.load(request.config.rootpath / "deploy" / "settings" / f"{name}.toml")
    assert (found.milvus_uri is None) is (name == "laptop")


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path):
    (tmp_path / "s.toml").write_text("workers 3\n")
    with pytest.raises(ValueError, match=r"s.toml: is no TOML \(.*\), expected settings as in"):
        settings.load(tmp_path / "s.toml")

"""A new model is filled beside the old one by the command line, takes over only when nothing is missing, and stays."""

import json
from importlib import resources
from pathlib import Path

import pytest

from flows.beside import require_all
from store.fingerprints import IndexIncomplete

PUBLISHED = Path(str(resources.files("encoder") / "weights" / "neuralsampleid-published.safetensors"))


def test_another_checkpoint_takes_over_and_the_old_one_is_dropped_on_command(asid, tmp_path, music):
    data, files = tmp_path / "data", sorted(music.iterdir())[:2]
    assert asid("ingest", *files, "--data", data).exit_code == 0
    old = json.loads(asid("info", "--data", data, "--json").stdout)
    refused = asid("ingest", *files, "--data", data, "--encoder", PUBLISHED)
    assert refused.exit_code == 1
    assert "asid ingest --checkpoint NEW" in refused.stderr
    summary = json.loads(asid("ingest", "--checkpoint", PUBLISHED, "--data", data, "--json").stdout)
    assert (summary["stored"], summary["failed"]) == (2, 0)
    told = asid("find", files[0], "--data", data)
    assert told.exit_code == 1
    assert "use the checkpoint and settings it was made with" in told.stderr
    with_new = ("--data", data, "--encoder", PUBLISHED)
    answer = json.loads(asid("find", files[0], *with_new, "--rank-by", "similarity", "--include-self", "--json").stdout)
    assert answer["queries"][0]["matches"][0]["reference"]["path"] == str(files[0])
    facts = json.loads(asid("info", *with_new, "--json").stdout)
    assert facts["beside"] == {old["encoder_digest"][:12]: "2 tracks"}
    assert asid("drop", facts["encoder_digest"][:12], "--data", data).exit_code == 1  # in use
    assert old["encoder_digest"] in asid("drop", old["encoder_digest"][:8], "--data", data).stdout
    assert json.loads(asid("info", *with_new, "--json").stdout)["beside"] == {}


def test_a_model_that_lacks_a_track_does_not_take_over():
    paths = [Path("/a.wav"), Path("/b.wav")]
    require_all(paths, set(paths))
    with pytest.raises(IndexIncomplete, match="1 of 2 tracks in use could not be stored .* the first is /b.wav"):
        require_all(paths, {paths[0]})

"""Released files become checkpoints that every command takes."""

import json

import torch


def test_released_files_are_imported_and_serve_ingest_and_find(asid, released_weights, music, tmp_path):
    model, classifier = tmp_path / "model.pth", tmp_path / "clf.pth"
    prefixed = {f"module.{key}": value for key, value in released_weights("encoder").items()}
    torch.save({"epoch": 1, "state_dict": prefixed}, model)
    torch.save(released_weights("classifier"), classifier)
    result = asid("import-published", model, classifier, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    encoder, reranker = result.stdout.split()
    data, source = tmp_path / "data", sorted(music.iterdir())[0]
    assert asid("ingest", source, "--data", data, "--encoder", encoder).exit_code == 0
    found = asid("find", source, "--data", data, "--encoder", encoder, "--reranker", reranker, "--json")
    assert found.exit_code == 0, found.output
    facts = json.loads(asid("info", "--data", data, "--encoder", encoder, "--json").stdout)
    assert facts["system"] == "neuralsampleid-published"


def test_files_given_the_wrong_way_round_are_told(asid, released_weights, tmp_path):
    model, classifier = tmp_path / "model.pth", tmp_path / "clf.pth"
    torch.save(released_weights("encoder"), model)
    torch.save(released_weights("classifier"), classifier)
    result = asid("import-published", classifier, model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1

"""Preparing and training through the commands, at the smallest size that means something."""

import csv
import json

import pytest
import soundfile

from evaluation.pieces.synthesis import compose, render


@pytest.fixture(scope="module")
def multitracks(tmp_path_factory):
    """Four pieces as stems of 26 s, two of them for validation, with a manifest."""
    folder = tmp_path_factory.mktemp("multitracks")
    rows = []
    for seed in range(4):
        for stem, wave in list(render(compose(100 + seed, duration=27.0), sample_rate=16_000).items())[:3]:
            soundfile.write(folder / f"{seed}-{stem}.flac", wave, 16_000)
            split = "train" if seed < 2 else "validation"
            rows.append([f"{seed}-{stem}", f"stems:{seed}", stem, f"{seed}-{stem}.flac", split, "stem"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "group", "stem", "file", "split", "kind"], *rows])
    return folder


@pytest.fixture(scope="module")
def cache(multitracks, tmp_path_factory):
    from click.testing import CliRunner

    from flows.cli import main

    out = tmp_path_factory.mktemp("cache")
    result = CliRunner().invoke(
        main, ["prepare", "stems", str(multitracks), "--out", str(out), "--min-beats", "0", "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "4 stored" in result.stdout
    return out


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    from click.testing import CliRunner

    from flows.cli import main

    out = tmp_path_factory.mktemp("encoder")
    # Of two training tracks neither lies over the other's samples, or a query would leave no wrong reference.
    changes = ["epochs=1", "steps=2", "batch=8", "validation_pairs=16", "pairing.foreign_interference=0"]
    options = [o for c in changes for o in ("--set", c)]
    result = CliRunner().invoke(main, ["train", "encoder", str(cache), "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    assert "hit_rate_10" in result.stderr
    return out / "encoder.safetensors"


def test_stems_of_nothing_usable_are_an_error(asid, tmp_path):
    (tmp_path / "song.wav").write_text("no audio")
    result = asid("prepare", "stems", tmp_path, "--out", tmp_path / "cache", "--min-beats", 0)
    assert (result.exit_code, "1 failed" in result.stdout) == (1, True), result.output


def test_an_encoder_and_its_reranker_train_and_work_together(asid, cache, trained, multitracks, tmp_path):
    # Two training tracks: a batch of 8 pairs holds at least one pair of each, so one negative is always there.
    changes = ("epochs=1", "steps=1", "batch=8", "negatives=1", "validation_pairs=16")
    options = [o for c in changes for o in ("--set", c)]
    result = asid("train", "reranker", cache, "--encoder", trained, "--out", tmp_path / "r", *options)
    assert result.exit_code == 0, result.output
    assert "auroc" in result.stderr
    data = tmp_path / "data"
    query = multitracks / "0-bass.flac"
    assert asid("ingest", query, "--data", data, "--encoder", trained).exit_code == 0
    reranker = tmp_path / "r" / "reranker.safetensors"
    found = asid("find", query, "--data", data, "--encoder", trained, "--reranker", reranker, "--include-self")
    assert found.exit_code == 0, found.output


def test_a_verifier_trains_and_has_a_say_in_the_scores_where_the_settings_name_it(asid, cache, multitracks, tmp_path):
    options = [o for c in ("epochs=1", "steps=1", "batch=8", "validation_pairs=16") for o in ("--set", c)]
    result = asid("train", "verifier", cache, "--out", tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert "likeness_auroc" in result.stderr
    query = multitracks / "0-bass.flac"
    assert asid("ingest", query, "--data", tmp_path / "data").exit_code == 0

    def scores(**settings):
        (tmp_path / "settings.toml").write_text("\n".join(f"{key} = {value}" for key, value in settings.items()))
        named = ("--data", tmp_path / "data", "--settings", tmp_path / "settings.toml")
        found = asid("find", query, *named, "--include-self", "--min-score", "0", "--json")
        return [match["score"] for one in json.loads(found.stdout)["queries"] for match in one["matches"]]

    found = scores(verifier=f'"{result.stdout.strip()}"') + scores() + scores(ranking="{ verify = false }")
    assert len(set(found)) == len(found) == 3


@pytest.mark.parametrize(("what", "file"), [("verifier", "verifier.safetensors"), ("contrast", "encoder.safetensors")])
def test_a_deployment_trains_what_it_is_told(cache, tmp_path, monkeypatch, what, file):
    from flows.retrain import train

    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")
    schedule = {"epochs": "1", "steps": "1", "batch": "8", "validation_pairs": "16"}
    assert train(cache, tmp_path, what=what, schedule=schedule) == tmp_path / file
    assert (tmp_path / file).is_file()


def test_misspelt_and_impossible_settings_are_refused_in_one_line(asid, cache, tmp_path):
    for change, words in (("epoch=1", "unknown key"), ("epochs=many", "as int"), ("epochs=0", "more than 0")):
        result = asid("train", "encoder", cache, "--out", tmp_path, "--set", change)
        assert result.exit_code == 1
        assert words in result.stderr
    result = asid("train", "encoder", cache, "--out", tmp_path, "--system", "nothing")
    assert "expected one of" in result.stderr


def test_a_folder_that_is_no_cache_is_told(asid, tmp_path):
    result = asid("train", "encoder", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr


def test_training_may_begin_with_the_weights_of_a_checkpoint(asid, cache, trained, tmp_path):
    from encoder.encode import Encoder

    changes = ("epochs=1", "steps=1", "batch=8", "validation_pairs=16", "learning_rate=1e-12", "final_rate=1e-12")
    options = [o for c in changes for o in ("--set", c)]
    result = asid("train", "encoder", cache, "--from", trained, "--out", tmp_path, *options)
    assert result.exit_code == 0, result.output
    before, after = Encoder(trained), Encoder(tmp_path / "encoder.safetensors")
    # At this learning rate nothing moves but the running statistics.
    weight = "projector.layers.0.weight"
    assert (before.network.state_dict()[weight] - after.network.state_dict()[weight]).abs().max() < 1e-6
    assert after.provenance["started_from"]["digest"] == before.digest

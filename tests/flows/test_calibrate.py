"""Calibrating from the command line's side: made-up answers to a made-up benchmark become a file that is used again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.own.listing import Music
from evaluation.own.own import OwnSettings, OwnSources
from evaluation.peers.interface import Found, Response
from flows.settings import Settings
from reranker import confidence
from reranker.correlate import Correlation, Correlator
from reranker.rank import Occurrence, Ranking


class Peer:
    """Gives the sampled reference a high score in three of four cases; no audio is looked at."""

    name = about = "asid"
    correlator = Correlator()

    def __init__(self):
        self.facts, self.asked, self.closed = {"digest": "one", "encoder": "abc"}, 0, False

    def prepare(self, catalogue, progress):
        self.catalogue = list(catalogue)

    def ask(self, query):
        self.asked += 1
        rng = np.random.default_rng(list(query.id.encode()))
        scores = {name: float(rng.pareto(2.0)) for name in self.catalogue if name not in query.aliases}
        if rng.random() < 0.75:
            scores |= {name: 30.0 for name in query.relevant}
        ranked = sorted(scores, key=lambda name: -scores[name])
        return Response(found=tuple(Found(reference=name, score=scores[name]) for name in ranked), answered=False)

    def close(self):
        self.closed = True


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """In place of rendering: 30 queries of 6 s a seed; in place of the product: a peer that has answers ready."""
    from flows import calibrate

    def render(settings, sources, directory, progress):
        path = tmp_path / f"{settings.seed}.flac"
        if not path.exists():  # its time of change belongs to what answers are kept for
            soundfile.write(path, np.full(6 * 22_050, 0.1, np.float32), 22_050)
        place = Occurrence(query_span=(0.0, 5.0), reference_span=(0.0, 5.0))
        sampled = Sampled(sample_id="S001", reference="T001", occurrences=(place,))
        queries = tuple(
            Query(id=f"Q{settings.seed}{n:02d}", path=path, sampled=(sampled,) if n % 3 else ()) for n in range(30)
        )
        others = {f"N{n:03d}": path for n in range(20)}
        return Benchmark(name="own", references={"T001": path}, distractors=others, queries=queries)

    peer = Peer()
    monkeypatch.setattr(calibrate.own, "render", render)
    monkeypatch.setattr(calibrate, "opened", lambda how: peer)
    return peer


def how(tmp_path, **changes):
    from flows.calibrate import Calibrating

    given = dict(
        settings=Settings(data=tmp_path), benchmarks=(OwnSettings(seed=0), OwnSettings(seed=1)),
        out=tmp_path / "calibration.json", cache=tmp_path / "cache", lengths=(3.0,), long=None,
        command="asid calibrate m",
    )  # fmt: skip
    return Calibrating(**given | changes)


def test_a_calibration_is_fitted_over_all_seeds_written_and_told(rendered, tmp_path):
    from flows.calibrate import calibrate_own, to_json, to_text

    sources = OwnSources(music=Music(path=tmp_path))
    made = calibrate_own(sources, how(tmp_path))
    assert rendered.closed
    assert rendered.asked == 2 * (30 + 30)
    read = confidence.load(tmp_path / "calibration.json")
    assert read.encoder == "abc"
    read.require(encoder="abc", scoring=confidence.scoring(Ranking(), Correlation()))
    assert len(read.false) == 60
    assert read.provenance["seeds"] == [0, 1]
    assert (read.provenance["queries"], read.provenance["catalogue"]) == (60, [21, 21])
    assert read.provenance["command"] == "asid calibrate m"
    assert read.range["listed"] == (21.0, 21.0)
    told = to_json(made, tmp_path / "calibration.json")
    assert json.loads(json.dumps(told)) == told
    text = to_text(made, tmp_path / "calibration.json")
    assert "60 queries, 40 of them with a sample" in text
    assert "5.00% false alarms: confidence over" in text  # 3 of 60
    assert "1.00% false alarms" not in text
    calibrate_own(sources, how(tmp_path))
    assert rendered.asked == 120  # nothing is asked twice


def test_windows_of_long_queries_are_asked_in_a_part_of_the_time_and_calibrated_too(rendered, tmp_path, monkeypatch):
    from flows import calibrate

    made = {}

    def neural(folder, **given):
        made[given["about"]] = given
        return rendered

    monkeypatch.setattr(calibrate, "Neural", neural)
    monkeypatch.setattr(
        calibrate.assembly,
        "encoder",
        lambda settings: SimpleNamespace(contrast=(8, 85), digest="abc", contrast_digest="def"),
    )
    sources, given = OwnSources(music=Music(path=tmp_path)), how(tmp_path, long=180.0)
    fitted = calibrate.calibrate_own(sources, given)
    assert rendered.asked == 2 * (30 + 30 + 30)  # whole, excerpts, as windows
    assert (fitted.measured["queries"], fitted.provenance["long"]) == (60, 180.0)
    assert len(fitted.false) == 60
    window = made["the product, as it searches windows of 180 s"]
    efforts = {"effort": Ranking.effort / 12, "local": Ranking.local / 12}
    assert window["ranking"] == replace(Ranking(), listing=round(Ranking.listing / 9), **efforts)
    assert window["correlator"].correlation == replace(Correlation(), effort=Correlation.effort / 12, verified=4)
    assert calibrate.as_window(how(tmp_path, long=40.0)) is None  # such a query is no window's


def test_impossible_requests_are_refused_before_anything_is_done(tmp_path):
    from flows import calibrate

    with pytest.raises(ValueError, match="only that is calibrated"):
        how(tmp_path, settings=replace(Settings(data=tmp_path), ranking=Ranking(by="reranker")))
    for seeds in ((), (1, 1)):
        with pytest.raises(ValueError, match="seeds are"):
            how(tmp_path, benchmarks=tuple(OwnSettings(seed=seed) for seed in seeds))
    with pytest.raises(ValueError, match=r"share of sampled queries is 1\.0"):
        how(tmp_path, sampled=1.0)
    assert calibrate.Calibrating.__doc__


def test_too_little_music_is_told_in_one_line(tmp_path):
    from flows.cli_calibrate import calibrate
    from flows.options import OneLineErrors

    (tmp_path / "music").mkdir()
    group = OneLineErrors("asid", commands={"calibrate": calibrate})
    given = ["calibrate", str(tmp_path / "music"), "--data", str(tmp_path), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(group, given)
    assert done.exit_code == 1
    assert "too few tracks" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert CliRunner().invoke(group, [*given, "--sampled-share", "1"]).exit_code == 2
    assert not (tmp_path / "calibration.json").exists()

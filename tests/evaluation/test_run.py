"""A run keeps every answer, goes on where it was killed, and drops nothing silently."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation import protocols, results
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers.interface import Found, Response
from evaluation.run import identity, run
from reranker.rank import Occurrence

PLACE = Occurrence(query_span=(1.0, 5.0), reference_span=(2.5, 6.5), tempo_ratio=1.25, transposition=None)


class Scripted:
    """A peer that answers by a table: query id -> response, or an error to raise."""

    def __init__(self, responses, *, name="scripted", digest="1"):
        self.name, self.about = name, "answers by a table"
        self.responses, self.digest = responses, digest
        self.facts, self.asked, self.stored, self.closed = {}, [], [], 0

    def prepare(self, catalogue, progress):
        self.facts = {"digest": self.digest}
        for done, track in enumerate(catalogue, 1):
            self.stored.append(track)
            progress(track, done, len(catalogue))

    def ask(self, query):
        self.asked.append((query.id, query.excerpt))
        response = self.responses.get(query.id, Response(found=(), answered=False))
        if isinstance(response, BaseException):
            raise response
        return response

    def close(self):
        self.closed += 1


def found(*scores, answered=True, **fields):
    """Response that found the references r1, r2 ... with these scores."""
    ranked = tuple(Found(reference=name, score=score, **fields) for name, score in scores)
    return Response(found=ranked, candidates=frozenset({"r1", "d1"}), answered=answered, seconds=0.5)


@pytest.fixture
def benchmark(tmp_path):
    """Two references, a distractor, a query that samples r1, a sample-free one, and an excerpt of the first."""
    paths = {name: tmp_path / f"{name}.wav" for name in ("r1", "r2", "d1", "q1", "q2", "q1-5")}
    for name, path in paths.items():
        path.write_bytes(name.encode())
    sampled = (Sampled(sample_id="S001", reference="r1", occurrences=(PLACE,), length=4.0),)
    return Benchmark(
        name="small",
        references={name: paths[name] for name in ("r1", "r2")},
        distractors={"d1": paths["d1"]},
        queries=(Query(id="q1", path=paths["q1"], sampled=sampled), Query(id="q2", path=paths["q2"])),
        excerpts=(Query(id="q1-5", path=paths["q1-5"], sampled=sampled, excerpt=5.0),),
    )


@pytest.fixture
def answers():
    return {"q1": found(("d1", 3.0), ("r1", 2.0), occurrences=(PLACE,), confidence=0.25), "q1-5": found(("r1", 1.0))}


def test_every_peer_has_a_row_for_every_query_and_excerpt(benchmark, answers, tmp_path):
    peers = [Scripted(answers), Scripted({}, name="never")]
    frame = run(benchmark, peers, protocols.STRICT, tmp_path / "out")
    assert frame[["system", "query"]].values.tolist() == [
        [system, query] for system in ("scripted", "never") for query in ("q1", "q2", "q1-5")
    ]
    assert list(frame.columns) == list(results.COLUMNS)
    assert frame["best_rank"][0] == 2  # d1, a distractor, stands before r1
    assert peers[0].stored == ["r1", "r2", "d1"]
    assert [peer.closed for peer in peers] == [1, 1]
    assert frame.attrs["peers"]["never"]["about"] == "answers by a table"


def test_a_second_run_asks_nothing_and_gives_the_same_table(benchmark, answers, tmp_path):
    first = run(benchmark, [Scripted(answers)], protocols.STRICT, tmp_path / "out")
    again = Scripted({})
    second = run(benchmark, [again], protocols.STRICT, tmp_path / "out")
    assert again.asked == []
    assert second.equals(first)
    assert second["query_iou"][0] == 1.0  # places came back from the file


@pytest.mark.parametrize("torn", ['{"query": "q2", "exc', '{"query": "q2"}', ""])
def test_a_killed_run_goes_on_where_it_stopped(benchmark, answers, tmp_path, torn):
    """kill -9 leaves whole lines and perhaps a torn one, which is asked again."""
    whole = run(benchmark, [Scripted(answers)], protocols.STRICT, tmp_path / "out")
    file = tmp_path / "out" / "answers" / "scripted.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + torn)  # the header, the answer to q1
    again = Scripted(answers)
    frame = run(benchmark, [again], protocols.STRICT, tmp_path / "out")
    assert again.asked == [("q2", None), ("q1-5", 5.0)]
    columns = [name for name in frame.columns if name != "seconds"]
    assert frame[columns].equals(whole[columns])
    assert [json.loads(line).get("query") for line in file.read_text().splitlines()] == [None, "q1", "q2", "q1-5"]


def test_a_run_that_is_interrupted_has_kept_what_was_answered(benchmark, answers, tmp_path):
    stopped = Scripted({**answers, "q2": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, [stopped], protocols.STRICT, tmp_path / "out")
    assert stopped.closed == 1
    again = Scripted(answers)
    run(benchmark, [again], protocols.STRICT, tmp_path / "out")
    assert again.asked == [("q2", None), ("q1-5", 5.0)]


def test_a_changed_peer_protocol_or_benchmark_is_asked_anew(benchmark, answers, tmp_path):
    def asked(benchmark, protocol=protocols.STRICT, **peer):
        again = Scripted(answers, **peer)
        run(benchmark, [again], protocol, tmp_path / "out")
        return len(again.asked)

    assert asked(benchmark) == 3
    assert asked(benchmark) == 0
    assert asked(benchmark, digest="2") == 3
    assert asked(benchmark, protocols.PUBLISHED, digest="2") == 3
    benchmark.queries[1].path.write_bytes(b"another")
    assert asked(benchmark, protocols.PUBLISHED, digest="2") == 3


def test_a_failed_query_counts_as_not_found_and_is_named_with_its_reason(benchmark, tmp_path):
    failing = Scripted({"q1": ValueError("q1.wav: cannot be decoded"), "q1-5": OSError("gone")})
    frame = run(benchmark, [failing], protocols.STRICT, tmp_path / "out")
    assert frame["ap"].tolist()[::2] == [0.0, 0.0]
    assert not frame["answered"].any()
    facts = frame.attrs["peers"]["scripted"]
    assert facts["failed_queries"] == {"q1": "ValueError: q1.wav: cannot be decoded", "q1-5 (5 s)": "OSError: gone"}
    summary = results.summary(
        frame, protocol=protocols.STRICT, seed=0, benchmark={}, peers=frame.attrs["peers"], command="", created="",
        draws=10,
    )  # fmt: skip
    assert summary["peers"]["scripted"]["failed_queries"]["q1-5 (5 s)"] == "OSError: gone"


def test_a_failed_query_is_asked_again_by_the_next_run(benchmark, answers, tmp_path):
    run(benchmark, [Scripted({**answers, "q2": OSError("away")})], protocols.STRICT, tmp_path / "out")
    again = Scripted(answers)
    frame = run(benchmark, [again], protocols.STRICT, tmp_path / "out")
    assert again.asked == [("q2", None)]
    assert frame.attrs["peers"]["scripted"]["failed_queries"] == {}
    idle = Scripted(answers)
    run(benchmark, [idle], protocols.STRICT, tmp_path / "out")
    assert idle.asked == []  # of two lines for q2, the later one counts


def test_an_impossible_answer_is_a_failure(benchmark, answers, tmp_path):
    strange = run(benchmark, [Scripted({"q1": found(("r9", 1.0))})], protocols.STRICT, tmp_path / "out")
    assert "'r9', which is no id of the catalogue" in strange.attrs["peers"]["scripted"]["failed_queries"]["q1"]


def test_a_query_that_finds_itself_is_a_failure(benchmark, tmp_path):
    query = Query(id="q1", path=benchmark.queries[0].path, aliases=frozenset({"r1"}))
    alone = Benchmark(name="alone", references=benchmark.references, distractors={}, queries=(query,))
    frame = run(alone, [Scripted({"q1": found(("r1", 1.0))})], protocols.STRICT, tmp_path / "out")
    assert "'r1', which is the query itself" in frame.attrs["peers"]["scripted"]["failed_queries"]["q1"]


def test_a_mistake_in_a_peer_is_no_failed_query(benchmark, tmp_path):
    with pytest.raises(TypeError):
        run(benchmark, [Scripted({"q1": TypeError("missing argument")})], protocols.STRICT, tmp_path / "out")


def test_the_time_of_a_query_is_measured_where_the_peer_does_not(benchmark, answers, tmp_path):
    frame = run(benchmark, [Scripted(answers)], protocols.STRICT, tmp_path / "out")
    assert frame["seconds"][0] == 0.5
    assert 0 < frame["seconds"][1] < 0.5


def test_numbers_of_numpy_are_kept_as_they_are(benchmark, tmp_path):
    answers = {"q1": found(("r1", np.float32(0.1)), answered=np.True_)}
    first = run(benchmark, [Scripted(answers)], protocols.STRICT, tmp_path / "out")
    second = run(benchmark, [Scripted({})], protocols.STRICT, tmp_path / "out")
    assert first["top_score"][0] == second["top_score"][0] == float(np.float32(0.1))


def test_progress_tells_of_every_track_and_query(benchmark, answers, tmp_path):
    steps = []
    run(benchmark, [Scripted(answers)], protocols.STRICT, tmp_path / "out", progress=steps.append)
    told = [(step.doing, step.what, step.done, step.total) for step in steps]
    assert told[:3] == [("storing", "r1", 1, 3), ("storing", "r2", 2, 3), ("storing", "d1", 3, 3)]
    assert told[3:] == [("asking", "q1", 1, 3), ("asking", "q2", 2, 3), ("asking", "q1-5", 3, 3)]


def test_systems_of_one_name_are_refused(benchmark, tmp_path):
    with pytest.raises(ValueError, match="scripted, scripted; give each a name of its own"):
        run(benchmark, [Scripted({}), Scripted({})], protocols.STRICT, tmp_path)


def test_a_peer_without_digest_is_refused(benchmark, tmp_path):
    careless = Scripted({})
    careless.prepare = lambda catalogue, progress: None
    with pytest.raises(ValueError, match="scripted: facts have no 'digest'"):
        run(benchmark, [careless], protocols.STRICT, tmp_path)


def test_names_that_no_file_can_have_get_files_of_their_own(benchmark, answers, tmp_path):
    run(benchmark, [Scripted(answers, name="a/b"), Scripted({}, name="a b")], protocols.STRICT, tmp_path / "out")
    assert len(list((tmp_path / "out" / "answers").iterdir())) == 2


def test_a_benchmark_is_the_same_as_long_as_its_files_are(benchmark, tmp_path):
    before = identity(benchmark)
    assert identity(benchmark) == before
    shutil.copy(Path(__file__), benchmark.references["r2"])
    assert identity(benchmark) != before

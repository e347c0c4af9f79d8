"""Calibration data: every query at several lengths, what is true of each, and a peer's answers as rankings."""

import numpy as np
import pytest
import soundfile

from encoder import audio
from evaluation import calibration, lengths
from evaluation.benchmark import Benchmark, Query, Sampled
from evaluation.peers.interface import Found, Response
from reranker import calibrate
from reranker.rank import Occurrence

RATE = 22_050


class Guessing:
    """Finds what a query samples in two of three cases, and five tracks by chance; logs what it was asked."""

    name, about = "guessing", "for tests"

    def __init__(self):
        self.facts, self.asked = {"digest": "guess", "encoder": "abc"}, []

    def prepare(self, catalogue, progress):
        self.catalogue = list(catalogue)

    def ask(self, query):
        self.asked.append(query)
        if query.id == "Q003-5s":
            raise ValueError("this one is broken")
        rng = np.random.default_rng(list(query.id.encode()))
        there = [name for name in self.catalogue if name not in query.aliases]
        scores = dict(zip(rng.permutation(there)[:5].tolist(), rng.pareto(1.0, 5), strict=True))
        if rng.random() < 0.67:
            scores |= {name: 20.0 * (1 + rng.random()) for name in query.relevant}
        ranked = sorted(scores, key=lambda name: -scores[name])
        return Response(found=tuple(Found(reference=name, score=scores[name]) for name in ranked), answered=False)


def query(folder, number, *, reference=None, start=1.0, end=9.0):
    """A file of 12 s whose samples tell their own time and query, which samples the reference from `start` to `end`."""
    path = folder / f"Q{number:03d}.flac"
    if not path.exists():
        soundfile.write(path, np.linspace(0, 0.5, 12 * RATE, dtype=np.float32) * (1 - 0.01 * number), RATE)
    place = Occurrence(query_span=(start, end), reference_span=(0.0, end - start), tempo_ratio=1.0)
    short = Occurrence(query_span=(end + 0.5, end + 1.0), reference_span=(0.0, 0.5), tempo_ratio=1.0)
    sampled = (Sampled(sample_id="S001", reference=reference, occurrences=(short, place)),) if reference else ()
    return Query(id=f"Q{number:03d}", path=path, sampled=sampled)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """40 queries, three in four with a sample of one of ten references, and five distractors."""
    folder = tmp_path_factory.mktemp("audio")
    queries = tuple(query(folder, n, reference=f"T{n % 10:03d}" if n % 4 else None) for n in range(40))
    return Benchmark(
        name="made up",
        references={f"T{n:03d}": queries[n].path for n in range(10)},
        distractors={f"N{n:03d}": queries[10 + n].path for n in range(5)},
        queries=queries,
    )


@pytest.fixture(scope="module")
def collected(benchmark, tmp_path_factory):
    """What was collected, and the peer that was asked."""
    peer, folder = Guessing(), tmp_path_factory.mktemp("collected")
    made = calibration.collect(benchmark, peer, folder, seconds=(5.0, 20.0))
    return made, peer, folder


def test_an_excerpt_begins_with_the_longest_occurrence_and_of_a_sample_free_query_is_its_middle(benchmark, tmp_path):
    made = {one.id: one for one in lengths.shorter(benchmark, tmp_path, lengths=(5.0, 20.0))}
    assert len(made) == 40  # no query lasts 20 s
    sampled, free = made["Q001-S001-001-5s"], made["Q000-5s"]
    assert (sampled.relevant, free.relevant) == ({"T001"}, frozenset())
    # the longest occurrence lasts from 1 to 9 s; the middle 5 of 12 s begin at 3.5 s; the wave tells the time
    for one, start in ((sampled, 1.0), (free, 3.5)):
        wave = audio.read(one.path, sample_rate=RATE)
        number = int(one.id[1:4])
        assert len(wave) == 5 * RATE
        assert wave[0] == pytest.approx(0.5 * start / 12 * (1 - 0.01 * number), abs=1e-3)


def test_every_query_is_asked_whole_and_shorter(collected, benchmark):
    made, peer, _ = collected
    assert len(peer.asked) == 40 + 40
    assert made.failed == {}
    whole = [one for one in made.ranked if one.whole]
    assert len(whole) == 40
    assert sum(one.sampled for one in whole) == 30
    assert len({one.query for one in made.ranked}) == 40  # versions belong to their full query
    assert sorted({round(one.seconds) for one in made.ranked}) == [5, 12]
    assert all(sum(one.right) <= 1 for one in made.ranked)
    assert sum(any(one.right) for one in made.ranked) > 30


def test_what_was_answered_is_not_asked_again_and_a_failure_is_told(collected, benchmark, tmp_path):
    made, _, folder = collected
    again = Guessing()
    assert calibration.collect(benchmark, again, folder, seconds=(5.0, 20.0)) == made
    assert again.asked == []
    broken = Benchmark(**{**vars(benchmark), "queries": tuple(
        Query(id=q.id, path=q.path) if q.id == "Q003" else q for q in benchmark.queries)})  # fmt: skip
    told = calibration.collect(broken, Guessing(), tmp_path, seconds=(5.0,))
    assert told.failed == {"Q003-5s": "ValueError: this one is broken"}
    assert len(told.ranked) == 79


def test_a_wrong_reference_goes_first_among_equal_scores(benchmark):
    class Undecided(Guessing):
        def ask(self, query):
            names = [name for name in self.catalogue if name not in query.aliases]
            ordered = sorted(names, key=lambda name: name not in query.relevant)  # the right one is told first
            return Response(found=tuple(Found(reference=name, score=1.0) for name in ordered), answered=False)

    given = Undecided()
    given.prepare(benchmark.catalogue, None)
    from evaluation.run import Answer

    asked = benchmark.queries[1]
    answer = Answer(query=asked.id, excerpt=None, response=given.ask(asked))
    ranked = calibration._ranked(asked, answer, full="Q001", listed=15, relatives={"T001", "T004"})
    assert ranked.right == (False,) * 14 + (True,)
    assert sum(ranked.related) == 2


def test_relatives_are_all_tracks_by_an_artist_of_what_is_sampled(benchmark):
    artists = {"T001": "Kiln", "T002": "kiln", "T003": "", "N001": "Kiln", "Q004": "Kiln"}
    named = Benchmark(**{**vars(benchmark), "artists": artists})
    assert named.relatives(benchmark.queries[1]) == {"T001", "T002", "N001"}
    assert named.relatives(benchmark.queries[3]) == {"T003"}  # nobody is known to have made it
    assert named.relatives(benchmark.queries[0]) == frozenset()


def test_what_is_measured_says_how_good_it_is_on_queries_held_out(collected):
    made, _, _ = collected
    fitted = calibrate.fit(made.ranked, encoder="abc", scoring={})
    told = calibration.measured(fitted)
    assert (told["queries"], told["sampled"], told["sample_free_or_withheld"]) == (40, 30, 40)
    assert told["least_false_alarm_rate"] == pytest.approx(3 / 40)
    assert [t["false_alarms"] for t in told["thresholds"]] == [3 / 40]  # 1 % and 5 % are more than 40 queries promise
    (threshold,) = told["thresholds"]
    assert threshold["low"] <= threshold["confidence"] <= threshold["high"]
    found = np.mean([r.right[0] for r in made.ranked if r.whole and r.sampled])
    assert 0 <= threshold["recall"] <= found
    assert 0 < told["calibration_error"]["value"] < 0.3
    assert told["calibration_error"]["bins"] == 10

"""Our own encoders as peers: what they store, what they find under each protocol, what they report."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from encoder import checkpoint
from encoder.encode import Encoder
from encoder.gnn import GraphNetwork, Stage
from encoder.segments import SegmentGrid
from encoder.spectrogram import LogFrequency
from encoder.systems import System
from evaluation import protocols
from evaluation.benchmark import Query
from evaluation.peers import neural, registry, similarity
from evaluation.peers.neural import Neural
from evaluation.protocols import PUBLISHED, STRICT
from reranker.checkpoint import Reranker
from reranker.cross_attention import CrossAttention, CrossAttentionConfig
from reranker.rank import Match, Ranking, Scored
from reranker.search import Searcher
from store.segment_ids import segment_id

RATE = 16_000
SMALL = System(
    name="small",
    about="for tests",
    front_end=LogFrequency(bins=36, f_min=110.0, bins_per_octave=9),
    network=GraphNetwork(
        stages=(Stage(channels=8), Stage(channels=12, stride=(3, 4), blocks=1)),
        node_channels=16,
        neighbours=3,
        expansion=1,
        pooling="bands",
        hidden=32,
        dimensions=16,
    ),
    grid=SegmentGrid(frames=32, step=8, minimum_samples=16_000),  # segments of 1.024 s every 0.256 s
)


class Same(torch.nn.Module):
    """A classifier that gives 0.9 to pairs of the same sound, else 0.1."""

    def scores(self, query_nodes, reference_nodes, *, similarities):
        return torch.where(similarities > 0.9999, 0.9, 0.1)


class Graded(torch.nn.Module):
    """A classifier with scores on either side of 0.5 for every query."""

    def scores(self, query_nodes, reference_nodes, *, similarities):
        return (200 * (similarities - similarities.mean())).sigmoid()


class Constant(torch.nn.Module):
    """A classifier that gives every pair the same score."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def scores(self, query_nodes, reference_nodes, *, similarities):
        return torch.full((len(query_nodes), len(reference_nodes)), self.score)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Checkpoint of the small encoder."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(path, SMALL, SMALL.build(), provenance={})
    return path


@pytest.fixture(scope="module")
def encoder(weights):
    return Encoder(weights)


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return CrossAttention(CrossAttentionConfig(channels=16, nodes=64, hidden=8)).eval()


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Five tracks of 5 s, and as the query 1 s of something else, then 2 s of the second one from 1.5 s on."""
    folder = tmp_path_factory.mktemp("music")
    tracks = {f"t{number}": notes(number, 5) for number in range(5)}
    hop = SMALL.grid.step * SMALL.grid.frame_hop  # a whole number of hops, so that segments of both are the same
    query = np.concatenate([notes(9, 2)[: 4 * hop], tracks["t1"][6 * hop : 14 * hop]])
    for name, wave in {**tracks, "query": query}.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    return {name: folder / f"{name}.wav" for name in (*tracks, "query")}


@pytest.fixture(scope="module")
def catalogue(music):
    return {name: path for name, path in music.items() if name != "query"}


@pytest.fixture(scope="module")
def query(music):
    return Query(id="q", path=music["query"])


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder, catalogue):
    """A folder in which the catalogue lies already, as an earlier run left it."""
    folder = tmp_path_factory.mktemp("home")
    earlier = Neural(folder, name="earlier", about="", encoder=encoder, classifier=None)
    earlier.prepare(catalogue, silent)
    earlier.close()
    return folder


@pytest.fixture
def opened(home, encoder):
    """``opened(classifier, ...)``: a peer over the folder; closed at the end."""
    peers = []

    def opened(classifier, folder=home, **options):
        peers.append(Neural(folder, name="peer", about="", encoder=encoder, classifier=classifier, **options))
        return peers[-1]

    yield opened
    for peer in peers:
        peer.close()


def notes(seed, seconds):
    """A new note with two overtones every quarter of a second, (samples,)."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 4) / RATE
    pitches = 110 * 2 ** (rng.integers(0, 40, int(4 * seconds)) / 12)
    played = [sum(np.sin(2 * np.pi * f * k * time) / k for k in (1, 2, 3)) * np.exp(-4 * time) for f in pitches]
    return (0.2 * np.concatenate(played)).astype(np.float32)


def silent(what, done, total):
    pass


# Storing


def test_a_second_run_stores_nothing(opened, catalogue):
    told = []
    opened(None).prepare(catalogue, lambda *step: told.append(step))
    assert told == []


def test_a_killed_run_goes_on_where_it_stopped(opened, catalogue, tmp_path):
    def stop(what, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(None, tmp_path).prepare(catalogue, stop)
    told = []
    opened(None, tmp_path).prepare(catalogue, lambda *step: told.append(step))
    assert told == [("t2", 1, 3), ("t3", 2, 3), ("t4", 3, 3)]


def test_an_index_that_lost_segments_is_mended(opened, catalogue, query, tmp_path):
    first = opened(None, tmp_path)
    first.prepare(catalogue, silent)
    response = first.ask(query)
    first.close()
    with first._open() as stored:
        stored._fingerprints.delete([segment_id(2, index).item() for index in range(5)])
    again = opened(None, tmp_path)
    again.prepare(catalogue, silent)
    mended = again.ask(query).found
    assert [found.score for found in mended] == pytest.approx([found.score for found in response.found], abs=1e-4)
    assert [found.reference for found in mended] == [found.reference for found in response.found]


def test_a_track_that_cannot_be_encoded_is_named_with_its_reason(opened, catalogue, query, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    peer = opened(None, tmp_path / "store")
    with_noise = {"noise": tmp_path / "noise.wav", "gone": tmp_path / "gone.wav", "t1": catalogue["t1"]}
    peer.prepare(with_noise, silent)
    assert set(peer.facts["failed"]) == {"noise", "gone"}
    assert peer.facts["failed"]["gone"] == "cannot be read: No such file or directory"
    assert [found.reference for found in peer.ask(query).found] == ["t1"]


def test_two_ids_of_one_file_are_refused(opened, music):
    with pytest.raises(ValueError, match="tracks 'a' and 'b' are both"):
        opened(None).prepare({"a": music["t0"], "b": music["t0"]}, silent)


def test_to_be_asked_a_peer_must_be_prepared(opened, query):
    with pytest.raises(ValueError, match="peer was asked before it was prepared"):
        opened(None).ask(query)


# Finding


def test_the_excerpt_of_a_track_is_found_where_it_was_taken_from(opened, catalogue, query):
    peer = opened(Same())
    peer.prepare(catalogue, silent)
    response = peer.ask(query)
    (found,) = response.found
    (place,) = found.occurrences
    # 8 hops of 0.256 s, from 4 hops of the query and 6 of the reference on; the last is reflected at the query's end.
    assert found.reference == "t1"
    assert place.query_span == pytest.approx((1.024, 3.072), abs=0.26)
    assert place.reference_span == pytest.approx((1.536, 3.584), abs=0.26)
    assert response.answered
    assert response.candidates > {"t1"}


def test_what_the_windows_of_a_long_query_find_is_ranked_as_the_product_tells_it(opened, catalogue, query, monkeypatch):
    peer = opened(None)
    peer.prepare(catalogue, silent)
    made = [
        Match(reference=SimpleNamespace(number=number), score=score, confidence=confidence, occurrences=())
        for number, score, confidence in zip(peer._ids, (40.0, 90.0, 60.0), (0.9, 0.8, 0.7))
    ]
    product = SimpleNamespace(matches=lambda encoding, exclude: made, enough=lambda match: match.confidence > 0.85)
    assert peer.comparison is not None
    monkeypatch.setattr(peer, "correlator", object())
    assert peer.comparison is None  # of what does not rank
    monkeypatch.setattr(peer, "_searcher", lambda: product)
    response = peer.ask(query)
    ranked = protocols.ranking(response, query, distractors=(), protocol=STRICT)
    assert [(found.score, found.confidence) for found in ranked] == [(40.0, 0.9), (90.0, 0.8), (60.0, 0.7)]
    assert response.answered


def test_the_recording_itself_and_tracks_of_another_benchmark_are_never_found(opened, catalogue, music):
    peer = opened(None)
    peer.prepare({name: catalogue[name] for name in ("t1", "t2", "t3")}, silent)  # t0 and t4 are stored, too
    response = peer.ask(Query(id="q", path=music["query"], aliases=frozenset({"t1"})))
    assert {found.reference for found in response.found} == {"t2", "t3"}
    assert response.candidates == {"t2", "t3"}


def test_under_strict_the_ranking_is_the_product_s_own(opened, catalogue, encoder, query):
    peer = opened(Graded())
    peer.prepare(catalogue, silent)
    response = peer.ask(query)
    everything = Searcher(encoder, peer._stored, Graded(), Ranking(minimum=0.0, top=99))(query.path)
    expected = [(m.reference.path.stem, pytest.approx(m.score), m.occurrences) for m in everything.matches]
    assert [(found.reference, found.score, found.occurrences) for found in response.found] == expected
    assert len(expected) > 1
    reported = Searcher(encoder, peer._stored, Graded())(query.path).matches
    assert response.answered == bool(reported)


@pytest.mark.parametrize(("score", "answered"), [(0.49, False), (0.51, True)])
def test_rejected_references_leave_the_strict_ranking_and_stay_candidates(opened, catalogue, query, score, answered):
    peer = opened(Constant(score))
    peer.prepare(catalogue, silent)
    response = peer.ask(query)
    assert bool(response.found) == response.answered == answered
    assert "t1" in response.candidates


def test_under_published_rejected_references_stay_with_0(opened, catalogue, query):
    peer = opened(Constant(0.5), protocol=PUBLISHED)  # 0.5 itself is rejected there, not under strict
    peer.prepare(catalogue, silent)
    response = peer.ask(query)
    assert {found.reference for found in response.found} == response.candidates
    assert {(found.score, found.occurrences) for found in response.found} == {(0.0, ())}
    assert not response.answered


def test_under_published_an_excerpt_counts_candidates_once_for_each_segment_that_returned_them(
    opened, catalogue, encoder, music
):
    peer = opened(Constant(0.75), protocol=PUBLISHED)
    peer.prepare(catalogue, silent)
    response = peer.ask(Query(id="q", path=music["query"], excerpt=3.0))
    segments = len(encoder.encode(music["query"]))
    assert sum(found.score for found in response.found) == pytest.approx(0.75 * 5 * segments)  # 5 candidates each


def test_a_silent_query_finds_nothing(opened, catalogue, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    for protocol in (STRICT, PUBLISHED):
        peer = opened(Constant(0.9), protocol=protocol)
        peer.prepare(catalogue, silent)
        response = peer.ask(Query(id="q", path=tmp_path / "silence.wav"))
        assert (response.found, response.candidates, response.answered) == ((), frozenset(), False)
        peer.close()


def test_a_query_can_be_compared_with_one_reference(opened, catalogue, query):
    score = opened(None).comparison(catalogue)
    assert score(query.path, "t1") > max(score(query.path, name) for name in ("t0", "t2", "t3", "t4"))


# Similarities


def test_a_reference_has_its_highest_similarity_however_many_candidates_it_has():
    scored = Scored(
        query_indices=np.array([0, 1, 2, 2, 3]),
        segment_ids=segment_id([7, 7, 8, 7, 5], [0, 4, 3, 0, 1]),
        scores=np.array([0.5, 0.75, 0.875, 0.25, 0.75], np.float32),
    )
    songs = similarity.songs(scored)
    assert list(songs.items()) == [(8, 0.875), (5, 0.75), (7, 0.75)]  # equal ones by track number


def test_the_operating_point_of_similarities_comes_from_the_catalogue(opened, catalogue, query):
    peer = opened(None)
    peer.prepare(catalogue, silent)
    response = peer.ask(query)
    best_wrong = [
        peer.ask(Query(id="q", path=path, aliases=frozenset({name}))).found[0].score for name, path in catalogue.items()
    ]
    assert peer.facts["operating_point"] == pytest.approx(
        max(best_wrong)
    )  # of 5 scores, 95 % do not exceed the highest
    assert response.answered == (response.found[0].score >= max(best_wrong))


def test_a_lone_track_gives_no_operating_point_and_nothing_is_reported(opened, catalogue, query):
    peer = opened(None)
    peer.prepare({"t1": catalogue["t1"]}, silent)
    response = peer.ask(query)
    assert peer.facts["operating_point"] is None
    assert response.found
    assert not response.answered


# Checkpoints


def test_checkpoints_of_the_user_are_a_peer(weights, encoder, classifier, catalogue, query, tmp_path):
    path = tmp_path / "reranker.safetensors"
    config = Reranker(classifier=classifier.config, encoder=encoder.digest)
    digest = checkpoint.save(path, config, classifier, provenance={})
    peer = registry.named(f"mine={weights}+{path}")(tmp_path / "store", protocol=STRICT, device="cpu")
    assert (peer.name, peer.about) == ("mine", "for tests, with reranker")
    assert (peer.facts["encoder"], peer.facts["reranker"]) == (encoder.digest, digest)
    alone = registry.named(f"mine={weights}")(tmp_path / "store")
    assert alone.facts["reranker"] is None
    assert alone.facts["digest"] != peer.facts["digest"]


def test_peers_of_one_encoder_share_what_is_stored(weights, home, catalogue):
    told = []
    peer = neural.load(home, name="another", encoder=weights, reranker=None)
    peer.prepare(catalogue, lambda *step: told.append(step))
    peer.close()
    assert told == []


def test_a_reranker_of_another_encoder_is_refused(weights, classifier, tmp_path):
    path = tmp_path / "reranker.safetensors"
    checkpoint.save(path, Reranker(classifier=classifier.config, encoder="f" * 64), classifier, provenance={})
    with pytest.raises(checkpoint.CheckpointError, match="made for encoder ffffffffffff"):
        registry.named(f"mine={weights}+{path}")(tmp_path)

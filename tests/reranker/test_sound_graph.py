"""Ranking sounds: one graph over query and candidates, by the distance of raw embeddings."""

import numpy as np
import pytest
import soundfile
import torch

from encoder import checkpoint
from encoder.adaptive_graph import AdaptiveGraph
from encoder.encode import Encoder
from encoder.encoding import Encoding
from encoder.systems import AN_GNN
from reranker.sound_graph import SoundGraphRanker
from store.candidates import Candidates
from store.catalogue import Track
from store.identity import Identity
from store.memory import MemoryReferences
from store.segment_ids import segment_id, track_of

RATE = 16_000


def network(variant="linear", channels=2):
    torch.manual_seed(0)
    made = AdaptiveGraph(variant=variant).build(bins=channels, frames=1).eval()
    if variant == "linear":
        torch.nn.init.eye_(made.layers.layers.weight)
    return made


def encoding(*nodes, indices=None):
    nodes = np.array(nodes, np.float16)[:, None]
    rows = np.arange(len(nodes)) if indices is None else np.array(indices)
    return Encoding(
        segment_indices=rows,
        fingerprints=nodes[:, 0].astype(np.float32),
        node_matrices=nodes,
        hop=1.0,
        segment_duration=1.0,
    )


class Kept:
    """Nodes by segment id; every track lasts 1.5 s."""

    def __init__(self, nodes):
        self.nodes = nodes

    def node_matrices(self, ids):
        return np.stack([np.array(self.nodes[int(i)], np.float16)[None] for i in ids])

    def tracks(self, numbers):
        facts = {name: None for name in Track.__dataclass_fields__}
        return {number: Track(**facts | {"number": number, "duration": 1.5}) for number in numbers}


def candidates(ids, rows=None):
    rows = np.zeros(len(ids), np.int64) if rows is None else np.array(rows)
    return Candidates(query_rows=rows, segment_ids=np.array(ids), similarities=np.ones(len(ids), np.float32))


def test_references_are_ranked_by_the_distance_of_raw_embeddings():
    """From (1, 0): track 2 at distance 0.5, though track 1, at 2, points the same way and has the better cosine."""
    ids = [int(segment_id(number, 0)) for number in (1, 2)]
    kept = Kept({ids[0]: (3.0, 0.0), ids[1]: (1.0, 0.5)})
    found = SoundGraphRanker(network())(encoding((1.0, 0.0)), candidates(ids), kept)
    assert [match.reference.number for match in found] == [2, 1]
    np.testing.assert_allclose([match.score for match in found], [-0.5, -2.0], atol=1e-3)


def test_of_a_long_reference_the_nearest_segment_counts_and_says_where():
    ids = [int(segment_id(3, index)) for index in (0, 1)]
    kept = Kept({ids[0]: (9.0, 0.0), ids[1]: (1.0, 0.25)})
    (match,) = SoundGraphRanker(network())(encoding((1.0, 0.0)), candidates(ids), kept)
    assert match.score == pytest.approx(-0.25, abs=1e-3)
    assert match.occurrences[0].reference_span == (1.0, 1.5)  # a track ends where it ends


def test_asked_about_is_the_first_segment_that_is_heard():
    """The query's first second is silent; candidates of its later segments do not count."""
    ids = [int(segment_id(number, 0)) for number in (1, 2)]
    kept = Kept({ids[0]: (5.0, 0.0), ids[1]: (0.0, 5.0)})
    asked = encoding((1.0, 0.0), (0.0, 5.0), indices=(1, 2))
    (match,) = SoundGraphRanker(network())(asked, candidates(ids, rows=(0, 1)), kept)
    assert match.reference.number == 1
    assert match.occurrences[0].query_span == (1.0, 2.0)


def test_a_silent_query_finds_nothing():
    silent = encoding((1.0, 0.0))
    none = candidates([], rows=np.zeros(0, np.int64))
    assert SoundGraphRanker(network())(silent, none, Kept({})) == ()


@pytest.mark.parametrize("variant", ["published", "weighted", "knn"])
def test_the_graph_is_over_query_and_candidates_together(variant):
    """Distances are those of the network on all of them at once, which a stranger among the candidates changes."""
    made = network(variant, channels=8)
    nodes = np.random.default_rng(0).standard_normal((6, 1, 8)).astype(np.float16)
    ranker = SoundGraphRanker(made)
    with torch.inference_mode():
        together = made.embed(torch.from_numpy(nodes[:, 0].astype(np.float32))).numpy()
    np.testing.assert_allclose(
        ranker.distances(nodes[0], nodes[1:]), np.linalg.norm(together[1:] - together[0], axis=1), rtol=1e-5
    )
    assert np.abs(ranker.distances(nodes[0], nodes[1:4]) - ranker.distances(nodes[0], nodes[1:])[:3]).max() > 1e-3


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="network is a Linear, expected one of an-gnn"):
        SoundGraphRanker(torch.nn.Linear(2, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hits (noise) and notes (tones) of 0.15 s and 0.6 s, three of each."""
    folder, rng = tmp_path_factory.mktemp("one-shots"), np.random.default_rng(0)
    for number in range(3):
        time = np.arange(round(0.6 * RATE)) / RATE
        note = np.sin(2 * np.pi * (300 + 40 * number) * time) * np.exp(-4 * time)
        hit = rng.standard_normal(round(0.15 * RATE)) * np.exp(-30 * time[: round(0.15 * RATE)])
        soundfile.write(folder / f"note{number}.wav", 0.4 * note, RATE)
        soundfile.write(folder / f"hit{number}.wav", 0.2 * hit, RATE)
    return folder


def test_a_hit_finds_the_hits_of_a_folder(folder, tmp_path):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "an-gnn.safetensors", AN_GNN, AN_GNN.build(), provenance={})
    encoder = Encoder(tmp_path / "an-gnn.safetensors")
    with MemoryReferences(Identity(**encoder.shapes)) as references:
        planned = references.plan(sorted(folder.glob("*.wav")))
        for pending in planned.pending:
            assert references.claim(pending)
            references.add(pending, encoder.blocks(pending.path), duration=0.3, title=pending.path.stem)
        query = encoder.encode(folder / "hit1.wav")
        near = references.candidates(query.fingerprints, limit=6)
        found = SoundGraphRanker(encoder.network)(query, near, references)
    assert found[0].reference.title == "hit1"
    assert found[0].score == pytest.approx(0.0, abs=1e-4)
    assert {match.reference.title for match in found[:3]} == {"hit0", "hit1", "hit2"}
    assert len(found) == 6
    assert set(track_of(near.segment_ids)) == {match.reference.number for match in found}

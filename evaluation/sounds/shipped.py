"""Trained encoders on sounds that they were not trained on: one graph over the folder, each sound asks for the others.

The rows of a study (evaluation/sounds/study.py) without folds: the standardised features, and each encoder as it is and
with the random weights of its seed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoder import initial
from encoder.adaptive_graph import SoundNetwork
from encoder.encode import Encoder
from evaluation.sounds import precision
from evaluation.sounds.material import Gathered
from evaluation.sounds.study import EUCLID, UNTRAINED, Measured, Row


def rows(gathered: Gathered, encoders: Sequence[Encoder]) -> dict[str, Row]:
    """Rows by name; ValueError where an encoder is of other features than the first, or not one of sounds."""
    found = {}
    for encoder in encoders:
        if encoder.system.front_end != encoders[0].system.front_end or not isinstance(encoder.network, SoundNetwork):
            raise ValueError(f"{encoder.system.name}: has other features than the first encoder; measure them apart")
        name = f"{encoder.system.name} {encoder.digest[:8]}"
        nodes = encoder.network.standardised(torch.from_numpy(gathered.features))
        if not found:
            found[EUCLID] = _row(EUCLID, nodes.numpy(), gathered)
        random = initial.network(encoder.system)
        for label, network in ((f"{name}, {UNTRAINED}", random), (name, encoder.network)):
            with torch.inference_mode():
                found[label] = _row(label, network.embed(nodes).numpy(), gathered)
    return found


def _row(name: str, embeddings: NDArray[np.float32], gathered: Gathered) -> Row:
    sounds = gathered.sounds
    given = (embeddings, sounds.labels, sounds.techniques)
    measured = Measured(*(precision.strict(*given, pruned=pruned) for pruned in (True, False)))
    return Row(name=name, folds=(measured,), techniques=sounds.techniques)

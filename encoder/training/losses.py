"""NT-Xent, the contrastive loss (SimCLR; NeuralSampleID, equation 1), and the same gradients in less memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(
    references: Tensor,
    queries: Tensor,
    tracks: Tensor,
    *,
    temperature: float,
    moments: Tensor | None = None,
    covers: Tensor | None = None,
) -> Tensor:
    """Mean over both directions of -log softmax of the positive's similarity over temperature.

    Both sides are (pairs, dimensions), L2-normalised. Two views that may show the same are neither positives nor
    negatives of each other: those of one track (equal numbers in `tracks`; it may repeat a loop) unless their `moments`
    (pairs,) are known to differ, and a query view and any view of a track that lies over it (`covers`, (pairs,
    interferers), negative numbers for none).
    """
    n = len(references)
    z = torch.cat([references, queries]).float()
    similarities = z @ z.T / temperature
    positive = torch.arange(2 * n, device=z.device).roll(n)
    ignored = _alike(tracks, moments, covers)
    ignored[torch.arange(2 * n, device=z.device), positive] = False
    return F.cross_entropy(similarities.masked_fill(ignored, -torch.inf), positive)


def _alike(tracks: Tensor, moments: Tensor | None, covers: Tensor | None) -> Tensor:
    """Which views, references then queries, may show the same, (2 pairs, 2 pairs)."""
    owner = tracks.repeat(2)
    alike = owner.unsqueeze(1) == owner
    if moments is not None:
        alike &= moments.repeat(2).unsqueeze(1) == moments.repeat(2)
    if covers is None:
        return alike
    over = torch.cat([torch.full_like(covers, -1), covers])  # nothing lies over a reference view
    for track in over.T:
        shown = track.unsqueeze(1) == torch.cat([owner.unsqueeze(1), over], 1).T.unsqueeze(1)  # (columns, views, views)
        covered = shown.any(0) & (track >= 0).unsqueeze(1)
        alike |= covered | covered.T
    return alike


def cached_backward(
    network: Callable[[Tensor], Tensor], portions: Sequence[Tensor], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Accumulate the gradient of `loss` over all portions at once while only one is in memory (Gao et al., GradCache).

    `network` maps a portion to its fingerprints, `loss` all fingerprints, in order, to a scalar. Each portion is run
    twice under the same random state, so that stochastic depth drops the same paths.
    """
    if len(portions) == 1:
        value = loss(network(portions[0]))
        value.backward()
        return value.detach()
    with torch.no_grad(), torch.random.fork_rng():
        states, outputs = [], []
        for portion in portions:
            states.append((torch.get_rng_state(), torch.cuda.get_rng_state_all()))
            outputs.append(network(portion))
    leaves = torch.cat(outputs).requires_grad_()
    value = loss(leaves)
    value.backward()
    gradients = leaves.grad.split([len(o) for o in outputs])
    for portion, state, gradient in zip(portions, states, gradients, strict=True):
        torch.set_rng_state(state[0])
        torch.cuda.set_rng_state_all(state[1])
        network(portion).backward(gradient)
    return value.detach()


def backward_side_by_side(
    network: Callable[[Tensor], Tensor], portions: Sequence[Tensor], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """The same gradients with each portion in a thread of its own; all are in memory at once, and run once.

    The threads share one random state: what is drawn for a portion depends on which comes first.
    """
    with ThreadPoolExecutor(len(portions)) as pool:
        outputs = list(pool.map(network, portions))
        leaves = torch.cat([output.detach() for output in outputs]).requires_grad_()
        value = loss(leaves)
        value.backward()
        gradients = leaves.grad.split([len(o) for o in outputs])
        list(pool.map(lambda output, gradient: output.backward(gradient), outputs, gradients))
    return value.detach()

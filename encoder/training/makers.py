"""Makers: the pairs of a system, made as its recipe says, of a stem cache read at its sample rate."""

from encoder.systems import System
from encoder.training.noise import NoisePairMaker
from encoder.training.pairing import NoisePairing, Pairing
from encoder.training.pairs import PairMaker
from encoder.training.resampled import at_rate
from encoder.training.stem_cache import StemCache

_BY_KIND = {Pairing: PairMaker, NoisePairing: NoisePairMaker}


def pairs_of(cache: StemCache, system: System, *, split: str, seed: int, pairing: Pairing | None = None) -> PairMaker:
    """Pairs of one split; `pairing` in place of the system's own. ValueError where the split has too few tracks."""
    made = pairing or system.pairing
    held = at_rate(cache, system.grid.sample_rate)
    return _BY_KIND[type(made)](held, made, system.grid, system.front_end.n_fft, split=split, seed=seed)

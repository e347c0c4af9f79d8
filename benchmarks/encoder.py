"""Encoder speed: segments per CPU-second on one thread, side by side in one run.

    python -m benchmarks.encoder

The limit is what the network's multiply-adds would cost at the speed this machine multiplies large matrices.
"""

import time
from dataclasses import replace

import pandas
import torch
from torch.utils.flop_counter import FlopCounterMode

from encoder import allocator
from encoder.gnn import GraphNetwork
from encoder.systems import ASID, NEURALSAMPLEID, PUBLISHED, System

BATCH, ROUNDS = 64, 5


def main() -> None:
    torch.set_num_threads(1)
    before = rate(ASID)
    allocator.keep_memory()
    peak = matrix_speed()
    systems = {
        "asid, dense graph": ASID,
        "asid, dgl graph": replace(ASID, network=replace(ASID.network, backend="dgl")),
        "asid, no graph blocks": replace(ASID, network=without_blocks(ASID.network)),
        "neuralsampleid, dense graph": NEURALSAMPLEID,
        "published, blocks bypassed": PUBLISHED,
        "published, blocks active": replace(PUBLISHED, network=replace(PUBLISHED.network, graph_blocks="active")),
    }
    rows = [row(name, system, peak) for name, system in systems.items()]
    table = pandas.DataFrame(rows).set_index("network")
    table["ratio to asid"] = table["segments / CPU-s"] / table["segments / CPU-s"].iloc[0]
    print(f"one thread, batch {BATCH}, torch {torch.__version__}, large matrices {peak / 1e9:.0f} GFLOP/s")
    print(table.round({"segments / CPU-s": 0, "limit": 0, "share of limit": 2, "ratio to asid": 2}).to_string())
    print(f"asid before the allocator keeps memory: {before:.0f} segments / CPU-s")


def row(name: str, system: System, peak: float) -> dict[str, float | str]:
    """One line of the table."""
    found, limit = rate(system), peak / operations(system)
    return {"network": name, "segments / CPU-s": found, "limit": limit, "share of limit": found / limit}


@torch.inference_mode()
def rate(system: System) -> float:
    """Segments per CPU-second from spectra to fingerprints, the best of a few rounds."""
    network = system.build().eval()
    spectra = torch.randn(BATCH, system.rows, system.grid.frames)
    network(spectra)
    return BATCH / min(cpu_seconds(lambda: network(spectra)) for _ in range(ROUNDS))


@torch.inference_mode()
def operations(system: System) -> float:
    """Floating point operations per segment in convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with counter:
        system.build().eval()(torch.randn(2, system.rows, system.grid.frames))
    return counter.get_total_flops() / 2


def matrix_speed(size: int = 1536) -> float:
    """Floating point operations per CPU-second of a large matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    return 2 * size**3 / min(cpu_seconds(lambda: a @ b) for _ in range(ROUNDS))


def without_blocks(network: GraphNetwork) -> GraphNetwork:
    """The same convolutions without graph blocks: what the blocks cost."""
    return replace(network, stages=tuple(replace(stage, blocks=0) for stage in network.stages))


def cpu_seconds(call) -> float:
    """CPU time of one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()

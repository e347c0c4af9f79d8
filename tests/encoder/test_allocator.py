"""The allocator's settings: taken where the C library knows them, harmless elsewhere."""

import subprocess
import sys

import pytest

from encoder import allocator


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of the C library of Linux")
def test_large_blocks_are_kept_for_the_next_one():
    # In a process of its own, since it holds for life: after 100 MB were given back, the next 100 MB are no new pages.
    script = """if True:
        import resource
        import numpy as np
        from encoder import allocator
        faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        print(allocator.keep_memory())
        np.ones(100_000_000, np.uint8)
        before = faults()
        np.ones(100_000_000, np.uint8)
        print(faults() - before)
    """
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    told, faults = shown.stdout.split()
    if told == "False":
        pytest.skip("this C library has no mallopt")
    assert int(faults) < 1000  # anew, 100 MB are 24414 pages


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_memory() is False

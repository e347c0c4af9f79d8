"""Allocator: keep the memory of large tensors instead of giving it back to the system after every operation.

On Linux the C library maps each large block anew and the kernel clears every page of it; on the CPU this costs up to
two thirds of the time of training and of feature extraction. Measured by `python -m benchmarks.encoder`.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt(3)


def keep_memory() -> bool:
    """Tell the C library to reuse large blocks, for the life of the process; False where it cannot be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 2**28)])

"""Loads torchaudio beside a torch without CUDA.

The torchaudio wheel is linked to CUDA libraries, so with a CPU build of torch its import fails on
``libc10_cuda.so``. torchaudio has a mode of its own for installations without compiled parts, in which everything
needed here works (mel spectrogram, resampling, phase vocoder): it asks ``torchaudio._extension`` what is there. Where
torch has no CUDA, a stand-in for that one module answers "nothing" before torchaudio is imported for the first time.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import torch

_EXTENSION = "torchaudio._extension"


def load() -> ModuleType:
    """torchaudio, importable with CPU and CUDA builds of torch alike; call it in place of ``import torchaudio``."""
    if "torchaudio" not in sys.modules and torch.version.cuda is None:
        sys.modules.setdefault(_EXTENSION, _without_compiled_parts())
    return importlib.import_module("torchaudio")


def _without_compiled_parts() -> ModuleType:
    extension = ModuleType(_EXTENSION, "Stand-in: no compiled parts of torchaudio are available.")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    extension._load_lib = lambda name: False
    extension._check_cuda_version = lambda: None
    extension.fail_if_no_align = _refuse_alignment
    return extension


def _refuse_alignment(function: Callable) -> Callable:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled parts, which a CPU build of torch lacks")

    return refuse

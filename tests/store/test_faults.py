"""What goes wrong around a store: killed writers, second processes, dead servers, full disks, other encoders."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from store.fingerprints import IndexIncomplete, IndexUnavailable
from store.identity import IndexMismatch
from store.segment_ids import segment_id

ROOT = Path(__file__).parents[2]

CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/store")
import conftest
from store.references import References

directory, step, victim = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
encode = conftest.encode.__wrapped__() if hasattr(conftest.encode, "__wrapped__") else conftest.encode()
"""


def run_python(code: str, *arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, **options)

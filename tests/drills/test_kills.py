"""kill -9 at the boundaries between two steps of an ingestion: nothing acknowledged is lost, nothing is there twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRILL = Path(__file__).with_name("kills.py")
ALL = bool(os.environ.get("ASID_DRILLS"))  # all boundaries, a minute of one core; every third otherwise


def test_a_writer_may_be_killed_at_every_boundary_between_two_steps(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR"}
    command = [sys.executable, DRILL, tmp_path, *([] if ALL else ["--every", "3"])]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, run.stderr[-3000:]
    assert len(results) >= (50 if ALL else 18)
    wrong = [one for one in results if not one["killed"] or one["lost"] or one["twice"] or not one["completed"]]
    assert wrong == []
    assert sum(one["acknowledged"] for one in results) >= len(results)  # there was something to lose

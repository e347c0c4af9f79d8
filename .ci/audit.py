"""Known vulnerabilities of the pinned packages, asked of pip-audit's service package by package.

    python .ci/audit.py constraints.txt        # exit 1 where there is one that .ci/advisories.txt does not accept

`advisories.txt` holds a line per accepted advisory: its id, a blank, and why it does not reach us. Where the service
does not answer (a closed network, a mirror without advisories) the audit says that it was skipped, never "clean", and
exits 0; with ASID_AUDIT_REQUIRED=1 it exits 1. pip-audit itself calls packages it could not ask about no vulnerability.
"""

# ruff: noqa: T201

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ACCEPTED = Path(__file__).parent / "advisories.txt"
LIMIT = 900  # seconds


def main(constraints: Path) -> int:
    """Print what was found; the exit status."""
    pins = [line.split("#")[0].split(";")[0].strip() for line in constraints.read_text().splitlines()]
    pins = [pin for pin in pins if "==" in pin]
    probe = asked(pins[:1])
    if not probe or "skip_reason" in probe[0]:
        print(f"audit skipped: the advisory service does not answer here; {len(pins)} packages not asked about")
        return int(os.environ.get("ASID_AUDIT_REQUIRED") == "1")
    found = asked(pins)
    skipped = [one["name"] for one in found if "skip_reason" in one]
    accepted = dict(line.split(" ", 1) for line in ACCEPTED.read_text().splitlines() if " " in line)
    wrong = [(one, advisory) for one in found for advisory in one.get("vulns", ())]
    open_ = [(one, advisory) for one, advisory in wrong if not {advisory["id"], *advisory["aliases"]} & set(accepted)]
    for one, advisory in open_:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(f"{one['name']} {one['version']}: {advisory['id']}, mended in {fixed}")
    print(
        f"{len(found) - len(skipped)} of {len(pins)} packages asked about, {len(open_)} advisories, "
        f"{len(wrong) - len(open_)} accepted in advisories.txt; not known there: {', '.join(skipped) or 'none'}"
    )
    return int(bool(open_) or len(found) < len(pins))


def asked(pins: list[str]) -> list[dict]:
    """What pip-audit says of each; empty where it could not ask."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "--no-deps", "--disable-pip", "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return []


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

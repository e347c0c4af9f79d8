"""The audit of dependencies never says "clean" of what it could not ask about."""

import importlib.util
from pathlib import Path

import pytest

PINS = ["alpha==1.0", "beta==2.0"]
CLEAN = [{"name": "alpha", "version": "1.0", "vulns": []}, {"name": "beta", "version": "2.0", "vulns": []}]
BROKEN = [
    CLEAN[0],
    {"name": "beta", "version": "2.0", "vulns": [{"id": "X-1", "aliases": ["Y-1"], "fix_versions": []}]},
]


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """``audit(answers, accepted="")``: exit status where the service answers that."""
    file = Path(__file__).parents[1] / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "constraints.txt").write_text("# comment\n" + "\n".join(PINS) + "\n")

    def audit(answers, accepted=""):
        (tmp_path / "advisories.txt").write_text(accepted)
        monkeypatch.setattr(module, "ACCEPTED", tmp_path / "advisories.txt")
        monkeypatch.setattr(module, "asked", lambda pins: answers[: len(pins)])
        return module.main(tmp_path / "constraints.txt")

    return audit


def test_an_advisory_fails_the_audit_unless_it_is_accepted_by_name(audit, capsys):
    assert audit(CLEAN) == 0
    assert audit(BROKEN) == 1
    assert "beta 2.0: X-1, mended in no version" in capsys.readouterr().out
    assert audit(BROKEN, accepted="Y-1 not reached: only called at build time\n") == 0
    assert audit(BROKEN, accepted="Z-1 another\n") == 1


@pytest.mark.parametrize("answers", [[], [{"name": "alpha", "skip_reason": "not found"}]])
def test_where_the_service_does_not_answer_that_is_said_and_fails_only_on_demand(audit, capsys, monkeypatch, answers):
    assert audit(answers) == 0
    assert "audit skipped: the advisory service does not answer here; 2 packages not asked about" in (
        capsys.readouterr().out
    )
    monkeypatch.setenv("ASID_AUDIT_REQUIRED", "1")
    assert audit(answers) == 1


def test_an_answer_about_fewer_packages_than_asked_is_no_clean_audit(audit):
    assert audit(CLEAN[:1]) == 1

"""The audit of the pinned packages: what fails it, and what it says when nobody can be asked."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AUDIT = runpy.run_path(str(ROOT / ".ci/audit.py"))

CLEAN = {"name": "aiohttp", "version": "3.14.0", "vulns": []}
UNKNOWN = {"name": "mine", "skip_reason": "Dependency not found on PyPI"}
_KNOWN = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.7.3"], "description": ""}
HOLE = {"name": "jinja2", "version": "2.4", "vulns": [_KNOWN]}
AWAY = (1, "", "Traceback\nrequests.exceptions.ConnectionError: Max retries exceeded")


def answer(*dependencies: dict[str, Any]) -> tuple[int, str, str]:
    return 0, json.dumps({"dependencies": dependencies, "fixes": []}), "No known vulnerabilities found"


def audited(*answers: tuple[int, str, str], must_answer: bool = False) -> tuple[int, str]:
    """Exit status and words, when the services answer so, one after the other."""
    said: list[str] = []
    waiting = list(answers)
    status = AUDIT["audit"]("constraints.txt", must_answer, said.append, lambda *_: waiting.pop(0))
    assert not waiting, "not every service was asked"
    return status, "\n".join(said)


def test_what_is_not_known_to_be_vulnerable_passes() -> None:
    status, said = audited(answer(CLEAN, CLEAN))
    assert (status, said) == (0, "audit: 2 packages of constraints.txt have no known vulnerability (osv)")


def test_a_known_vulnerability_fails_with_its_name_and_its_cure() -> None:
    for answers in ((answer(CLEAN, HOLE),), (AWAY, answer(CLEAN, HOLE))):
        status, said = audited(*answers)
        assert status == 1
        assert "audit: VULNERABLE: jinja2 2.4: PYSEC-1, CVE-1; mended in 2.7.3" in said


def test_a_package_that_a_working_service_does_not_know_fails() -> None:
    status, said = audited(answer(CLEAN, UNKNOWN))
    assert status == 1
    assert "NOT LOOKED UP: mine: Dependency not found" in said


@pytest.mark.parametrize("second", [AWAY, answer(UNKNOWN, UNKNOWN)], ids=["away", "a mirror without the database"])
def test_when_nobody_can_be_asked_that_is_said_and_fails_only_on_request(second: tuple[int, str, str]) -> None:
    status, said = audited(AWAY, second)
    assert status == 0
    assert "constraints.txt was NOT AUDITED" in said
    assert audited(AWAY, second, must_answer=True)[0] == 2


@pytest.mark.parametrize("broken", [(2, "", "error: unrecognized arguments"), (0, "{}", ""), answer()], ids=["usage", "shape", "empty"])
def test_a_tool_that_does_not_work_is_no_clean_bill(broken: tuple[int, str, str]) -> None:
    status, said = audited(broken)
    assert status == 2
    assert "pip-audit does not work" in said

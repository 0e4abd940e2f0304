"""The lock files: complete, of one mind, and without the name of any server."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEV = [line for extra in ("dev", "embedded") for line in PROJECT["optional-dependencies"][extra] if not line.startswith("campaignwatch")]


def read_lock(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """`name version ; marker` -> version and hashes."""
    locked = {}
    for block in re.split(r"\n(?=\S)", (ROOT / name).read_text("utf-8").strip()):
        first, *hashes = [line.strip(" \\") for line in block.splitlines()]
        requirement = Requirement(first)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        locked[first] = (specifier.version, frozenset(hashes))
    return locked


@pytest.mark.parametrize(
    ("name", "wanted"), [("constraints.txt", PROJECT["dependencies"] + DEV), ("requirements.txt", PROJECT["dependencies"])]
)
def test_every_dependency_is_locked_to_versions_that_the_project_allows(name: str, wanted: list[str]) -> None:
    versions: dict[str, list[str]] = {}
    for first, (version, _) in read_lock(name).items():
        versions.setdefault(canonicalize_name(Requirement(first).name), []).append(version)
    for line in wanted:
        requirement = Requirement(line)
        found = versions.get(canonicalize_name(requirement.name))
        assert found, f"{line} is not in {name}; run make lock"
        assert all(version in requirement.specifier for version in found), f"{name} has {found} for {line}; run make lock"


def test_production_installs_what_was_tested() -> None:
    everything = read_lock("constraints.txt")
    for first, locked in read_lock("requirements.txt").items():
        assert everything.get(first) == locked, f"{first}: run make lock"


@pytest.mark.parametrize("name", ["constraints.txt", "requirements.txt"])
def test_every_package_has_hashes_and_no_server_is_named(name: str) -> None:
    for first, (_, hashes) in read_lock(name).items():
        assert hashes, first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), first
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_every_dependency_has_its_reason_in_the_decisions() -> None:
    reasons = (ROOT / "docs" / "decisions.md").read_text("utf-8")
    missing = [line for line in PROJECT["dependencies"] + DEV if Requirement(line).name not in reasons]
    assert missing == []

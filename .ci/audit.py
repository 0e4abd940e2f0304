"""Looks up every pinned package among the known vulnerabilities: `python .ci/audit.py constraints.txt`.

Exit status: 0 nothing is known, or no service could be asked (a line says so; with --must-answer it is 2); 1 a package has a known
vulnerability, or a service that does answer does not know one; 2 pip-audit itself does not work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Asked in this order until one answers: OSV takes its advisories from several databases, PyPI's own from one.
SERVICES = ("osv", "pypi")
#: What pip-audit writes, among other things, when a service cannot be reached.
_UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Max retries exceeded", "Could not connect", "ServiceError")


@dataclass(frozen=True, slots=True)
class Report:
    """What one service says of the packages of one file. `unreachable`: why it says nothing."""

    packages: int = 0
    vulnerable: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unreachable: str = ""
    broken: str = ""


Ask = Callable[[str, str], tuple[int, str, str]]


def ask(service: str, file: str) -> tuple[int, str, str]:
    """Run pip-audit on a lock file, which has every package and hash, so that nothing is resolved or installed."""
    words = [sys.executable, "-m", "pip_audit", "--requirement", file, "--disable-pip", "--require-hashes"]
    words += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout, done.stderr


def read(status: int, output: str, errors: str) -> Report:
    """The report in pip-audit's output."""
    last = (errors.strip().splitlines() or [f"status {status}, no output"])[-1][:160]
    try:
        dependencies: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if any(word in errors for word in _UNREACHABLE):
            return Report(unreachable=last)
        return Report(broken=last)
    vulnerable = [line for dependency in dependencies for line in _lines(dependency)]
    unknown = [f"{d['name']}: {d['skip_reason']}" for d in dependencies if "skip_reason" in d]
    if not dependencies:
        return Report(broken="no packages in the file")
    if len(unknown) == len(dependencies):
        # A mirror of the index without its database answers so for every package.
        return Report(unreachable="knows none of the packages")
    return Report(len(dependencies), vulnerable, unknown)


def _lines(dependency: dict[str, Any]) -> Iterator[str]:
    for found in dependency.get("vulns", ()):
        names = ", ".join([found["id"], *found.get("aliases", ())])
        mended = f"mended in {', '.join(found['fix_versions'])}" if found.get("fix_versions") else "no version mends it yet"
        yield f"{dependency['name']} {dependency['version']}: {names}; {mended}"


def audit(file: str, must_answer: bool, say: Callable[[str], object], ask: Ask = ask) -> int:
    """Audit one lock file; the exit status."""
    silent = []
    for service in SERVICES:
        report = read(*ask(service, file))
        if report.broken:
            say(f"audit: pip-audit does not work on {file} with {service}: {report.broken}")
            return 2
        if report.unreachable:
            silent.append(f"{service}: {report.unreachable}")
            continue
        for line in report.vulnerable:
            say(f"audit: VULNERABLE: {line}")
        for line in report.unknown:
            say(f"audit: NOT LOOKED UP: {line}")
        if report.vulnerable or report.unknown:
            found = f"{len(report.vulnerable)} known vulnerabilities"
            say(f"audit: {file} has {found} ({service}); make lock ARGS=--upgrade takes newer versions")
            return 1
        say(f"audit: {report.packages} packages of {file} have no known vulnerability ({service})")
        return 0
    say(f"audit: {file} was NOT AUDITED, no database of vulnerabilities can be reached from here ({'; '.join(silent)})")
    return 2 if must_answer else 0


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look up pinned packages among the known vulnerabilities.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a lock file with hashes, such as constraints.txt")
    parser.add_argument("--must-answer", action="store_true", help="fail when no service can be asked (before a release)")
    given = parser.parse_args(words)
    return max(audit(file, given.must_answer, lambda line: sys.stdout.write(f"{line}\n")) for file in given.files)


if __name__ == "__main__":
    sys.exit(main())

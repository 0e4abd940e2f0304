"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from alerts.cli import COMMANDS, Entry
from streams.errors import UserError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "alerts.cli", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for entry in COMMANDS:
        assert entry.words.split()[0] in shown.stdout

    heavy = "import sys, runpy\nsys.argv = ['campaignwatch', '--help']\n"
    heavy += "try: runpy.run_module('alerts.cli', run_name='__main__')\nexcept SystemExit: pass\n"
    heavy += "print(sorted({'numpy', 'polars', 'faust', 'aiokafka', 'redis', 'scipy', 'aiohttp'} & set(sys.modules)), file=sys.stderr)"
    imported = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=False, timeout=60)
    assert imported.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.words.replace(" ", "-"))
def test_every_command_exists_and_the_list_says_what_it_says_itself(entry: Entry) -> None:
    module, _, name = entry.target.partition(":")
    function = getattr(importlib.import_module(module), name)
    text = " ".join((inspect.getdoc(function) or "").split())
    assert text.startswith(entry.summary), f"{entry.words}: the list says {entry.summary!r}, the command {text[:80]!r}"

    shown = run(*entry.words.split(), "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"campaignwatch {entry.words}" in shown.stdout


def test_version() -> None:
    assert run("--version").stdout == "campaignwatch 0.1.0\n"


def test_an_unknown_command_is_a_usage_error_with_a_suggestion() -> None:
    refused = run("topics", "crate")
    assert refused.returncode == 2
    assert "Did you mean 'create'?" in refused.stderr


def test_a_wrong_configuration_is_one_message_and_status_2(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("kafka: {partitions: none}")

    refused = run("topics", "create", "--config", str(config))

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"campaignwatch: {config}")
    assert "kafka.partitions: Input should be a valid integer" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_error_for_the_operator_is_caught_at_the_top() -> None:
    from streams.config import ConfigError
    from streams.embedded import EmbeddedError
    from streams.preflight import PreflightError
    from streams.topics import TopicsError

    for error in (ConfigError, EmbeddedError, PreflightError, TopicsError):
        assert issubclass(error, UserError)

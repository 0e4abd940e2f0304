"""Campaignwatch's own processes as an operator starts them, with a settings file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from streams.config import Settings
from tests.integration.forks import Forked

Process = subprocess.Popen[bytes] | Forked

#: Everything that a test sets and a process must know; secrets are not among it.
_SECTIONS = ("kafka", "redis", "streams", "money", "alerts")


def settings_file(directory: Path, settings: Settings) -> Path:
    """The settings as a file for `--config`."""
    content: dict[str, Any] = {name: getattr(settings, name).model_dump(mode="json") for name in _SECTIONS}
    path = directory / "campaignwatch.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def command(config: Path, *words: str | Path) -> list[str]:
    """The words of a command line, for a Python of its own."""
    return [sys.executable, "-m", "alerts.cli", *_with_config(config, *words)]


def _with_config(config: Path, *words: str | Path) -> list[str]:
    return [*map(str, words), "--config", str(config)]


def run(config: Path, *words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; status and output are for the test to look at."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory) / "output", Path(directory) / "errors"
        process = Forked(_with_config(config, *words), output=output, errors=errors)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, status, *(said.read_text("utf-8") for said in (output, errors)))


@contextmanager
def running(config: Path, log: Path, *words: str | Path, cwd: Path | None = None) -> Iterator[Process]:
    """A command that goes on while the test does, its output in `log`; ended at the end, by force if it must be."""
    process = Forked(_with_config(config, *words), output=log, cwd=cwd)
    with _ended_at_the_end(process):
        yield process


@contextmanager
def started(
    words: list[str], log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Any process in the same way; `env` replaces the environment."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=env, stdout=output, stderr=subprocess.STDOUT, cwd=cwd)
        with _ended_at_the_end(process):
            yield process


@contextmanager
def _ended_at_the_end(process: Process) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

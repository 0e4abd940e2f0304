"""Campaignwatch's command line in processes that are forked from one which has loaded its libraries already.

A worker takes seconds of processor time to load Faust and what is compiled; the suite starts some hundred. What runs is the same
`alerts.cli.main`, in a process of its own that can be stopped, killed and waited for. How a process starts by itself is for the tests of
the command line, of stopping, of the demo and of the chaos, which start Python anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.integration.preloaded"])


class Forked:
    """`campaignwatch WORDS` with the part of `subprocess.Popen` that tests use. Output and errors go to files, or both to one."""

    def __init__(self, words: Sequence[str], *, output: Path, errors: Path | None = None, cwd: Path | None = None) -> None:
        self.args = list(words)
        output.touch()
        self._process: ForkServerProcess = _context.Process(
            target=_run, args=(self.args, str(output), str(errors or ""), str(cwd or ""), dict(os.environ))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its status, -N if a signal ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its status once it has ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """To a process that has ended: nothing."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], output: str, errors: str, cwd: str, environment: Mapping[str, str]) -> None:
    """In the new process: what a shell would have set up, then the command line."""
    to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if errors else to, 2)
    if cwd:
        os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["campaignwatch", *words]
    from alerts.cli import main

    main()

"""The product's processes, with a supervisor as every installation has one: what ended or says that it is ill is started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent.parent
_PAGES = re.compile(r"pages on (http://[0-9.]+:\d+)")
_LOOK, _RESTART_AFTER, _ILL_FOR = 0.3, 1.0, 6.0


class Member:
    """One process of the product: a worker or an alerts replica. It keeps its place when it is started again."""

    def __init__(self, name: str, role: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.role = role
        #: Whether the supervisor keeps it running.
        self.wanted = True
        self.paused = False
        #: Its log's name and last words, each time that it ended by itself or had to be restarted because it said that it was not alive.
        self.ended: list[str] = []
        self.was_ill: list[str] = []
        self._command = list(command)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._lives = itertools.count(1)
        self.log = directory / f"{name}.log"
        self._ended_at = 0.0
        self._ill_since: float | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def running(self) -> bool:
        """Whether the process is there; it may be paused."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; -1 when it is not there."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else -1

    @property
    def url(self) -> str | None:
        """Of its pages, once it has said it."""
        if not self.running:
            return None
        found = _PAGES.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else None

    def start(self) -> None:
        """Start the process, with a log of its own."""
        self.log = self._directory / f"{self.name}-{next(self._lives)}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self._directory, env=environment
            )
        self.paused, self._ill_since = False, None

    def send(self, number: signal.Signals) -> None:
        """Signal the process if it is there."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def kill(self) -> bool:
        """End it as a power cut would; whether there was something to end."""
        process, self._process = self._process, None  # the supervisor must not take this for an end of its own
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def stop(self, timeout: float = 15.0) -> None:
        """End it as an operator would."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def page(self, path: str, timeout: float = 3.0) -> tuple[int, Any]:
        """Status and JSON of a page; (0, None) when it does not answer."""
        url = self.url
        if url is None or self.paused:
            return 0, None
        try:
            with urlopen(url + path, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error, contextlib.suppress(ValueError):
                return error.code, json.load(error)
            return error.code, None
        except (OSError, ValueError):
            return 0, None

    def look_after(self) -> None:
        """One look of the supervisor."""
        if not self.wanted or self.paused:
            self._ill_since = None
            return
        now = time.monotonic()
        if not self.running:
            if not self._ended_at:
                self._ended_at = now
                self.ended += [self._last_words()] if self._process is not None else []
            elif now - self._ended_at >= _RESTART_AFTER:
                self._ended_at = 0.0
                self.start()
            return
        self._ended_at = 0.0
        status, _ = self.page("/healthz", timeout=1.0)
        if status != 503:
            self._ill_since = None
        elif self._ill_since is None:
            self._ill_since = now
        elif now - self._ill_since > _ILL_FOR:
            self.was_ill.append(self._last_words())
            self.stop()

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{self.log.name}: {lines[-1] if lines else '(nothing)'}"


class Fleet:
    """All processes of the product."""

    def __init__(self, config: Path, directory: Path, launcher: Sequence[str], workers: int, replicas: int) -> None:
        self._config = config
        self._directory = directory
        self._launcher = launcher
        self.members = [self._member("streams", number) for number in range(1, workers + 1)]
        self.members += [self._member("alerts", number) for number in range(1, replicas + 1)]
        self._supervising: asyncio.Task[None] | None = None

    def _member(self, role: str, number: int) -> Member:
        command = [sys.executable, "-m", *self._launcher, role, "--config", str(self._config)]
        return Member(f"{role}-{number}", role, command, self._directory)

    def of(self, role: str) -> list[Member]:
        """The members of a role."""
        return [member for member in self.members if member.role == role]

    def add_worker(self) -> Member:
        """One more worker, which the supervisor starts at its next look."""
        member = self._member("streams", len(self.of("streams")) + 1)
        member.start()
        self.members.append(member)
        return member

    def remove(self, member: Member) -> None:
        """End a member for good."""
        member.wanted = False
        member.stop()
        self.members.remove(member)

    async def start(self) -> None:
        """Start everything, and the supervisor."""
        for member in self.members:
            member.start()
        self._supervising = asyncio.create_task(self._supervise(), name="supervisor")

    async def close(self) -> None:
        """End everything."""
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        for member in self.members:
            member.wanted = False
            member.send(signal.SIGTERM)
            member.send(signal.SIGCONT)
        await asyncio.gather(*(asyncio.to_thread(member.stop, 10.0) for member in self.members))

    def back_to_normal(self) -> None:
        """Everything that is wanted runs, nothing is paused."""
        for member in self.members:
            member.send(signal.SIGCONT)
            member.paused, member.wanted = False, True

    async def page(self, role: str, path: str) -> Any:
        """A page of any member that answers it well; None when none does."""
        for member in self.of(role):
            status, content = await asyncio.to_thread(member.page, path)
            if status == 200:
                return content
        return None

    async def _supervise(self) -> None:
        while True:
            await asyncio.gather(*(asyncio.to_thread(member.look_after) for member in list(self.members)))
            await asyncio.sleep(_LOOK)

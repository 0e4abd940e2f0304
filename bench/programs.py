"""Running a contender's program: a process with its own Python, told on its command line what to do, watched from outside."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import Contender
from bench.environments import EnvironmentMissing, jars_of, python_of
from bench.process_tree import ProcessTree
from bench.recordings import Answer, Recording, answer_of, differences
from bench.runs import LOOK, Run, failure, measured
from bench.ysb_redis import counts_in
from streams.embedded import ApacheKafka, EmbeddedRedis

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Arena:
    """What all contenders of a run share."""

    kafka: ApacheKafka
    redis: EmbeddedRedis
    #: The Yahoo Streaming Benchmark's ads, as JSON.
    ads: Path
    #: Seconds after which a contender is given up.
    timeout: float = 600.0
    #: Run the peers whose packages are installed here with this very Python, instead of environments of their own: for trials.
    here: bool = False

    def servers_cpu(self) -> float:
        """CPU seconds of Kafka and Redis so far."""
        return sum(ProcessTree(server.pid).cpu_seconds() for server in (self.kafka, self.redis))


def prepared(contender: Contender, arena: Arena) -> Path:
    """The Python that the contender runs with; installs what it needs. Raises EnvironmentMissing."""
    if contender.environment is None or (arena.here and contender.runs_here):
        return Path(sys.executable)
    return python_of(contender.environment)


def run_program(contender: Contender, recording: Recording, arena: Arena) -> Run:
    """One run to its end."""
    try:
        python = prepared(contender, arena)
    except EnvironmentMissing as missing:
        return failure(str(missing))
    directory = Path(tempfile.mkdtemp(prefix="campaignwatch-bench-"))
    try:
        return _Watched(contender, recording, arena, python, directory).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Watched:
    """A program that runs."""

    def __init__(self, contender: Contender, recording: Recording, arena: Arena, python: Path, directory: Path) -> None:
        self._contender, self._recording, self._arena = contender, recording, arena
        self._directory, self._answer = directory, directory / "answer.json"
        self._name = f"{contender.name}-{uuid.uuid4().hex[:8]}"
        assert contender.program is not None
        words: dict[str, object] = {
            "bootstrap-servers": arena.kafka.bootstrap_servers,
            "topic": recording.topic,
            "events": recording.events,
            "counted": recording.counted,
            "partitions": recording.settings.kafka.partitions,
            "name": self._name,
            "directory": directory,
            "answer": self._answer,
            "redis": arena.redis.url,
            "ads": arena.ads,
            "variant": contender.variant,
            "jars": ":".join(map(str, jars_of(contender.environment))) if contender.environment else "",
        }
        options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
        self._command = [str(python), "-m", f"bench.contenders.{contender.program}", *options]

    def run(self) -> Run:
        progress: list[tuple[float, float]] = []
        cpu: list[tuple[float, float]] = []
        servers: list[tuple[float, float]] = []
        log = self._directory / "log.txt"
        started = time.monotonic()
        with log.open("wb") as errors:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._directory,
                env=_environment(),
                start_new_session=True,
            )
            try:
                tree = ProcessTree(process.pid)
                assert process.stdout is not None
                out, text = process.stdout.fileno(), b""
                while True:
                    if select.select([out], [], [], LOOK)[0]:
                        more = os.read(out, 65_536)
                        if not more:
                            break
                        *lines, text = (text + more).split(b"\n")
                        progress += [point for point in map(_point, lines) if point is not None]
                    now = time.monotonic()
                    cpu.append((now, tree.cpu_seconds()))
                    servers.append((now, self._arena.servers_cpu()))
                    if now - started > self._arena.timeout:
                        return failure(f"not done after {self._arena.timeout:.0f} s")
                status = process.wait(30)
            finally:
                # Whatever it has started is in its session.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status != 0 or len(progress) < 2:
            return failure(f"ended with status {status}: {log.read_text(encoding='utf-8', errors='replace')[-2_000:]}")
        return measured(started, progress, cpu, servers, self._wrong())

    def _wrong(self) -> list[str]:
        if not self._contender.answers:
            return []
        return differences(self._recording.expected, self._given(), self._recording.end)

    def _given(self) -> Answer:
        if self._contender.answers_in_redis:
            return counts_in(self._arena.redis.url, self._name)
        return answer_of(json.loads(self._answer.read_text(encoding="utf-8")))


def _point(line: bytes) -> tuple[float, float] | None:
    """A line of progress; libraries may print others."""
    try:
        told = json.loads(line)
        return float(told["at"]), float(told["events"])
    except (ValueError, KeyError, TypeError):
        return None


def _environment() -> Mapping[str, str]:
    """The caller's, without what would lead another Python astray; of this repository a program imports its own package only."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PYTHONPATH": str(_ROOT), "PATHWAY_THREADS": "1"}

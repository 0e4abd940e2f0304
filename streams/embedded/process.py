"""A server run as a child process, which never outlives the process that started it.

`Server` is the base of the three embedded services. It knows how to start a command, wait until it answers, end it and remove
what it wrote. It blocks while it waits; from a coroutine call it through `asyncio.to_thread`.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

from streams.embedded import ports
from streams.errors import UserError

#: Told of the server's process id on every start; at the end of its input, which comes with the parent's death however it dies
#: (kill -9 included), it kills the server and removes its directory.
_GUARD = """
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then kill -KILL "$pid"; fi
if [ -n "$1" ]; then rm -rf -- "$1"; fi
"""

_POLL = 0.02
_ATTEMPTS = 5


class EmbeddedError(UserError):
    """An embedded server cannot be used. The message names the server, the reason and what to do next."""


class Guard:
    """Sees to it that a child process dies with the process that started it, however that one dies (kill -9 included).

    `directory`, if given, is removed then too, and by `close`.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "campaignwatch-guard", str(directory) if directory is not None else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, pid: int | None) -> None:
        """From now on this process is the one to be killed; None: it has ended."""
        if self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.write(f"{pid or ''}\n".encode())
                self._shell.stdin.flush()

    def close(self) -> None:
        """Kill what is watched, remove the directory, and end. Safe to call twice."""
        # The end of its input makes it do so.
        if self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.close()
        self._shell.wait()


class Server(ABC):
    """One server process on a loopback port, with a directory of its own.

    Life: `start` -> (`kill` | `stop` | `pause`, `resume`) -> `start` again on the same port and directory -> `close`. As a context
    manager it starts on entry and closes on exit. The directory is a temporary one, removed by `close`, unless the caller gave one.
    """

    #: What messages call it.
    name = "server"
    #: How far above its port the server listens on a second one; 0: it does not.
    second_port = 0
    #: Seconds that a start may take.
    start_timeout = 20.0
    #: Seconds between the polite signal and the one that cannot be ignored.
    stop_timeout = 10.0

    def __init__(self, *, port: int | None = None, directory: Path | None = None) -> None:
        self._fixed_port = port
        self.port = port if port is not None else ports.free_port(self.second_port)
        self._own_directory = directory is None
        self._given_directory = directory
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._log: IO[bytes] | None = None
        self._lock = threading.RLock()
        self._started_once = False

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments for the present port and directory. Raises EmbeddedError when the program is missing."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a request in its own protocol. Must return within about a second and may raise OSError."""

    def environment(self) -> dict[str, str] | None:
        """Environment variables of the process; None for those of the parent."""
        return None

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Write what the server needs before its first start. Called again if the port had to change."""

    @property
    def directory(self) -> Path:
        """Where the server keeps its files. Exists from the first start to `close`."""
        if self._directory is None:
            raise EmbeddedError(f"{self.name}: not started yet, so it has no directory; call start() first")
        return self._directory

    @property
    def log_path(self) -> Path:
        """File that the server's output goes to."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedError(f"{self.name}: not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and return once it answers.

        Raises EmbeddedError when the program is missing, the port is taken, or the server dies or stays silent.
        """
        with self._lock:
            if self.running:
                return self
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._start_once()
                    self._started_once = True
                    return self
                except _PortTakenError as taken:
                    # A port the caller chose, or one that clients already know, must not change behind their back.
                    if self._fixed_port is not None or self._started_once or attempt == _ATTEMPTS:
                        if not self._started_once:
                            self.close()
                        raise EmbeddedError(
                            f"{self.name}: port {self.port} of {ports.HOST} is already in use; "
                            "end the process that listens there, or choose another port"
                        ) from taken
                    self.port = ports.free_port(self.second_port)
                except BaseException:
                    self._end_process(signal.SIGKILL)
                    if not self._started_once:
                        self.close()
                    raise
            raise AssertionError("unreachable")

    def kill(self) -> None:
        """End the server at once, as a crash would (SIGKILL). Its files stay for the next start."""
        with self._lock:
            self._end_process(signal.SIGKILL)

    def stop(self) -> None:
        """End the server politely (SIGTERM, then SIGKILL after `stop_timeout`). Its files stay for the next start."""
        with self._lock:
            self._end_process(signal.SIGTERM)

    def restart(self) -> None:
        """Stop the server if it runs and start it again on the same port and directory."""
        with self._lock:
            self.stop()
            self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its temporary directory. Safe to call twice."""
        with self._lock:
            self._end_process(signal.SIGTERM)
            if self._log is not None:
                self._log.close()
                self._log = None
            if self._guard is not None:
                self._guard.close()
                self._guard = None
            if self._directory is not None and self._own_directory:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
            self._started_once = False
            atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that the server wrote."""
        try:
            text = self.log_path.read_bytes()[-16_384:].decode("utf-8", "replace")
        except (OSError, EmbeddedError):
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def _start_once(self) -> None:
        if not self._has_its_ports():
            raise _PortTakenError
        self._open_directory()
        self.prepare()
        command = self.command()
        if self._log is None:
            self._log = self.log_path.open("ab")
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
                # A session of its own: Ctrl-C in the terminal is the parent's to handle, which then ends the servers in order.
                start_new_session=True,
            )
        except OSError as error:
            raise EmbeddedError(f"{self.name}: {command[0]} cannot be started: {error.strerror}") from error
        self._process = process
        self._tell_guard(process.pid)
        self._wait_until_it_answers(process)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            with contextlib.suppress(OSError):
                # Alive after the answer: else it was somebody else's server on the same port that answered.
                if self.answers() and process.poll() is None:
                    return
            status = process.poll()
            if status is not None:
                tail = self.log_tail()
                self._end_process(signal.SIGKILL)
                if not self._has_its_ports():
                    raise _PortTakenError
                raise EmbeddedError(f"{self.name}: ended at its start with status {status}; its last words:\n{tail or '(none)'}")
            if time.monotonic() > deadline:
                tail = self.log_tail()
                raise EmbeddedError(
                    f"{self.name}: does not answer on {ports.HOST}:{self.port} after {self.start_timeout:.0f} s; "
                    f"its last words:\n{tail or '(none)'}"
                )
            time.sleep(_POLL)

    def _has_its_ports(self) -> bool:
        return all(map(ports.is_free, {self.port, self.port + self.second_port}))

    def _open_directory(self) -> None:
        if self._directory is not None:
            return
        if self._given_directory is not None:
            self._given_directory.mkdir(parents=True, exist_ok=True)
            self._directory = self._given_directory.resolve()
        else:
            self._directory = Path(tempfile.mkdtemp(prefix="campaignwatch-"))
        self._guard = Guard(self._directory if self._own_directory else None)
        atexit.register(self.close)

    def _tell_guard(self, pid: int | None) -> None:
        if self._guard is not None:
            self._guard.watch(pid)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            raise EmbeddedError(f"{self.name}: not running")
        process.send_signal(number)

    def _end_process(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            # A paused process would keep the polite signal for later.
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(self.stop_timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._tell_guard(None)
        self._process = None


class _PortTakenError(Exception):
    """Somebody else listens on the port."""

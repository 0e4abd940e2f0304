"""A Redis Cluster for tests: masters on loopback with a replica each, which can be killed one by one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from streams.embedded import ports
from streams.embedded.process import EmbeddedError
from streams.embedded.redis import AppendFsync, EmbeddedRedis

SLOTS = 16_384
_POLL = 0.05


class RedisNode(EmbeddedRedis):
    """A server of a cluster."""

    name = "embedded Redis of a cluster"
    #: Its bus, which the nodes talk over.
    second_port = 10_000


class RedisCluster:
    """`masters` masters with `replicas` replicas each, every one a server of its own.

    Life: `start` -> (`kill_master`, `fail_over_done`, `nodes[i].start`) -> `close`. As a context manager it starts on entry and closes on
    exit. A master without an answer for `node_timeout_ms` is replaced by its replica, however old that is; killed nodes come back as
    replicas. `options` are further arguments of each server. Blocks while it waits; from a coroutine call it through `asyncio.to_thread`.
    """

    name = "embedded Redis Cluster"
    #: Seconds that a start or a fail-over may take.
    timeout = 30.0

    def __init__(
        self,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = 2_000,
        append_only: AppendFsync | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._masters, self._replicas = masters, replicas
        own = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", str(node_timeout_ms)]
        own += ["--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"]
        self.nodes = [RedisNode(append_only=append_only, options=[*own, *options]) for _ in range(masters * (1 + replicas))]

    @property
    def url(self) -> str:
        """redis:// URL that names every node."""
        return f"redis://{','.join(f'{ports.HOST}:{node.port}' for node in self.nodes)}/0"

    def start(self) -> Self:
        """Start the servers and make them a cluster. Returns once all slots are served and each replica follows its master."""
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all servers and remove their files. Safe to call twice."""
        for node in self.nodes:
            if node.running:
                # The polite signal makes a master wait for its replicas.
                node.kill()
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def client(self, node: EmbeddedRedis) -> Any:
        """A client of one node, to be closed by the caller."""
        return redis.Redis(host=ports.HOST, port=node.port, socket_timeout=2.0, decode_responses=True)

    def masters(self) -> list[EmbeddedRedis]:
        """The running nodes that are masters by their own word, in the order of `nodes`."""
        return [node for node in self.nodes if node.running and self._role(node) == "master"]

    def replica_of(self, master: EmbeddedRedis) -> EmbeddedRedis:
        """A running replica of that master. Raises EmbeddedError when there is none."""
        for node in self.nodes:
            if node.running and node is not master:
                with contextlib.suppress(RedisError), self.client(node) as client:
                    info = client.info("replication")
                    if info.get("role") == "slave" and int(info["master_port"]) == master.port:
                        return node
        raise EmbeddedError(f"{self.name}: node {master.port} has no replica that runs")

    def master_of(self, key: str) -> EmbeddedRedis:
        """The master that serves a key."""
        found = self.masters()
        for master in found:
            with self.client(master) as client:
                slot = client.execute_command("CLUSTER KEYSLOT", key)
                for first, last, owner in _slots(client):
                    if first <= slot <= last:
                        return next(node for node in found if node.port == owner)
        raise EmbeddedError(f"{self.name}: no master serves the key {key}")

    def kill_master(self, number: int) -> EmbeddedRedis:
        """End a master at once, as a crash would, and give it back; see `wait_until_healthy` for its replica to take over."""
        master = self.masters()[number]
        master.kill()
        return master

    def wait_until_healthy(self) -> None:
        """Return once every running node says that all slots are served by masters that run. Raises EmbeddedError after `timeout`."""
        self._wait(self._healthy, "is not whole")

    def wait_for_replicas(self) -> None:
        """Return once as many replicas as were asked for follow a running master. Raises EmbeddedError after `timeout`."""
        self._wait(lambda: sum(self._follows(node) for node in self.nodes) == self._masters * self._replicas, "lacks replicas")

    def flush(self) -> None:
        """Delete every key."""
        for master in self.masters():
            with self.client(master) as client:
                client.flushall()

    # Making it.

    def _join(self) -> None:
        masters = self.nodes[: self._masters]
        share = SLOTS / len(masters)
        for number, node in enumerate(masters):
            with self.client(node) as client:
                first, last = round(number * share), round((number + 1) * share) - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with self.client(self.nodes[0]) as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER MEET", ports.HOST, node.port)
        self._wait(lambda: all(self._knows(node) >= len(self.nodes) for node in self.nodes), "does not find together")
        for number, node in enumerate(self.nodes[self._masters :]):
            with self.client(masters[number % len(masters)]) as client:
                name = client.execute_command("CLUSTER MYID")
            with self.client(node) as client:
                client.execute_command("CLUSTER REPLICATE", name)
        self.wait_until_healthy()
        self.wait_for_replicas()

    def _wait(self, done: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            with contextlib.suppress(RedisError, OSError):
                if done():
                    return
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name}: {complaint} after {self.timeout:.0f} s; its first node says:\n{self.nodes[0].log_tail()}"
                )
            time.sleep(_POLL)

    def _knows(self, node: EmbeddedRedis) -> int:
        return int(self._info(node)["cluster_known_nodes"])

    def _info(self, node: EmbeddedRedis) -> dict[str, str]:
        with self.client(node) as client:
            answer: dict[str, str] = client.cluster("INFO")
            return answer

    def _healthy(self) -> bool:
        running = [node for node in self.nodes if node.running]
        alive = {node.port for node in running}
        for node in running:
            if self._info(node)["cluster_state"] != "ok":
                return False
            with self.client(node) as client:
                slots = _slots(client)
            if sum(last - first + 1 for first, last, _ in slots) != SLOTS or not {owner for *_, owner in slots} <= alive:
                return False
        return True

    def _role(self, node: EmbeddedRedis) -> str:
        with contextlib.suppress(RedisError), self.client(node) as client:
            return str(client.info("replication")["role"])
        return ""

    def _follows(self, node: EmbeddedRedis) -> bool:
        if not node.running:
            return False
        with self.client(node) as client:
            info = client.info("replication")
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")


def _slots(client: Any) -> list[tuple[int, int, int]]:
    """(first slot, last slot, port of their master)."""
    return [(int(first), int(last), int(master[1])) for first, last, master, *_ in client.execute_command("CLUSTER SLOTS")]

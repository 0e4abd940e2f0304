"""redis-py's client of a Redis Cluster, with what Campaignwatch needs of it.

Three things differ from the library's own:

- Its pipelines run each queued command of a transaction in a thread with an event loop of its own, and on trouble close every connection
  of the client. Here a pipeline is the library's plain one, sent to the node that serves the keys.
- Some of its errors are no redis errors, above all that no node can be reached. Here they are, so that callers who wait for Redis wait.
- A script that a node does not know is sent to that node along with the keys, not loaded into every master first, one of which may be down.

A pipeline may span slots unless it is a transaction. After a redirect it is sent once more, so what it does must be repeatable.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # noqa: A004 - redis-py's name
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's name
    TryAgainError,
)

from streams.errors import UserError
from streams.redis_errors import as_redis_errors

_CONNECTIONS = 10_000
#: Options of a node's connections that a plain pool does not take, or sets itself.
_OF_NODES = ("host", "port", "connection_class", "response_callbacks", "max_connections", "himport_registry")
_TOPOLOGY_ERRORS = (ConnectionError, TimeoutError, ClusterDownError, AskError, TryAgainError)


class ClusterClient(RedisCluster):
    """A client of a cluster. Raises redis errors when the cluster, or the part of it that is asked, is away."""

    __slots__ = ("_plain",)
    _plain: dict[str, Redis]

    @classmethod
    def of_urls(cls, urls: Sequence[str], **options: Any) -> ClusterClient:
        """A client that learns the cluster from any of the servers in `urls`. Raises ValueError, or UserError with the reason."""
        first, *others = (cast("dict[str, Any]", parse_url(url)) for url in urls)
        secure = first.pop("connection_class", None) is SSLConnection
        if first.pop("db", 0):
            raise UserError("redis.url names a database, and a cluster has database 0 only; leave it out")
        if "path" in first:
            raise UserError("redis.url is a socket's path, and a cluster is reached by host and port")
        nodes = [ClusterNode(other.get("host", "localhost"), other.get("port", 6379)) for other in others]
        address = {"host": first.pop("host", "localhost"), "port": first.pop("port", 6379)}
        # Never begin anew because of redirects: the table of slots is put right by each of them.
        client = cls(startup_nodes=nodes, max_connections=_CONNECTIONS, reinitialize_steps=0, ssl=secure, **address, **{**options, **first})
        client._plain = {}
        return client

    async def initialize(self, *arguments: Any, **options: Any) -> ClusterClient:
        """Learn the cluster's nodes, if that is not done."""
        try:
            await super().initialize(*arguments, **options)
        except RedisClusterException as error:
            raise _reachable_error(error) from error
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """The library's hook: every command but those of pipelines."""
        with as_redis_errors():
            return await super().execute_command(*args, **kwargs)

    def register_script(self, script: str | bytes | memoryview) -> Any:
        """A script to be called with `keys` (of one slot) and `args`."""
        return _Script(self, script)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Commands to be sent together; with `transaction` all of one slot, and carried out as one."""
        return _ClusterPipeline(self, transaction=bool(transaction))

    async def aclose(self) -> None:
        """Close all connections. The library calls it in trouble too: the client is good for use again afterwards."""
        plain, self._plain = self._plain, {}
        await asyncio.gather(*(client.aclose() for client in plain.values()), return_exceptions=True)
        await super().aclose()

    async def node_of(self, key: Any) -> ClusterNode:
        """The master that serves a key, as far as known."""
        if self._initialize:
            await self.initialize()
        with as_redis_errors():
            return self.nodes_manager.get_node_from_slot(self.keyslot(key))

    def plain(self, node: ClusterNode) -> Redis:
        """A client of one node alone."""
        client = self._plain.get(node.name)
        if client is None:
            options = {name: value for name, value in self.connection_kwargs.items() if name not in _OF_NODES}
            pool = ConnectionPool(
                connection_class=node.connection_class, max_connections=_CONNECTIONS, host=node.host, port=node.port, **options
            )
            client = self._plain[node.name] = Redis.from_pool(pool)
        return client

    async def learn(self, error: Exception, node: ClusterNode) -> None:
        """Bring what is known of the cluster up to date after `node` answered with `error`."""
        if isinstance(error, MovedError):
            await self.nodes_manager.move_slot(error)
            return
        try:
            await self.nodes_manager.initialize(last_failed_node_name=node.name)
        except RedisClusterException as failed:
            raise _reachable_error(failed) from failed


def _reachable_error(error: RedisClusterException) -> RedisError:
    # The reason behind it (a wrong password, an unknown CA) is what somebody can do something about.
    cause = error.__cause__
    return cause if isinstance(cause, RedisError) and not isinstance(cause, ConnectionError) else ClusterError(str(error))


class _Script:
    """A Lua script, sent in full where a node does not know it yet."""

    def __init__(self, client: ClusterClient, script: str | bytes | memoryview) -> None:
        self._client: Any = client
        self._script = script
        self._sha = _sha1(script)

    async def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(self._script, len(keys), *keys, *args)


def _sha1(script: str | bytes | memoryview) -> str:
    return hashlib.sha1(script.encode() if isinstance(script, str) else script, usedforsecurity=False).hexdigest()


class _ClusterPipeline(Pipeline):
    """Queues commands; `execute` sends them to the nodes that serve their keys, each in one go, and gives the answers in order."""

    def __init__(self, cluster: ClusterClient, *, transaction: bool) -> None:
        super().__init__(cast(ConnectionPool, None), cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send everything. Raises the first error unless told otherwise."""
        commands, self.command_stack = self.command_stack, []
        try:
            return await self._send(commands, raise_on_error)
        except (MovedError, ConnectionError):
            # The cluster is known anew by now.
            return await self._send(commands, raise_on_error)

    async def _send(self, commands: Sequence[Any], raise_on_error: bool) -> list[Any]:
        nodes: dict[str, ClusterNode] = {}
        parts: dict[str, list[int]] = {}
        for position, (args, _) in enumerate(commands):
            # Every command that is ever queued names its key first.
            node = await self._cluster.node_of(args[1])
            nodes[node.name] = node
            parts.setdefault(node.name, []).append(position)
        if self.is_transaction and len({self._cluster.keyslot(args[1]) for args, _ in commands}) > 1:
            raise ClusterError("the keys of a transaction must have the same hash tag")
        answers: list[Any] = [None] * len(commands)

        async def send(name: str, positions: Sequence[int]) -> None:
            pipe: Any = self._cluster.plain(nodes[name]).pipeline(transaction=self.is_transaction)
            for position in positions:
                args, options = commands[position]
                pipe.execute_command(*args, **options)
            try:
                with as_redis_errors():
                    found = await pipe.execute(raise_on_error)
            except _TOPOLOGY_ERRORS as error:
                await self._cluster.learn(error, nodes[name])
                raise
            for position, answer in zip(positions, found, strict=True):
                answers[position] = answer

        outcomes = await asyncio.gather(*(send(name, positions) for name, positions in parts.items()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return answers

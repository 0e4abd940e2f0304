"""The servers under the product, with a proxy before each, so that connections can be hurt as well as processes.

`Kafka` and `RedisSide` (sides.py) are all that the rest of the harness knows.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.embedded import ApacheKafka, EmbeddedBroker, EmbeddedRedis, RedisCluster, Server, ports
from streams.errors import UserError
from tests.chaos.clusters import SixRedises, ThreeKafkas
from tests.chaos.proxy import Proxy
from tests.chaos.sides import DURABLE_KAFKA, KAFKA_PROXY, MORE_PARTITIONS, REDIS_FILE, REDIS_PROXY, Kafka, RedisSide


class _OneBroker:
    """What is said of one broker alone, whichever it is."""

    _server: ApacheKafka | EmbeddedBroker

    @property
    def brokers(self) -> Sequence[Server]:
        return [self._server]

    @property
    def bootstrap_servers(self) -> str:
        return self._server.bootstrap_servers

    def wait_until_whole(self) -> None:
        """A server that is started is whole."""


class OneApacheKafka(_OneBroker):
    """Apache Kafka with two listeners: the harness's own, and one that is advertised as the proxy's address."""

    offers = frozenset({DURABLE_KAFKA, KAFKA_PROXY, MORE_PARTITIONS})
    copies = 1

    def __init__(self, directory: Path) -> None:
        inner, controller, direct = ports.free_port(), ports.free_port(), ports.free_port()
        self.proxy: Proxy | None = Proxy(inner)
        host = ports.HOST
        self._server = ApacheKafka(
            port=direct,
            directory=directory,
            properties={
                "controller.quorum.bootstrap.servers": f"{host}:{controller}",
                "listeners": f"PLAINTEXT://{host}:{direct},PROXIED://{host}:{inner},CONTROLLER://{host}:{controller}",
                "advertised.listeners": f"PLAINTEXT://{host}:{direct},PROXIED://{host}:{self.proxy.port}",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
            },
        )

    @property
    def product_servers(self) -> str:
        assert self.proxy is not None
        return f"{ports.HOST}:{self.proxy.port}"

    def start(self) -> None:
        assert self.proxy is not None
        self.proxy.start()
        self._server.start()

    def close(self) -> None:
        self._server.close()
        if self.proxy is not None:
            self.proxy.close()


class OneEmbeddedBroker(_OneBroker):
    """The broker of the tests: it can be paused, but forgets its log when it ends, and advertises one address only."""

    offers: frozenset[str] = frozenset()
    copies = 1
    proxy: Proxy | None = None

    def __init__(self, directory: Path) -> None:
        self._server = EmbeddedBroker(directory=directory)

    @property
    def product_servers(self) -> str:
        return self._server.bootstrap_servers

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.close()


class OneRedis:
    """A Redis with an append-only file that can be copied away and put back."""

    offers = frozenset({REDIS_FILE, REDIS_PROXY})
    cluster: RedisCluster | None = None

    def __init__(self, directory: Path) -> None:
        self._server = EmbeddedRedis(directory=directory / "server", append_only="everysec", options=["--enable-debug-command", "yes"])
        self._copies = directory / "copies"
        self._number = itertools.count()
        self.proxy: Proxy | None = Proxy()

    @property
    def nodes(self) -> Sequence[EmbeddedRedis]:
        return [self._server]

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def product_url(self) -> str:
        assert self.proxy is not None
        return f"redis://{ports.HOST}:{self.proxy.port}/0"

    def client(self) -> Redis:
        retry = Retry(ConstantBackoff(0.1), 20)
        return Redis.from_url(self.url, socket_timeout=10.0, retry=retry, retry_on_error=[RedisConnectionError])

    def start(self) -> None:
        assert self.proxy is not None
        self._server.start()
        self.proxy.target = self._server.port
        self.proxy.start()

    def wait_until_whole(self) -> None:
        """A server that is started is whole."""

    def close(self) -> None:
        self._server.close()
        if self.proxy is not None:
            self.proxy.close()


def append_only_directory(server: EmbeddedRedis) -> Path:
    """Where a server keeps its append-only file."""
    return server.directory / "appendonlydir"


def copy_file_of(server: EmbeddedRedis, target: Path) -> None:
    """Copy the append-only file as it is now. The server stands still meanwhile, so that the copy is of one moment."""
    shutil.rmtree(target, ignore_errors=True)
    server.pause()
    try:
        shutil.copytree(append_only_directory(server), target)
    finally:
        server.resume()


def put_file_back(server: EmbeddedRedis, copy: Path) -> None:
    """Let a server that has ended begin with an older file."""
    shutil.rmtree(append_only_directory(server), ignore_errors=True)
    shutil.copytree(copy, append_only_directory(server))


def tear_off(server: EmbeddedRedis, length: int) -> None:
    """Take the last `length` bytes off the file of a server that has ended, as a power cut does to what was not synced."""
    newest = max(append_only_directory(server).glob("*.incr.aof"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is not None:
        with newest.open("r+b") as file:
            file.truncate(max(0, newest.stat().st_size - length))


KAFKAS: dict[str, Callable[[Path], Kafka]] = {"apache": OneApacheKafka, "embedded": OneEmbeddedBroker, "cluster": ThreeKafkas}
REDISES: dict[str, Callable[[Path], RedisSide]] = {"single": OneRedis, "cluster": SixRedises}


class Servers:
    """Kafka and Redis of one run, by the names of `--kafka` and `--redis`."""

    def __init__(self, kafka: str, redis: str, directory: Path) -> None:
        for name, known in ((kafka, KAFKAS), (redis, REDISES)):
            if name not in known:
                raise UserError(f"{name}: there is no such kind of server; there are {', '.join(known)}")
        self.kafka = KAFKAS[kafka](directory / "kafka")
        self.redis = REDISES[redis](directory / "redis")
        self.directory = directory

    @property
    def offers(self) -> frozenset[str]:
        """What faults may need."""
        return self.kafka.offers | self.redis.offers

    def __enter__(self) -> Servers:
        try:
            self.kafka.start()
            self.redis.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self.redis.close()
        self.kafka.close()

    def wait_until_whole(self) -> None:
        """Return once nothing is left of what was done to the servers."""
        self.kafka.wait_until_whole()
        self.redis.wait_until_whole()

    def heal(self) -> None:
        """Let every proxy be a plain one again."""
        for proxy in (self.kafka.proxy, self.redis.proxy):
            if proxy is not None:
                proxy.heal()

"""Streams workers as an operator runs them: processes that are started, asked over HTTP, and ended gently or not.

    with worker(settings, tmp_path) as one:
        await send(settings, Topic.CLICKS, [{"event_id": "1", ...}])
        await until(lambda: ledger(one.url), lambda found: found.total("in") == 1)
        one.kill()

A second worker on the same settings is another `with worker(settings, tmp_path) as two`; Kafka shares the partitions between them.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.config import Kafka, Money, Redis, Settings, Streams, Topic
from streams.kafka import connection
from streams.preflight import check_kafka
from streams.producing import Sender
from tests.integration.conftest import COPIES, Broker, RedisServer
from tests.integration.processes import Process, running, settings_file

T = TypeVar("T")

#: A worker loads its libraries, joins the group and claims its partitions; on two busy cores that takes its time.
START_TIMEOUT = 60.0
_PAGES = re.compile(r"pages on (http://[0-9.]+:\d+)")
_POLL = 0.1


def own_settings(broker: Broker, redis_server: RedisServer, **sections: Any) -> Settings:
    """Settings for a module whose tests share a worker: a prefix and a namespace of their own, free HTTP ports, no topics yet.

    `money=Money(...)` and the like replace a section.
    """
    unique = uuid.uuid4().hex[:8]
    usual: dict[str, Any] = {
        "kafka": Kafka(
            bootstrap_servers=broker.bootstrap_servers,
            topic_prefix=f"t-{unique}",
            partitions=2,
            replication_factor=COPIES,
            session_timeout=6.0,
        ),
        "redis": Redis(url=redis_server.url, namespace=f"t-{unique}"),
        "streams": Streams(http_port=0),
        "money": Money(),
    }
    return Settings(**{**usual, **sections})


@dataclass(frozen=True)
class Worker:
    """A streams worker that is ready."""

    process: Process
    #: Of its pages, without a slash at the end.
    url: str
    #: The settings' file, for other commands.
    config: Path
    log: Path

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 15) -> int:
        """End it as an operator would (SIGTERM); its exit status."""
        self.process.terminate()
        return self.process.wait(timeout)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP): it keeps its connections and answers nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def said(self) -> str:
        """What it has written to standard output and standard error so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def worker(settings: Settings, directory: Path, role: str = "streams") -> Iterator[Worker]:
    """A worker that is ready: partitions claimed, tables loaded, pages answering. Its topics must exist. `role`: or alerts.

    Its settings' file, its log and its working directory are new ones below `directory`. It is ended at the end unless it has ended before.
    """
    home = directory / f"worker-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    config, log = settings_file(home, settings), home / "worker.log"
    with running(config, log, role, cwd=home) as process:
        started = Worker(process, _ready(process, log), config, log)
        try:
            yield started
        finally:
            if process.poll() is None:
                # A paused process would not hear that it is to end.
                started.resume()


def _ready(process: Process, log: Path) -> str:
    """Wait for /readyz; the URL of the pages."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        said = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"the worker ended with status {process.returncode}:\n{said[-3_000:]}"
        assert time.monotonic() < deadline, f"the worker is not ready after {START_TIMEOUT} s:\n{said[-3_000:]}"
        pages = _PAGES.search(said)
        if pages is not None and get(f"{pages[1]}/readyz")[0] == 200:
            return pages[1]
        time.sleep(_POLL)


def get(url: str, **parameters: object) -> tuple[int, Any]:
    """Status and JSON of a page. A parameter that is a word of Python is written with an underscore behind, `from_`."""
    return _get(url, parameters, float)


def get_exact(url: str, **parameters: object) -> tuple[int, Any]:
    """As `get`, with Decimals for numbers that have a fraction."""
    return _get(url, parameters, Decimal)


def _get(url: str, parameters: Mapping[str, object], number: Callable[[str], Any]) -> tuple[int, Any]:
    query = urlencode([(name.rstrip("_"), str(value)) for name, value in parameters.items()])
    try:
        with urlopen(f"{url}?{query}" if query else url, timeout=10) as answer:
            return answer.status, json.load(answer, parse_float=number)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def rows(url: str, cube: str = "campaign", **parameters: object) -> dict[str | None, dict[str, Any]]:
    """The rows of /api/kpis, by the first dimension of their key. `url` is the worker's."""
    status, content = get(f"{url}/api/kpis", cube=cube, limit=1_000, **parameters)
    assert status == 200, content
    return {next(iter(row.values())): row for row in content["rows"]}


@dataclass(frozen=True)
class Ledger:
    """/api/ledger at one moment."""

    partitions: tuple[Mapping[str, Any], ...]

    def total(self, column: str, topic: str | None = None) -> int:
        """Sum of a column (in, applied, duplicate, too_late, quarantined) over all partitions, or those of a topic."""
        return sum(entry[column] for entry in self.partitions if topic in (None, entry["topic"]))

    @property
    def balanced(self) -> bool:
        """in = applied + duplicate + too_late + quarantined, in every partition."""
        return all(e["in"] == e["applied"] + e["duplicate"] + e["too_late"] + e["quarantined"] for e in self.partitions)


def ledger(url: str) -> Ledger:
    """The ledger as the worker at `url` shows it; any worker shows all partitions. ConnectionError while Redis is away, or just back."""
    status, content = get(f"{url}/api/ledger")
    if status == 503:
        raise ConnectionError(content["error"])
    assert status == 200, content
    return Ledger(tuple(content["partitions"]))


async def until(ask: Callable[[], T | Awaitable[T]], good: Callable[[T], object] = bool, *, timeout: float = 30) -> T:
    """Ask again and again until the answer is good, and return it; fails with the last answer after `timeout` seconds.

    `ask` may be a plain function, which then runs in a thread, or give something to await. A server that is away is no answer yet.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            asked = await asyncio.to_thread(ask)
            answer: T = await asked if inspect.isawaitable(asked) else asked
            if good(answer):
                return answer
            last = answer
        except OSError as error:
            last = error
        assert time.monotonic() < deadline, f"not so after {timeout} s; last seen: {last!r}"
        await asyncio.sleep(_POLL)


async def applied(url: str, records: int, *, timeout: float = 30) -> Ledger:
    """Wait until so many records have been read in all, over every topic; the ledger then."""
    return await until(lambda: ledger(url), lambda found: found.total("in") >= records, timeout=timeout)


Value = Mapping[str, Any] | bytes | None


async def send(settings: Settings, topic: Topic, events: Iterable[Value | tuple[bytes | None, Value]]) -> int:
    """Send events to a topic and wait for the broker's word; how many.

    An object is keyed by its campaign_id. (key, value) and bytes (without a key) go as they are, broken or not.
    """
    async with Sender(settings) as sender:
        return await sender.send(settings.topic(topic), [_record(event) for event in events])


def _record(event: Value | tuple[bytes | None, Value]) -> tuple[bytes | None, bytes | None]:
    if isinstance(event, tuple):
        key, value = event
        return key, _bytes(value)
    campaign = event.get("campaign_id") if isinstance(event, Mapping) else None
    return (campaign.encode() if isinstance(campaign, str) else None), _bytes(event)


def _bytes(value: Value) -> bytes | None:
    return value if isinstance(value, bytes) or value is None else json.dumps(value, ensure_ascii=False).encode()


async def records(settings: Settings, topic: Topic, count: int, *, timeout: float = 30) -> list[ConsumerRecord]:
    """The records of a topic from its start, once at least `count` are there and nothing more comes."""
    name = settings.topic(topic)
    partitions = [TopicPartition(name, number) for number in range((await check_kafka(settings, [topic]))[topic])]
    consumer = AIOKafkaConsumer(**connection(settings.kafka), group_id=None)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        deadline = time.monotonic() + timeout
        while True:
            fetched = await consumer.getmany(timeout_ms=300)
            found += [record for part in fetched.values() for record in part]
            if not fetched and len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"{name}: {len(found)} of {count} records after {timeout} s"
    finally:
        await consumer.stop()

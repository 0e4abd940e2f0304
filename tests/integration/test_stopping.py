"""SIGTERM ends every process within ten seconds and with status 0, at whatever moment it comes and whatever is away or hangs."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.config import Alerts, Kafka, Redis, Settings, Streams, Topic
from streams.embedded import EmbeddedBroker, EmbeddedRedis, Server
from streams.topics import create_topics
from tests.integration.conftest import Broker
from tests.integration.processes import Process, command, run, settings_file, started
from tests.integration.workers import applied, own_settings, send, worker

pytestmark = pytest.mark.slow
#: Seconds from the signal to the end.
WITHIN = 10.0
#: What the two processes say first, once they hear signals.
STARTING = {"streams": "streams worker starting", "alerts": "alerts: starting"}


class Services:
    """A broker and a Redis of one test alone, which it may kill and freeze."""

    def __init__(self, broker: EmbeddedBroker, redis: EmbeddedRedis) -> None:
        self.broker = broker
        self.redis = redis
        self.settings = Settings(
            kafka=Kafka(bootstrap_servers=broker.bootstrap_servers, topic_prefix="t-stop", partitions=2, session_timeout=6.0),
            redis=Redis(url=redis.url, namespace="t-stop"),
            streams=Streams(http_port=0),
            alerts=Alerts(http_port=0, tick=1.0),
        )

    def harm(self, what: str) -> None:
        """broker-killed, redis-paused, both-killed, ...; nothing does no harm."""
        whom, _, how = what.partition("-")
        servers: dict[str, list[Server]] = {"broker": [self.broker], "redis": [self.redis], "both": [self.broker, self.redis]}
        for server in servers.get(whom, []):
            server.kill() if how == "killed" else server.pause()


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    with EmbeddedBroker() as broker, EmbeddedRedis() as redis:
        both = Services(broker, redis)
        await create_topics(both.settings)
        yield both


def wait_for(log: Path, words: str, process: Process, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while words not in log.read_text("utf-8", "replace"):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text("utf-8", "replace")[-3_000:]
        time.sleep(0.02)


def ended(process: Process, log: Path, *, or_by_itself: str | None = None) -> float:
    """Seconds from SIGTERM to the end, which must be one with status 0; or with status 2 and those words, if it was ending by itself."""
    began = time.monotonic()
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(WITHIN + 5)
    took = time.monotonic() - began
    said = log.read_text("utf-8", "replace")
    by_itself = process.poll() == 2 and or_by_itself is not None and or_by_itself in said and "Traceback" not in said
    assert process.poll() == 0 or by_itself, f"status {process.poll()} after {took:.1f} s\n{said[-3_000:]}"
    assert took < WITHIN
    return took


HARMS = ["nothing", "broker-killed", "broker-paused", "redis-killed", "redis-paused", "both-killed", "both-paused"]


@pytest.mark.parametrize("what", ["nothing", "broker-paused", "redis-paused", "both-paused"])
@pytest.mark.parametrize("role", ["streams", "alerts"])
def test_while_it_waits_for_services_that_hang(services: Services, tmp_path: Path, role: str, what: str) -> None:
    services.harm(what)
    log = tmp_path / "log"
    with started(command(settings_file(tmp_path, services.settings), role), log, cwd=tmp_path) as process:
        wait_for(log, STARTING[role], process)
        time.sleep(0.5)  # on its way into whatever hangs
        ended(process, log)


@pytest.mark.parametrize("what", ["broker-killed", "redis-killed", "both-killed"])
def test_a_worker_without_its_services_says_so_and_ends_by_itself(services: Services, tmp_path: Path, what: str) -> None:
    services.harm(what)
    done = run(settings_file(tmp_path, services.settings), "streams", timeout=30)
    assert done.returncode == 2
    assert f"{'Kafka' if what == 'broker-killed' else 'Redis'} cannot be reached" in done.stderr


@pytest.mark.parametrize("what", HARMS)
@pytest.mark.parametrize("role", ["streams", "alerts"])
def test_at_a_random_moment_of_its_start(services: Services, tmp_path: Path, role: str, what: str) -> None:
    log = tmp_path / "log"
    with started(command(settings_file(tmp_path, services.settings), role), log, cwd=tmp_path) as process:
        wait_for(log, STARTING[role], process)
        time.sleep(random.uniform(0.0, 3.0))
        services.harm(what)
        ended(process, log, or_by_itself="cannot be reached" if what.endswith("killed") else None)


@pytest.mark.parametrize("what", HARMS[1:])
async def test_a_worker_at_work_whose_services_go(services: Services, tmp_path: Path, what: str) -> None:
    with worker(services.settings, tmp_path) as one:
        await send(services.settings, Topic.CLICKS, clicks(500))
        await applied(one.url, 500)
        if what == "redis-paused":
            services.harm(what)
            await send(services.settings, Topic.CLICKS, clicks(500, 500))
        else:
            services.harm(what)
        ended(one.process, one.log)


async def test_what_was_taken_is_counted_once(services: Services, tmp_path: Path) -> None:
    with worker(services.settings, tmp_path) as one, worker(services.settings, tmp_path) as other:
        await send(services.settings, Topic.CLICKS, clicks(20_000))
        ended(one.process, one.log)
        found = await applied(other.url, 20_000, timeout=30)
        assert (found.total("applied"), found.total("duplicate")) == (20_000, 0)
        assert found.balanced


@pytest.mark.apache  # the embedded broker moves the partitions of a member that left only after the session's time-out
async def test_the_group_is_left_at_once(broker: Broker, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = own_settings(broker, redis_server)
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"session_timeout": 40.0})})
    await create_topics(settings)
    with worker(settings, tmp_path) as one, worker(settings, tmp_path) as other:
        await send(settings, Topic.CLICKS, clicks(20_000))
        ended(one.process, one.log)
        # A quarter of the session's time-out goes by until the other hears of it with a heartbeat.
        found = await applied(other.url, 20_000, timeout=25)
        assert (found.total("applied"), found.total("duplicate")) == (20_000, 0)


def clicks(count: int, first: int = 0) -> list[dict[str, object]]:
    now = time.time_ns() // 1_000_000
    return [
        {"event_id": f"e-{number}", "occurred_at": now, "campaign_id": f"c-{number % 20}", "channel": "search", "cost": "0.01"}
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("words", [("topics", "create"), ("quarantine", "list")], ids=" ".join)
def test_a_command_whose_broker_hangs_says_so(services: Services, tmp_path: Path, words: tuple[str, ...]) -> None:
    services.harm("broker-paused")
    done = run(settings_file(tmp_path, services.settings), *words, timeout=60)
    assert done.returncode == 2
    assert "takes the connection and does not answer within 5 s; see whether the broker hangs" in done.stderr

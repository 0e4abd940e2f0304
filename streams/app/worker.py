"""A streams worker: Faust brings batches of every input topic, the owners apply them, the HTTP pages answer."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from functools import partial
from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from streams.app.eviction import EvictionWatch
from streams.app.owners import AssignedPartitions
from streams.app.pages import Pages
from streams.app.state import state_of
from streams.app.upkeep import Upkeep
from streams.config import INPUT_TOPICS, Settings
from streams.kafka import connection, consumer_group, faust_credentials
from streams.memory import collect_seldom
from streams.metrics.exposition import exposition
from streams.metrics.ingest import IngestMetrics
from streams.preflight import kafka_within_reach
from streams.quarantine.record import LARGEST_RECORD
from streams.redis_client import connect
from streams.stopping import WITHIN, end_step, end_within, unless_stopped
from streams.transport import Consumer

log = logging.getLogger(__name__)

_POLL_INTERVAL = 24 * 3_600.0
#: Batches that wait in an agent's queue; each is up to 1 MiB of records.
_QUEUED_BATCHES = 8
#: Seconds for which a thread keeps the interpreter while another wants it. The threads that fetch and decode want it often and briefly; at
#: Python's own 0.005 a worker took 2 to 3 % less in each of three pairs of runs.
_TURN = 0.001
#: Seconds for each step of an orderly end; together they leave some of what `streams.stopping` allows.
_APPLYING, _LEAVING, _CLOSING = 3.0, 2.0, 0.5


class WorkerApp(faust.App):
    """The Faust app of a worker; the transport asks its `owners` where to read from."""

    owners: AssignedPartitions

    def _create_directories(self) -> None:
        """No tables on disk, so no directory for them."""


def build_app(settings: Settings) -> WorkerApp:
    """The Faust app of one worker: an agent per input topic, which hands each batch to the owner of its partition."""
    brokers = ";".join(f"campaignwatch://{server.strip()}" for server in settings.kafka.bootstrap_servers.split(","))
    session = settings.kafka.session_timeout
    app = WorkerApp(
        consumer_group(settings),
        broker=brokers,
        broker_credentials=faust_credentials(settings.kafka),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_request_timeout=max(session * 2, 40.0),
        broker_max_poll_interval=_POLL_INTERVAL,
        broker_commit_interval=2.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=30_000,
        stream_buffer_maxsize=_QUEUED_BATCHES,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
    )
    for topic in INPUT_TOPICS:
        _add_agent(app, settings.topic(topic), topic.value)
    return app


def _add_agent(app: WorkerApp, name: str, topic: str) -> None:
    @app.agent(app.topic(name, value_serializer="raw", key_serializer="raw"), name=f"streams.{topic}")
    async def ingest(batches: faust.StreamT[Any]) -> None:
        async for batch in batches:
            await app.owners.take(batch)


async def run(settings: Settings, stop: asyncio.Event, pages: Pages) -> None:
    """Work until `stop` is set; then apply what is pending, leave the group and return. Raises if the worker or its pages cannot go on."""
    redis = connect(settings)
    producer = AIOKafkaProducer(**connection(settings.kafka), acks="all", max_request_size=LARGEST_RECORD)
    app = build_app(settings)
    registry = CollectorRegistry()
    owners = AssignedPartitions(settings, redis, producer, IngestMetrics(registry), clock=time.time)
    owners.consumer = lambda: cast(Consumer, app.consumer)
    app.owners = owners
    eviction = EvictionWatch(settings, redis, registry)
    beside: list[asyncio.Task[None]] = []
    state = state_of(settings, owners, eviction)

    async def start() -> None:
        collect_seldom()
        sys.setswitchinterval(_TURN)
        async with kafka_within_reach(settings):
            await producer.start()
        port = await pages.start(partial(exposition, registry), state.health)
        beside.append(asyncio.create_task(state.run(), name="state for the pages"))
        beside.append(asyncio.create_task(Upkeep(settings, redis, owners).run(), name="upkeep"))
        beside.append(asyncio.create_task(owners.ends.run(), name="ends of the log"))
        beside.append(asyncio.create_task(eviction.run(), name="maxmemory-policy of Redis"))
        app.finalize()
        async with kafka_within_reach(settings):
            await app.start()
        log.info("streams worker started; pages on http://%s:%d", settings.streams.http_host, port)

    try:
        if await unless_stopped(stop, start()):
            await unless_stopped(stop, _working(app, pages))
    finally:
        if not stop.is_set():
            end_within(WITHIN, status=1)
        for task in beside:
            task.cancel()
        await end_step("applying what is pending", owners.release_all(), _APPLYING)
        await end_step("leaving the consumer group", app.stop(), _LEAVING)
        await end_step("closing the pages", pages.stop(), 2 * _CLOSING)
        await end_step("closing the producer", producer.stop(), _CLOSING)
        await end_step("closing the connections to Redis", redis.aclose(), _CLOSING)


async def _working(app: WorkerApp, pages: Pages) -> None:
    """Ends with the RuntimeError of what comes to an end by itself."""
    await asyncio.gather(_consuming(app), pages.ended())


async def _consuming(app: WorkerApp) -> None:
    await app.wait_until_stopped()
    raise RuntimeError("the Kafka consumer stopped by itself; see the log above. Start the worker again: nothing is lost")

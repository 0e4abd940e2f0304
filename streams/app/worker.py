"""A streams worker: Faust brings batches of every input topic, the owners apply them, the HTTP pages answer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Coroutine
from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from streams.app.eviction import EvictionWatch
from streams.app.owners import AssignedPartitions
from streams.app.pages import serve_pages
from streams.config import INPUT_TOPICS, Settings
from streams.metrics.ingest import IngestMetrics
from streams.metrics.kpis import KpiMetrics
from streams.redis_client import connect
from streams.tables.reader import TableReader
from streams.transport import Consumer

log = logging.getLogger(__name__)

_POLL_INTERVAL = 24 * 3_600.0
#: Batches that wait in an agent's queue; each is up to 1 MiB of records.
_QUEUED_BATCHES = 8
#: Seconds that shutting down may take before the process ends regardless; what was not applied is read again by the next owner.
_GRACE = 8.0
_LARGEST_RECORD = 4 * 1024 * 1024


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
        f"{settings.kafka.topic_prefix}-streams",
        broker=brokers,
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


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then apply what is pending, leave the group and return. Raises if the worker cannot go on."""
    redis = connect(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all", max_request_size=_LARGEST_RECORD)
    app = build_app(settings)
    registry = CollectorRegistry()
    owners = AssignedPartitions(settings, redis, producer, IngestMetrics(registry), clock=time.time)
    owners.consumer = lambda: cast(Consumer, app.consumer)
    app.owners = owners
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reader = TableReader(redis, settings)
    kpis = KpiMetrics(settings, reader, registry)
    eviction = EvictionWatch(settings, redis, registry)
    beside: list[asyncio.Task[None]] = []
    pages = None
    try:
        await producer.start()
        pages = await serve_pages(settings, reader, redis, registry, owners, eviction)
        beside.append(asyncio.create_task(kpis.run(), name="KPIs of /metrics"))
        beside.append(asyncio.create_task(owners.ends.run(), name="ends of the log"))
        beside.append(asyncio.create_task(eviction.run(), name="maxmemory-policy of Redis"))
        app.finalize()
        await app.start()
        log.info("streams worker started; pages on http://%s:%d", settings.streams.http_host, pages.port)
        await _first(stop.wait(), app.wait_until_stopped())
        if not stop.is_set():
            raise RuntimeError("the Kafka consumer stopped by itself; see the log above. Start the worker again: nothing is lost")
    finally:
        hard_exit = threading.Timer(_GRACE, os._exit, (0 if stop.is_set() else 1,))
        hard_exit.daemon = True
        hard_exit.start()
        for task in beside:
            task.cancel()
        await owners.release_all()
        await app.stop()
        if pages is not None:
            await pages.stop()
        await producer.stop()
        await redis.aclose()
        hard_exit.cancel()


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

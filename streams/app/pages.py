"""The HTTP pages of a streams worker: its metrics, its health, and the tables."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from redis.asyncio import Redis

from streams.api.health import Health
from streams.api.incidents import StoredIncidents
from streams.api.server import Server, build_app, serve
from streams.app.eviction import EvictionWatch
from streams.app.owners import AssignedPartitions
from streams.config import Settings
from streams.tables.reader import TableReader


async def serve_pages(
    settings: Settings,
    reader: TableReader,
    redis: Redis,
    registry: CollectorRegistry,
    owners: AssignedPartitions,
    eviction: EvictionWatch,
) -> Server:
    """Start the pages. Raises UserError when the address is taken."""

    def metrics(accept: str) -> tuple[bytes, str]:
        owners.update_gauges()
        encoder, content_type = choose_encoder(accept)
        return encoder(registry), content_type

    app = build_app(
        settings,
        reader,
        clock=lambda: int(time.time() * 1000),
        metrics=metrics,
        health=lambda: health_of(owners, eviction.unsafe),
        incidents=StoredIncidents(redis, settings),
        registry=registry,
    )
    return await serve(app, settings.streams.http_host, settings.streams.http_port)


def health_of(owners: AssignedPartitions, may_drop_keys: str | None = None) -> Health:
    """Alive while no partition that has records waiting stands still by itself; ready while partitions are claimed and can be worked on.

    Not alive either is a worker that the consumer group does not take back. A worker that waits for Redis or Kafka is alive and not ready:
    a restart would not help.
    """
    stuck, hindered, outside = owners.stuck(), owners.hindered(), owners.outside()
    details = {
        "partitions": len(owners),
        "lag": owners.lag(),
        "stuck": stuck,
        "hindered": hindered,
        "outside_the_group": outside,
        "redis_may_drop_keys": may_drop_keys,
    }
    return Health(alive=not stuck and not outside, ready=owners.loaded and not hindered, details=details)

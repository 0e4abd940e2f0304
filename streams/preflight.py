"""Looks at the backing services before a process starts, so that what is wrong is said in a sentence and not in a stack trace.

The libraries below would otherwise end the process without a reason (an absent broker), or go on with data that silently goes
missing (a Redis that evicts keys).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from streams.config import Settings, Topic
from streams.errors import UserError
from streams.kafka import connection
from streams.topics import existing_partitions


class PreflightError(UserError):
    """A backing service cannot be used. The message is a sentence with the next step."""


async def check_kafka(settings: Settings, topics: Iterable[Topic] = tuple(Topic)) -> dict[Topic, int]:
    """Partitions of each of `topics`. Raises PreflightError when the broker is away or a topic is missing."""
    servers = settings.kafka.bootstrap_servers
    admin = AIOKafkaAdminClient(**connection(settings.kafka), client_id="campaignwatch-preflight")
    try:
        await admin.start()
        try:
            existing = await existing_partitions(admin)
        finally:
            await admin.close()
    except (KafkaError, OSError, ValueError) as error:
        raise PreflightError(
            f"Kafka cannot be reached at {servers} ({error}); start the broker, or set kafka.bootstrap_servers "
            "(CAMPAIGNWATCH_KAFKA__BOOTSTRAP_SERVERS)."
        ) from error
    wanted = {topic: settings.topic(topic) for topic in topics}
    missing = [name for name in wanted.values() if name not in existing]
    if missing:
        raise PreflightError(f"Kafka at {servers} has no topic {', '.join(missing)}; run `campaignwatch topics create`.")
    return {topic: existing[name] for topic, name in wanted.items()}


async def check_redis(settings: Settings) -> None:
    """Raise PreflightError when Redis is away, refuses the login, cannot be written to, or may drop keys on its own."""
    shown = _without_password(settings.redis.url)
    hint = "set redis.url (CAMPAIGNWATCH_REDIS__URL)"
    try:
        client = redis.Redis.from_url(
            settings.redis.url, socket_timeout=settings.redis.timeout, socket_connect_timeout=settings.redis.timeout
        )
    except ValueError as error:
        raise PreflightError(f"redis.url {shown!r} is not a Redis URL ({error}); {hint}, such as redis://127.0.0.1:6379/0.") from error
    try:
        await client.ping()
        memory = await client.info("memory")
        replication = await client.info("replication")
    except (AuthenticationError, NoPermissionError) as error:
        raise PreflightError(f"Redis at {shown} refuses the login ({error}); put user and password into redis.url.") from error
    except (RedisError, OSError, TimeoutError) as error:
        if isinstance(error, ResponseError):
            raise PreflightError(f"Redis at {shown} answers with an error ({error}).") from error
        raise PreflightError(f"Redis cannot be reached at {shown} ({error}); start it, or {hint}.") from error
    finally:
        await client.aclose()
    if replication.get("role") == "slave":
        raise PreflightError(f"Redis at {shown} is a replica and cannot be written to; {hint} of its primary.")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise PreflightError(
            f"Redis at {shown} has maxmemory-policy {policy}: it may drop tables when its memory is full, and the numbers would be wrong "
            "without a word; set maxmemory-policy to noeviction."
        )


def _without_password(url: str) -> str:
    """The URL as it may be shown in a message."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return url.split("@")[-1]
    return url.replace(f":{password}@", ":***@", 1) if password else url

"""Looks at the backing services before a process starts, so that what is wrong is said in a sentence and not in a stack trace.

The libraries below would otherwise end the process without a reason (an absent broker), or go on with data that silently goes
missing (a Redis that evicts keys).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from streams.config import Settings, Topic
from streams.errors import UserError
from streams.kafka import connection
from streams.kafka_probe import why_not
from streams.secrets import shown_url
from streams.topics import existing_partitions, hidden_topics

#: Milliseconds for an answer of Kafka, then it is looked into why there is none.
_TIMEOUT_MS = 10_000


class PreflightError(UserError):
    """A backing service cannot be used. The message is a sentence with the next step."""


async def check_kafka(settings: Settings, topics: Iterable[Topic] = tuple(Topic)) -> dict[Topic, int]:
    """Partitions of each of `topics`. Raises PreflightError when Kafka is away or refuses us, or a topic is missing."""
    wanted = {topic: settings.topic(topic) for topic in topics}
    async with _admin(settings) as admin:
        existing = await existing_partitions(admin)
        missing = [name for name in wanted.values() if name not in existing]
        hidden = await hidden_topics(admin, missing) if missing else []
    where = f"Kafka at {settings.kafka.bootstrap_servers}"
    if hidden:
        raise PreflightError(f"{where} does not let {_who(settings)} see topic {', '.join(hidden)}; allow it to read and write the topic.")
    if missing:
        raise PreflightError(f"{where} has no topic {', '.join(missing)}; run `campaignwatch topics create`.")
    return {topic: existing[name] for topic, name in wanted.items()}


async def check_group(settings: Settings, group: str) -> None:
    """Raise PreflightError when Kafka does not let us be in the consumer group."""
    async with _admin(settings) as admin:
        try:
            await admin.find_coordinator(group)
        except GroupAuthorizationFailedError as error:
            where = f"Kafka at {settings.kafka.bootstrap_servers}"
            raise PreflightError(
                f"{where} does not let {_who(settings)} use consumer group {group}; allow it to read the group."
            ) from error
        except CoordinatorNotAvailableError:
            # The first group of a new broker: it is about to make the topic for the groups' offsets.
            pass


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected client. Raises PreflightError, with the reason, when Kafka cannot be reached."""
    admin = AIOKafkaAdminClient(**connection(settings.kafka), client_id="campaignwatch-preflight", request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError, ValueError) as error:
        reason = await why_not(settings.kafka) or f"{str(error) or 'no answer in time'}; try again, and see the broker's log"
        raise PreflightError(f"Kafka cannot be reached at {settings.kafka.bootstrap_servers}: {reason}.") from error
    finally:
        await admin.close()


def _who(settings: Settings) -> str:
    return f"user {settings.kafka.sasl_username}" if settings.kafka.sasl else "this client"


async def check_redis(settings: Settings) -> None:
    """Raise PreflightError when Redis is away, refuses the login, cannot be written to, or may drop keys on its own."""
    shown = shown_url(settings.redis.url)
    hint = "set redis.url (CAMPAIGNWATCH_REDIS__URL)"
    try:
        client = redis.Redis.from_url(
            settings.redis.url, socket_timeout=settings.redis.timeout, socket_connect_timeout=settings.redis.timeout
        )
    except ValueError:
        # Without the cause: what it takes for a port may be a piece of the password.
        raise PreflightError(
            f"redis.url {shown!r} is not a Redis URL; {hint}, such as redis://:PASSWORD@127.0.0.1:6379/0. Signs such as / # ? @ in the "
            "password are written as %2F %23 %3F %40."
        ) from None
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

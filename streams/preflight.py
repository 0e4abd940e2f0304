"""Looks at the backing services before a process starts, so that what is wrong is said in a sentence and not in a stack trace.

The libraries below would otherwise end the process without a reason (an absent broker), or go on with data that silently goes
missing (a Redis that evicts keys).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError
from redis.exceptions import AuthenticationError, ClusterError, NoPermissionError, RedisError, ResponseError

from streams.config import Settings, Topic
from streams.errors import UserError
from streams.kafka import connection
from streams.kafka_probe import why_not
from streams.redis_client import connect, shown
from streams.topics import existing_partitions, hidden_topics

#: Milliseconds for an answer of Kafka, then it is looked into why there is none.
_TIMEOUT_MS = 10_000
_HINT = "set redis.url (CAMPAIGNWATCH_REDIS__URL)"
_KEEPS_ALL = "noeviction"
_WRITE_AND_REMOVE = "redis.call('SET', KEYS[1], '1', 'EX', '60') return redis.call('DEL', KEYS[1])"


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
async def kafka_within_reach(settings: Settings, *more: type[Exception]) -> AsyncIterator[None]:
    """Raises PreflightError, with the reason, when what is done with Kafka in this context fails, or raises one of `more`."""
    try:
        yield
    except (KafkaError, *more) as error:
        reason = await why_not(settings.kafka) or f"{str(error) or 'no answer in time'}; try again, and see the broker's log"
        raise PreflightError(f"Kafka cannot be reached at {settings.kafka.bootstrap_servers}: {reason}.") from error


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected client. Raises PreflightError, with the reason, when Kafka cannot be reached."""
    admin = AIOKafkaAdminClient(**connection(settings.kafka), client_id="campaignwatch-preflight", request_timeout_ms=_TIMEOUT_MS)
    async with kafka_within_reach(settings, OSError, ValueError):
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


def _who(settings: Settings) -> str:
    return f"user {settings.kafka.sasl_username}" if settings.kafka.sasl else "this client"


async def check_redis(settings: Settings) -> None:
    """Raise PreflightError when Redis is away, refuses the login or the certificate, cannot be written to, or may drop keys on its own."""
    client: Any = connect(settings)
    try:
        cluster_mode = (await _asked(settings, client.info("cluster"))) if not settings.redis.is_cluster else {}
        if cluster_mode.get("cluster_enabled"):
            raise PreflightError(
                f"Redis at {shown(settings)} is a node of a cluster; set redis.cluster to true (CAMPAIGNWATCH_REDIS__CLUSTER=true)."
            )
        if settings.redis.is_cluster:
            await _check_cluster(settings, client)
        else:
            await _check_server(settings, client, shown(settings))
        await _check_rights(settings, client)
    finally:
        await client.aclose()


async def unsafe_eviction(settings: Settings, client: Any) -> str | None:
    """The first server that may drop keys when its memory is full, and its maxmemory-policy; None when none may. Raises redis errors."""
    if not settings.redis.is_cluster:
        policy = _policy(await client.info("memory"))
        return None if policy == _KEEPS_ALL else f"{shown(settings)} ({policy})"
    await client.initialize()
    for node in client.get_primaries():
        policy = _policy(await client.plain(node).info("memory"))
        if policy != _KEEPS_ALL:
            return f"{node.name} ({policy})"
    return None


def _policy(memory: Mapping[str, Any]) -> str:
    return str(memory.get("maxmemory_policy", _KEEPS_ALL))


async def _check_server(settings: Settings, client: Any, name: str) -> None:
    memory = await _asked(settings, client.info("memory"))
    replication = await _asked(settings, client.info("replication"))
    if replication.get("role") == "slave":
        raise PreflightError(f"Redis at {name} is a replica and cannot be written to; {_HINT} of its primary.")
    if _policy(memory) != _KEEPS_ALL:
        raise PreflightError(
            f"Redis at {name} has maxmemory-policy {_policy(memory)}: it may drop tables when its memory is full, and the numbers would be "
            f"wrong without a word; set maxmemory-policy to {_KEEPS_ALL}."
        )


async def _check_cluster(settings: Settings, client: Any) -> None:
    await _asked(settings, client.initialize())
    for node in client.get_primaries():
        plain = client.plain(node)
        words = await _asked(settings, plain.execute_command("CLUSTER INFO"))
        if words.get("cluster_state") != "ok":
            raise PreflightError(
                f"Redis Cluster: node {node.name} says cluster_state {words.get('cluster_state')} with {words.get('cluster_slots_ok')} of "
                "16384 slots served; see `redis-cli cluster nodes` for the masters that failed, and start them or let replicas take over."
            )
        await _check_server(settings, plain, node.name)


async def _check_rights(settings: Settings, client: Any) -> None:
    """Try what the processes do, on a key of their own, so that a missing right is found now and not in the middle of the work."""
    key = f"{settings.redis.namespace}:{{preflight}}:{secrets.token_hex(8)}"
    await _asked(settings, client.eval(_WRITE_AND_REMOVE, 1, key))


async def _asked(settings: Settings, answer: Awaitable[Any]) -> Any:
    """Await an answer of Redis. Raises PreflightError with what to do about it."""
    where = shown(settings)
    try:
        return await answer
    except NoPermissionError as error:
        raise PreflightError(
            f"Redis at {where} lets user {settings.redis.username or 'default'} in but not do all it must ({error}); give it the rights "
            'that docs/operations.md lists under "Redis with TLS, ACL or as a cluster".'
        ) from error
    except AuthenticationError as error:
        raise PreflightError(f"Redis at {where} refuses the login ({error}); set redis.username and redis.password.") from error
    except RedisError as error:
        raise PreflightError(_why_not(settings, where, error)) from error
    except (OSError, TimeoutError) as error:
        raise PreflightError(_why_not(settings, where, error)) from error


def _why_not(settings: Settings, where: str, error: BaseException) -> str:
    reason, secure = str(error), settings.redis.url.startswith("rediss://")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        if "ostname mismatch" in reason or "not valid for" in reason:
            return (
                f"Redis at {where} shows a certificate for another host name ({reason}); put a name that it holds into redis.url, or set "
                "redis.check_hostname to false if the network is yours."
            )
        return f"Redis at {where} shows a certificate that no known CA vouches for ({reason}); set redis.ca_file to the CA's certificate."
    if secure and ("CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason.upper()):
        return f"Redis at {where} asks for a client certificate ({reason}); set redis.cert_file and redis.key_file."
    if secure and settings.redis.cert_file is None and ("closed by server" in reason or "reset by peer" in reason):
        return (
            f"Redis at {where} closes the connection after the TLS greeting ({reason}), as one does that asks for a client certificate; "
            "set redis.cert_file and redis.key_file."
        )
    if "WRONG_VERSION_NUMBER" in reason or (secure and "Timeout connecting" in reason):
        return f"Redis at {where} does not answer in TLS ({reason}); write redis:// in redis.url, or turn TLS on at the server."
    if "cluster support disabled" in reason or "Cluster mode is not enabled" in reason:
        return f"Redis at {where} is no cluster; set redis.cluster to false."
    if isinstance(error, ResponseError) and not isinstance(error, ClusterError):
        return f"Redis at {where} answers with an error ({reason})."
    return f"Redis cannot be reached at {where} ({reason}); start it, or {_HINT}."

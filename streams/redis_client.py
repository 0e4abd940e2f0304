"""The one place that knows how to connect to Redis: plain or TLS, with a login, one server or a cluster.

    client = connect(settings)
    ...
    await client.aclose()

Every caller repeats what fails for as long as it makes sense to it, so the client itself tries only once more (for a connection that a
restarted server has closed) and every call ends within a small multiple of `redis.timeout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError

from streams.config import Redis as RedisSettings
from streams.config import Settings
from streams.errors import UserError
from streams.redis_cluster import ClusterClient
from streams.secrets import shown_url

_EXAMPLE = "redis://127.0.0.1:6379/0"
_RETRIES = 1
#: Seconds that a connection may lie unused before it is tried with a PING first.
_HEALTH_CHECK_INTERVAL = 30


def connect(settings: Settings) -> Redis:
    """A client for what `settings.redis` says; nothing is sent yet. Raises UserError when the settings cannot be.

    For a cluster it is a client with the same commands, whose errors are redis errors too. See `streams.redis_cluster` for its pipelines.
    """
    section = settings.redis
    urls = _urls(section)
    options = _options(section)
    try:
        if section.is_cluster:
            return cast(Redis, ClusterClient.of_urls(urls, **options))
        return Redis.from_url(urls[0], **options)
    except ValueError:
        # Without the cause: what it takes for a port may be a piece of the password.
        raise UserError(
            f"redis.url {shown(settings)!r} is not a Redis URL; it should look like {_EXAMPLE}. Signs such as / # ? @ in a password are "
            "written as %2F %23 %3F %40."
        ) from None
    except OSError as error:
        raise UserError(f"redis.ca_file, redis.cert_file or redis.key_file cannot be used: {error}") from error


def shown(settings: Settings) -> str:
    """redis.url as messages may show it: without a login."""
    return shown_url(settings.redis.url)


def _options(section: RedisSettings) -> dict[str, Any]:
    # A primary that has become a replica keeps its connections: only a new one finds where the primary is now.
    options: dict[str, Any] = {} if section.is_cluster else {"retry_on_error": [ReadOnlyError]}
    options |= {
        "socket_timeout": section.timeout,
        "socket_connect_timeout": section.timeout,
        "health_check_interval": _HEALTH_CHECK_INTERVAL,
        "retry": Retry(NoBackoff(), _RETRIES),
    }
    if section.url.startswith("rediss://"):
        options |= {
            "ssl_ca_certs": _path(section.ca_file),
            "ssl_certfile": _path(section.cert_file),
            "ssl_keyfile": _path(section.key_file),
            "ssl_check_hostname": section.check_hostname,
        }
    return options


def _path(path: object) -> str | None:
    return None if path is None else str(path)


def _urls(section: RedisSettings) -> Sequence[str]:
    """A URL per server that is named, each with the login that counts."""
    try:
        parts = urlsplit(section.url)
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        if section.username is not None:
            username = quote(section.username, safe="")
        if section.password is not None:
            password = quote(section.password.get_secret_value(), safe="")
        login = f"{username}:{password}@" if username or password else ""
        # urlunsplit would drop the slashes of a unix:// URL.
        path = urlunsplit(("", "", parts.path, parts.query, ""))
        return [f"{parts.scheme}://{login}{host}{path}" for host in hosts.split(",")]
    except ValueError:
        raise UserError(f"redis.url {shown_url(section.url)!r} is not a URL; it should look like {_EXAMPLE}.") from None

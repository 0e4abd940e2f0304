"""What a client of Redis raises while its connections break, as redis errors, so that callers who wait for Redis wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from redis.exceptions import ClusterError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError


@contextlib.contextmanager
def as_redis_errors() -> Iterator[None]:
    """Raise a redis error for whatever else comes out of the client, such as an attribute of a connection that is gone."""
    try:
        yield
    except (RedisError, OSError, TimeoutError):
        raise
    except RedisClusterException as error:
        raise ClusterError(str(error)) from error
    except Exception as error:
        raise RedisConnectionError(f"the client of Redis failed: {error!r}") from error

"""Which replica evaluates: a lease in Redis whose token fences every write of the leader."""

from __future__ import annotations

import asyncio
from importlib import resources

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.config import Settings
from streams.tables.keys import alerts_key

_SCRIPT = resources.files("alerts.app").joinpath("lease.lua").read_text(encoding="utf-8")
#: Renewals within the life of a lease.
_RENEWALS = 3


def lease_key(namespace: str) -> str:
    """Holds the leader's token: the number of its term, a colon, its name."""
    return alerts_key(namespace, "lease")


def fence_key(namespace: str) -> str:
    """Counts the terms, so that no two have the same token."""
    return alerts_key(namespace, "fence")


class Lease:
    """The lease of one installation, as one replica sees it. Raises redis errors when Redis is away."""

    def __init__(self, redis: Redis, settings: Settings, name: str) -> None:
        namespace = settings.redis.namespace
        self._name = name
        self._seconds = settings.alerts.lease
        self._keys = [lease_key(namespace), fence_key(namespace)]
        self._script = redis.register_script(_SCRIPT)

    async def acquire(self) -> str | None:
        """The token of a new term, or None while another replica leads."""
        token = await self._call("acquire", self._name)
        return token.decode() if isinstance(token, bytes) else token

    async def renew(self, token: str) -> bool:
        """Lead on. False when the lease is gone: another replica may lead."""
        return bool(await self._call("renew", token))

    async def release(self, token: str) -> None:
        """Let another replica lead at once."""
        await self._call("release", token)

    async def keep(self, token: str) -> None:
        """Renew until that fails, then return. Returns before the lease can have run out in Redis, also when Redis does not answer."""
        loop = asyncio.get_running_loop()
        pause = self._seconds / _RENEWALS
        # Half a pause earlier than Redis lets go, for a clock that runs a little slow.
        good_until = loop.time() + self._seconds - pause / 2
        while True:
            await asyncio.sleep(pause)
            asked = loop.time()
            try:
                async with asyncio.timeout_at(good_until):
                    if not await self.renew(token):
                        return
                good_until = asked + self._seconds - pause / 2
            except (RedisError, OSError, TimeoutError):
                if loop.time() + pause >= good_until:
                    return

    async def _call(self, what: str, who: str) -> bytes | str | None:
        result: bytes | str | None = await self._script(keys=self._keys, args=[what, who, int(self._seconds * 1000)])
        return result

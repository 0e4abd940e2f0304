"""The list of erased users: what keeps the log from bringing them back.

A sorted set `NAMESPACE:erased` of 64-bit keyed digests, scored by the time of the erasure in epoch ms. An erasure writes the list first and
then announces itself in the meta hash of every partition. Owners look there before each flush and read the list when there is news; a
flush that was made without it is refused, in the script that would apply it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from streams.ingest.texts import Texts
from streams.ingest.users import user_digests

Ints = NDArray[np.int64]
Users = tuple[Ints, NDArray[np.uint32]]

#: How the name of an erasure begins, where another writer's or an earlier erasure's could stand.
ERASING = "erasing"


def erased_key(namespace: str) -> str:
    """Key of the list; all generations of the tables share it."""
    return f"{namespace}:erased"


class Erased:
    """Users whose events from before their erasure (epoch ms) add nobody to `reach`."""

    def __init__(self, key: str, times: Mapping[bytes, int]) -> None:
        self._key = key
        self._times = dict(times)

    def __bool__(self) -> bool:
        return bool(self._times)

    def without(self, users: Users | None, user_id: Texts, record_time: Ints) -> Users | None:
        """`users` as (number of the event, hash) without those who were erased after the event's record time."""
        if users is None or not self._times:
            return users
        at, hashes = users
        past = np.flatnonzero(record_time[at] < max(self._times.values()))
        names = [name or "" for name in user_id.rows(at[past]).strings()]
        different = sorted(set(names))
        digests = zip(different, user_digests(self._key, different), strict=True)
        until = {name: self._times[digest] for name, digest in digests if digest in self._times}
        if not until:
            return users
        keep = np.ones(len(at), np.bool_)
        keep[past] = record_time[at[past]] >= np.array([until.get(name, -1) for name in names], np.int64)
        return (at[keep], hashes[keep]) if keep.any() else None


async def load_erased(redis: Redis, namespace: str, key: str) -> Erased:
    """The list as Redis has it."""
    client: Any = redis
    stored = await client.zrange(erased_key(namespace), 0, -1, withscores=True)
    return Erased(key, {digest: int(score) for digest, score in stored})


async def remember_erased(redis: Redis, namespace: str, key: str, users: Sequence[str], now: int, keep: int) -> None:
    """Put users on the list at `now` (epoch ms) and take off who has been there for `keep` ms."""
    client: Any = redis
    pipe = client.pipeline(transaction=True)
    pipe.zremrangebyscore(erased_key(namespace), "-inf", now - keep)
    pipe.zadd(erased_key(namespace), dict.fromkeys(user_digests(key, users), now))
    pipe.pexpire(erased_key(namespace), keep)
    await pipe.execute()

"""Taking users out of every reach log in Redis while workers go on.

    list them as erased -> announce it to every owner -> find the logs that hold them -> cut them out, partition by partition

No flush is applied that was made without knowledge of an erasure that is announced, so a partition whose logs do not hold a user when they
are searched does not get one from old events later, and its owner goes on undisturbed. The last step is a script per log that fences the
owner of the partition, so that none keeps in memory what is no longer stored.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from streams.config import Settings
from streams.ingest.texts import Texts
from streams.ingest.users import user_hasher
from streams.kpis.sketches import SPARSE_LIMIT
from streams.privacy.erased import ERASING, remember_erased
from streams.tables.keys import PANE

_SCRIPT = resources.files(__package__).joinpath("erase.lua").read_text()
_ANNOUNCE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'erasure', ARGV[1]) end return 0"
#: Logs fetched at once.
_LOGS = 50
_LOW_32 = np.uint64(0xFFFF_FFFF)


@dataclass(slots=True)
class Removed:
    """What an erasure found."""

    #: Reach logs looked at.
    logs: int = 0
    #: Topic -> entries (a user in a row of a cube and pane), taken out or, in a dry run, found.
    entries: Counter[str] = field(default_factory=Counter)
    #: Logs that held them.
    changed: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A reach log with users to be erased."""

    name: bytes
    hashes: tuple[bytes, ...]
    entries: int

    @property
    def tag(self) -> bytes:
        """Common start of all keys of its partition."""
        return self.name[: self.name.index(b"}:") + 2]

    @property
    def pane_and_cube(self) -> tuple[bytes, bytes]:
        """What its pane is called where sizes are kept, and its cube."""
        _, size, start, cube = self.name[len(self.tag) :].split(b":", 3)
        return b":".join((PANE.encode(), size, start)), cube

    @property
    def topic(self) -> str:
        """Full name of its topic."""
        return self.tag.decode().partition("{")[2].rpartition("}")[0].rpartition(":")[0]


Progress = Callable[[str], None]


async def erase(
    redis: Redis,
    settings: Settings,
    users: Sequence[str],
    now: int,
    *,
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> Removed:
    """Erase users as of `now`, epoch ms. Safe to repeat; Redis errors pass through. `progress` is told in words how far it is."""
    namespace, key = settings.redis.namespace, settings.privacy.user_key.get_secret_value()
    users = sorted(set(users))
    erasure = f"{ERASING}:{secrets.token_hex(8)}"
    if not dry_run:
        await remember_erased(redis, namespace, key, users, now, settings.erased_keep_hours * 3_600_000)
        await _announce(redis, namespace, erasure)
    removed = Removed()
    found: dict[bytes, _Held] = {}
    async for held in _search(redis, namespace, user_hasher(key)(Texts.of(users)), removed, progress):
        found[held.name] = held  # SCAN may return a key twice
    script = redis.register_script(_SCRIPT)
    # Partition by partition: each owner is disturbed once, and not for longer than its own logs take.
    for number, name in enumerate(sorted(found)):
        held = found[name]
        entries = held.entries
        if not dry_run:
            keys = [name, held.tag + b"meta", held.tag + b"kept"]
            entries = int(await script(keys=keys, args=[erasure, SPARSE_LIMIT, *held.pane_and_cube, *held.hashes]))
            if number % _LOGS == 0:
                progress(f"{number} of {len(found)} logs changed")
        if entries:
            removed.changed += 1
            removed.entries[held.topic] += entries
    return removed


async def _announce(redis: Redis, namespace: str, erasure: str) -> None:
    """Have every partition's owner read the list of erased users before its next flush."""
    announce = redis.register_script(_ANNOUNCE)
    for pattern in _patterns(namespace, "meta"):
        async for meta in redis.scan_iter(match=pattern, count=1_000):
            await announce(keys=[meta], args=[erasure])


async def _search(redis: Redis, namespace: str, wanted: NDArray[np.uint32], removed: Removed, progress: Progress) -> AsyncIterator[_Held]:
    """Every reach log that holds one of the `wanted` hashes. The logs looked at are counted in `removed`."""
    waiting: list[bytes] = []
    for pattern in _patterns(namespace, "reach:*"):
        async for name in redis.scan_iter(match=pattern, count=1_000):
            waiting.append(name)
            if len(waiting) == _LOGS:
                for held in await _look(redis, waiting, wanted):
                    yield held
                removed.logs += len(waiting)
                waiting.clear()
                progress(f"{removed.logs} reach logs looked at")
    for held in await _look(redis, waiting, wanted):
        yield held
    removed.logs += len(waiting)


async def _look(redis: Redis, names: Sequence[bytes], wanted: NDArray[np.uint32]) -> list[_Held]:
    # A pipeline and no MGET: on a cluster the logs lie on different nodes.
    pipe: Any = redis.pipeline(transaction=False)
    for name in names:
        pipe.get(name)
    found = []
    for name, log in zip(names, await pipe.execute() if names else [], strict=True):
        hashes = (np.frombuffer(log or b"", np.uint64) & _LOW_32).astype(np.uint32)
        held = hashes[np.isin(hashes, wanted)]
        if len(held):
            found.append(_Held(name, tuple(h.tobytes() for h in np.unique(held)), len(held)))
    return found


def _patterns(namespace: str, name: str) -> tuple[str, str]:
    """Keys of this name in every partition: of the tables, and of other generations of them."""
    return f"{namespace}:{{*}}:{name}", f"{namespace}~*:{{*}}:{name}"

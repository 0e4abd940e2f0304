"""The outbox in Redis: reading it behind a cursor per sink, and the lease that lets one replica at a time move that cursor.

A Redis that comes back older has an outbox that ends, or goes on differently, before the entries that somebody read of it. Whoever reads on
from such an entry, or would put the cursor on it, is told: what was lost is not there to be passed, and what replaces it must be read.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.incidents.change import Change
from streams.tables.keys import alerts_key

#: A sink that has no cursor yet starts with the changes of the last 15 minutes: recent enough to act on, and no flood of old news.
FIRST_LOOK_BACK_MS = 15 * 60_000
#: What waits for a sink is kept until no replica has had it in its settings for a week: it was switched off.
FORGET_SINK_MS = 7 * 86_400_000
#: Delivered changes stay readable in the outbox for an hour.
KEEP_DELIVERED_MS = 3_600_000

# The keys of all scripts share the hash tag {alerts}. A lease belongs to whoever's token it holds.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
# Whether an entry that was in the stream is not there any more although it was not trimmed, which takes the oldest first.
_LOST = """
local function lost(stream, id)
  if #redis.call('XRANGE', stream, id, id) > 0 then return false end
  if redis.call('EXISTS', stream) == 0 or #redis.call('XRANGE', stream, '-', '(' .. id, 'COUNT', 1) > 0 then return true end
  if #redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 1) > 0 then return false end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local last_ms, last_n = string.match(info[i + 1], '(%d+)-(%d+)')
      local ms, n = string.match(id, '(%d+)-(%d+)')
      last_ms, last_n, ms, n = tonumber(last_ms), tonumber(last_n), tonumber(ms), tonumber(n)
      return last_ms < ms or (last_ms == ms and last_n < n)
    end
  end
  return true
end
"""
# Only the holder of the lease moves the cursor: a replica that was thought dead cannot turn it back. And only to an entry that is there.
_ADVANCE = f"""{_LOST}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and lost(KEYS[3], ARGV[2]) then return -1 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
_READ = f"""{_LOST}
if ARGV[3] ~= '' and lost(KEYS[1], ARGV[1]) then return false end
return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
"""
_TIME = "return redis.call('TIME')"


def outbox_key(namespace: str) -> str:
    """The stream that incidents append their changes to."""
    return alerts_key(namespace, "outbox")


def cursor_key(namespace: str, sink: str) -> str:
    """Holds the id of the last entry that `sink` is done with."""
    return alerts_key(namespace, f"cursor:{sink}")


def sinks_key(namespace: str) -> str:
    """Hash: sink -> when a replica last had it in its settings, epoch ms."""
    return alerts_key(namespace, "sinks")


def lease_key(namespace: str, sink: str) -> str:
    """Holds the token of the replica that delivers to `sink`."""
    return alerts_key(namespace, f"delivers:{sink}")


class OutboxFellBack(Exception):
    """Redis came back older: the entry that was read is not in the outbox any more. Begin again at the cursor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the outbox. `change` is None where the entry cannot be read; `problem` then says why."""

    id: str
    change: Change | None
    problem: str = ""

    @property
    def written_at(self) -> float:
        """When Redis took it, epoch seconds."""
        return _ms(self.id) / 1000


class Outbox:
    """The stream and the sinks' cursors. Raises redis errors when Redis is away."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._key = outbox_key(namespace)
        self._sinks = sinks_key(namespace)

    async def cursor(self, sink: str) -> str:
        """Id of the last entry that `sink` is done with; for a new sink one that lies FIRST_LOOK_BACK_MS back."""
        stored = _text(await self._redis.get(cursor_key(self._namespace, sink)))
        if stored:
            return stored
        return f"{max(0, await self._now() - FIRST_LOOK_BACK_MS)}-0"

    async def read(self, after: str, count: int, *, was_read: bool = False) -> list[Entry]:
        """Up to `count` entries behind the id `after`, oldest first.

        `was_read`: `after` is an entry that was read before, and OutboxFellBack is raised when the outbox has lost it.
        """
        found = await _eval(self._redis, _READ, [self._key], [after, str(count), "yes" if was_read else ""])
        if found is None:
            raise OutboxFellBack
        return [_entry(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in found]

    async def trim(self, sinks: Sequence[str]) -> None:
        """Remove what is older than KEEP_DELIVERED_MS and every sink is done with.

        Those are `sinks`, which this replica has in its settings, and those that any replica had there within FORGET_SINK_MS.
        """
        now = await self._now()
        await cast("Any", self._redis).hset(self._sinks, mapping=dict.fromkeys(sinks, str(now)))
        had = await cast("Any", self._redis).hgetall(self._sinks)
        known = [_text(sink) for sink, at in had.items() if now - int(at) < FORGET_SINK_MS]
        cursors = [_text(c) for c in await self._redis.mget([cursor_key(self._namespace, sink) for sink in known if sink])]
        if not all(cursors):
            return
        done = min((c for c in cursors if c), key=_order)
        old = f"{max(0, now - KEEP_DELIVERED_MS)}-0"
        await self._redis.xtrim(self._key, minid=min(done, old, key=_order), approximate=False)

    async def overflows(self, cursor: str, limit: int) -> bool:
        """Whether the stream is as long as its writer lets it grow and all of it waits behind `cursor`: the oldest are being dropped."""
        if int(await self._redis.xlen(self._key)) < limit:
            return False
        oldest = await self.read("0-0", 1)
        return bool(oldest) and _order(oldest[0].id) > _order(cursor)

    async def _now(self) -> int:
        """The time in ms of the server that holds the stream, which the ids are made of."""
        seconds, micros = await _eval(self._redis, _TIME, [self._key], [])
        return int(seconds) * 1000 + int(micros) // 1000


class Lease:
    """The right of one replica to deliver to one sink, for `ttl` seconds at a time."""

    def __init__(self, redis: Redis, namespace: str, sink: str, ttl: float) -> None:
        self._redis = redis
        self._key = lease_key(namespace, sink)
        self._cursor = cursor_key(namespace, sink)
        self._outbox = outbox_key(namespace)
        self._token = uuid.uuid4().hex
        self._ttl = ttl
        self._held_until = 0.0

    async def acquire(self) -> bool:
        """Take the lease if it is free or already this replica's."""
        return await self._extend(_ACQUIRE)

    async def keep(self) -> None:
        """Renew until the lease is lost: taken by another, or not renewed in time because Redis was away. Returns then."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                # Python 3.11's wait_for would take no notice of being cancelled in the moment in which the answer comes.
                async with asyncio.timeout(self._ttl / 3):
                    held = await self._extend(_RENEW)
                if not held:
                    return
            except (RedisError, OSError, TimeoutError):
                # Redis may be back before the lease runs out; until then nobody else can take it.
                if loop.time() >= self._held_until - self._ttl / 3:
                    return

    async def advance(self, entry_id: str, *, was_read: bool = True) -> bool:
        """Move the sink's cursor. False, and nothing moved, when the lease is another's by now.

        `was_read`: it is moved to an entry that was read, and OutboxFellBack is raised when the outbox has lost it; else to any id.
        """
        keys = [self._key, self._cursor, self._outbox]
        moved = int(await _eval(self._redis, _ADVANCE, keys, [self._token, entry_id, "yes" if was_read else ""]))
        if moved < 0:
            raise OutboxFellBack
        return bool(moved)

    async def release(self) -> None:
        """Let another replica take over at once."""
        await _eval(self._redis, _RELEASE, [self._key], [self._token])

    async def _extend(self, script: str) -> bool:
        asked = asyncio.get_running_loop().time()
        held = bool(await _eval(self._redis, script, [self._key], [self._token, str(int(self._ttl * 1000))]))
        if held:
            # Counted from before the question, so that this side always gives up first.
            self._held_until = asked + self._ttl
        return held


async def _eval(redis: Redis, script: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
    return await cast("Any", redis).eval(script, len(keys), *keys, *arguments)


def _entry(entry_id: Any, fields: dict[Any, Any]) -> Entry:
    name = _text(entry_id) or ""
    raw = {_text(key): value for key, value in fields.items()}.get("change")
    if raw is None:
        return Entry(name, None, "it has no field `change`")
    try:
        return Entry(name, Change.model_validate_json(raw))
    except ValidationError as error:
        first = error.errors()[0]
        return Entry(name, None, f"{'.'.join(map(str, first['loc'])) or 'change'}: {first['msg']}")


def _text(value: Any) -> str | None:
    # Works with clients that decode their answers and with those that do not.
    return value.decode() if isinstance(value, bytes) else value


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def _ms(entry_id: str) -> int:
    return _order(entry_id)[0]

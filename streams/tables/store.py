"""Writing one topic-partition's tables in Redis: claim, load, and apply a flush atomically.

The only room beside reader.py that talks to Redis.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from importlib import resources
from itertools import chain
from typing import Any, cast

import msgpack
import numpy as np
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from streams.privacy.erased import ERASING, Erased, load_erased
from streams.redis_errors import as_redis_errors
from streams.tables import kept
from streams.tables.aside import aside
from streams.tables.keys import AT_ONCE, KINDS, Command, PartitionKeys, batched, pane_name, pane_of, partitions_key
from streams.tables.meta import FORMAT, Meta
from streams.tables.opentables import OpenTables, PaneId

_SCRIPTS = {name: resources.files(__package__).joinpath(f"{name}.lua").read_text() for name in ("apply", "claim", "sizes")}

#: Keys of panes that are looked at in one step, as Redis does nothing else meanwhile; and in one turn.
_KEYS_AT_ONCE, _KEYS_A_TURN = 800, 16_000
#: Lengths of keys that are read at once.
_LENGTHS_AT_ONCE = 1_000
#: Packed without waiting for a thread.
_FEW_COMMANDS = 10


class Fenced(Exception):
    """Redis does not hold what this owner believes in: another worker owns the partition, or Redis came back with an older state."""


class FencedToErase(Fenced):
    """Users are taken out of the partition's tables. Nobody else owns it: it may be claimed again at once."""


class Unheeded(FencedToErase):
    """Users were erased since this owner last looked, and what it wanted to write is made without knowledge of it."""


class Superseded(Exception):
    """These tables are no longer in use: others were built in their place."""


class PartitionStore:
    """Redis' side of one topic-partition. Redis errors pass through: the caller decides about trying again."""

    def __init__(self, redis: Redis, keys: PartitionKeys, cubes: Iterable[str]) -> None:
        self._redis: Any = redis
        self._of_cluster = isinstance(redis, RedisCluster)
        self.keys = keys
        self._cubes = tuple(cubes)
        self._writer = ""
        #: The newest erasure of users that this side heeds.
        self._erasure = ""
        self._apply = redis.register_script(_SCRIPTS["apply"])
        self._claim = redis.register_script(_SCRIPTS["claim"])
        self._sizes = redis.register_script(_SCRIPTS["sizes"])

    async def claim(self, start_offset: int, now: int, *, role: str = "worker") -> Meta:
        """Become the partition's writer; whoever was it before is fenced from now on. Raises Superseded.

        Tables in a form that is newer than FORMAT are only looked at, and their writer stays who it is.
        `role` begins the writer's name: who looks into Redis sees what wrote last.
        """
        self._writer = f"{role}:{secrets.token_hex(8)}"
        await self.register()
        flat = await self._claim(keys=[self.keys.meta(), self.keys.kept()], args=[self._writer, start_offset, now, FORMAT])
        if flat is None:
            raise Superseded(f"{self.keys.tag} is no longer in use")
        found: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
        self._erasure = found.get(b"erasure", b"").decode()
        return Meta.parse(found)

    async def meta(self) -> Meta:
        """The bookkeeping as it stands, whoever writes it; that of an unread partition where there is none."""
        return Meta.parse(await self._redis.hgetall(self.keys.meta()))

    async def superseded(self) -> bool:
        """Whether other tables were built in the place of these."""
        return bool(await self._redis.hexists(self.keys.meta(), "superseded"))

    async def reinstate(self) -> None:
        """Let tables be written again that had been superseded."""
        await self._redis.hdel(self.keys.meta(), "superseded")

    async def register(self) -> None:
        """Have the partition on the list of those that are read; safe to repeat."""
        await self._redis.sadd(partitions_key(self.keys.namespace), f"{self.keys.topic}:{self.keys.partition}")

    async def writer(self) -> str:
        """Who claimed the partition last: a role and a number, "" for nobody."""
        return (await self._redis.hget(self.keys.meta(), "writer") or b"").decode()

    async def notes(self) -> dict[str, bytes]:
        """What broke the continuity of log and tables so far: kind -> packed note."""
        found = await self._redis.hgetall(self.keys.notes())
        return {kind.decode(): note for kind, note in found.items()}

    async def written_with(self) -> dict[str, str]:
        """The settings that the tables were last written with: name -> value as text. Empty for tables of versions that kept none."""
        found = await self._redis.hgetall(self.keys.settings())
        return {name.decode(): value.decode() for name, value in found.items()}

    async def put_notes(self, notes: Mapping[str, bytes]) -> None:
        """Store notes beside those of other kinds."""
        await self._redis.hset(self.keys.notes(), mapping=dict(notes))

    async def clear(self, before: Meta, after: Meta, notes: Mapping[str, bytes]) -> None:
        """Delete everything of the partition but its notes, then begin anew with `after` and these `notes`. Raises Fenced.

        Only for tables that cannot be gone on with, after a claim that found `before`. `meta` and the index of panes go last, in one step
        with what replaces them: whoever claims tables that were half deleted finds an old form, or panes that are gone, and does it again.
        Once another is the writer, nothing is deleted any more.
        """
        meta, told, index = self.keys.meta().encode(), self.keys.notes().encode(), self.keys.panes().encode()
        gone: list[bytes] = []
        async for key in self._redis.scan_iter(match=f"{_escaped(self.keys.tag)}*", count=1_000):
            if key not in (meta, told, index):
                gone.append(key)
            if len(gone) >= AT_ONCE:
                await self.apply(before.applied_offset, before, [("UNLINK", *gone)])
                gone.clear()
        last: list[Command] = [("UNLINK", *gone)] if gone else []
        last += [("HSET", told, kind, note) for kind, note in notes.items()]
        last += [("UNLINK", index), ("DEL", meta), ("HSET", meta, "writer", self._writer)]
        await self.apply(before.applied_offset, after, last)

    async def known_panes(self) -> list[PaneId]:
        """Every pane that is stored."""
        members = await self._redis.zrange(self.keys.panes(), 0, -1)
        return [pane_of(member.decode()) for member in members]

    async def lost_panes(self, since: int) -> list[PaneId]:
        """Panes from `since` (epoch ms) on that are listed and that Redis does not have.

        Both come and go together, so that something else must have taken them, but for panes so old that Redis lets go of them itself.
        """
        known = [pane for pane in await self.known_panes() if pane[1] >= since]
        lost: list[PaneId] = []
        for some in batched(known, AT_ONCE):
            if await self._redis.exists(*(self.keys.pane(*pane) for pane in some)) < len(some):
                pipe = self._redis.pipeline(transaction=False)
                for pane in some:
                    pipe.exists(self.keys.pane(*pane))
                with as_redis_errors():
                    there = await pipe.execute()
                lost += [pane for pane, is_there in zip(some, there, strict=True) if not is_there]
        # The owner may have deleted some meanwhile, pane and entry in one step.
        still = set(await self.known_panes()) if lost else set()
        return [pane for pane in lost if pane in still]

    async def lost_keys(self, since: int, *, turn: int | None = None) -> list[str]:
        """Keys, by their names behind the tag, that are not as long as their owner left them, of those that hold something from `since`
        (epoch ms) on. Of all keys of a pane together: the name of its hash. Only for tables of a form with lengths.

        A year of panes has very many keys: with a `turn` some hundred panes are looked at, in the next turn others.
        """
        try:
            # Piece by piece, as there may be very many; what is written meanwhile is asked for once more below, or in one step.
            stored = {name: length async for name, length in self._redis.hscan_iter(self.keys.kept(), count=_LENGTHS_AT_ONCE)}
        except ResponseError as error:
            if not _is_of_other_type(error):
                raise
            stored = {}
        found = await aside(kept.parse, stored, since)
        if found is None:
            return [self.keys.behind_tag(self.keys.kept())]
        panes = found.panes
        if turn is not None:
            panes = await aside(found.in_turn, turn, -(-len(panes) * self._keys_a_pane // _KEYS_A_TURN))
        lost = [name for name, (size, entry) in (await self.sizes(panes, found.cubes)).items() if entry not in (None, size)]
        now = await self.lengths(found.single)
        for name in (name for name, length in found.single.items() if now[name] != length):
            # The owner may have written meanwhile, key and length in one step.
            pipe = self._redis.pipeline(transaction=True)
            pipe.hget(self.keys.kept(), name)
            pipe.execute_command(*kept.asked(self.keys, name))
            with as_redis_errors():
                length, answer = await pipe.execute(raise_on_error=False)
            if length is not None and _length(answer) != int(length):
                lost.append(name)
        return lost

    async def lengths(self, names: Collection[str]) -> dict[str, int]:
        """How long keys are, by their names behind the tag; 0 where there is none, -1 where it holds something of another type."""
        lengths: dict[str, int] = {}
        for some in batched(names, AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            for name in some:
                pipe.execute_command(*kept.asked(self.keys, name))
            with as_redis_errors():
                found = await pipe.execute(raise_on_error=False)
            lengths |= zip(some, map(_length, found), strict=True)
        return lengths

    async def sizes(self, panes: Iterable[PaneId], cubes: Sequence[str] | None = None) -> dict[str, tuple[int, int | None]]:
        """How large panes are over `cubes`, without them over those of the settings, by the names of their hashes: fields of the hash and
        bytes of the sketches, -1 where one is of another type.

        Beside it what is kept of that in the same moment; None where nothing is, or over other cubes.
        """
        cubes = self._cubes if cubes is None else cubes
        found: dict[str, tuple[int, int | None]] = {}
        for some in batched(panes, max(1, min(AT_ONCE, _KEYS_AT_ONCE // self._keys_a_pane))):
            names = [self.keys.behind_tag(self.keys.pane(*pane)) for pane in some]
            keys = [self.keys.kept(), *chain.from_iterable(self.keys_of(pane, cubes) for pane in some)]
            answers = iter(await self._sizes(keys=keys, args=[kept.named(cubes), *names]))
            found |= {name: (int(next(answers)), None if (entry := next(answers)) is None else int(entry)) for name in names}
        return found

    @property
    def _keys_a_pane(self) -> int:
        return 1 + len(self.keys.sketches) * len(self._cubes)

    def keys_of(self, pane: PaneId, cubes: Sequence[str] | None = None) -> list[str]:
        """All keys of a pane over `cubes`, without them over those of the settings; its hash first."""
        return [self.keys.pane(*pane), *self.keys.pane_sketches(*pane, self._cubes if cubes is None else cubes)]

    async def campaigns(self) -> set[str]:
        """Ids of the campaigns of the registry."""
        return {campaign.decode() for campaign in await self._redis.hkeys(self.keys.registry())}

    async def rowless(self, cubes: Collection[str], panes: Sequence[PaneId]) -> list[Command]:
        """Commands that take cubes out of `panes`: without the keys of their rows nobody can tell whose their numbers are."""
        pipe = self._redis.pipeline(transaction=False)
        for pane in panes:
            pipe.hkeys(self.keys.pane(*pane))
        with as_redis_errors():
            answers = await pipe.execute(raise_on_error=False)
        commands: list[Command] = []
        for pane, fields in zip(panes, answers, strict=True):
            if isinstance(fields, Exception):
                if _is_of_other_type(fields):
                    continue  # nothing of it can be gone on with
                raise fields
            own = [field for field in fields if field.decode().rpartition("/")[0] in cubes]
            commands += [("HDEL", self.keys.pane(*pane), *some) for some in batched(own, AT_ONCE)]
            if own and own == fields:
                commands.append(("ZREM", self.keys.panes(), pane_name(*pane)))
            commands += [("UNLINK", key) for key in self.keys.pane_sketches(*pane, cubes)]
        return commands

    async def unlisted_panes(self) -> list[PaneId]:
        """Panes that Redis has and the index does not; all keys of Redis are walked for it."""
        known = set(await self.known_panes())
        begin = self.keys.tag + "pane:"
        found = [pane_of(key.decode().removeprefix(begin)) async for key in self._redis.scan_iter(match=f"{_escaped(begin)}*", count=1_000)]
        return sorted(set(found) - known)

    def unlisted(self, panes: Iterable[PaneId]) -> list[Command]:
        """Commands that forget panes that are gone, and let go of what is left of them."""
        names = [(pane_name(*pane), self.keys.pane_sketches(*pane, self._cubes)) for pane in panes]
        commands: list[Command] = [("ZREM", self.keys.panes(), *some) for some in batched((name for name, _ in names), AT_ONCE)]
        return commands + [("UNLINK", *some) for some in batched(chain.from_iterable(logs for _, logs in names), AT_ONCE)]

    async def named_lengths(self) -> list[str]:
        """Names behind the tag of the keys whose lengths are kept."""
        return kept.key_names(name.decode() for name in await self._redis.hkeys(self.keys.kept()))

    async def has_lengths(self) -> bool:
        """Whether the lengths of keys are kept, by the owner before, and of the same cubes."""
        form, cubes = await self._redis.hmget(self.keys.kept(), kept.ALWAYS, kept.CUBES)
        return form is not None and cubes == kept.named(self._cubes).encode()

    def no_lengths(self) -> list[Command]:
        """Commands after which no lengths are kept, as on purpose."""
        return [("DEL", self.keys.kept()), ("HSET", self.keys.kept(), kept.ALWAYS, FORMAT)]

    def lengths_anew(self, lengths: Mapping[str, int]) -> list[Command]:
        """Commands that keep these lengths (name behind the tag -> length) and no others."""
        return kept.written(self.keys, lengths, FORMAT, self._cubes)

    async def expire(self, keys: Iterable[str], seconds: int) -> None:
        """Let keys live so long from now on; there need not be any."""
        for some in batched(keys, AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            for key in some:
                pipe.expire(key, seconds)
            with as_redis_errors():
                await pipe.execute()

    async def erased(self, key: str) -> Erased:
        """Users that events of the past must not bring back."""
        return await load_erased(self._redis, self.keys.namespace.partition("~")[0], key)

    async def newly_erased(self, key: str) -> Erased | None:
        """The same if users were erased since this side last looked, else None. What is applied later heeds them."""
        newest = (await self._redis.hget(self.keys.meta(), "erasure") or b"").decode()
        if newest == self._erasure:
            return None
        # The list is written before the erasure is announced, so that it is not older than what was read here.
        erased = await self.erased(key)
        self._erasure = newest
        return erased

    async def load(self, tables: OpenTables, days: Sequence[int], panes: Sequence[PaneId]) -> None:
        """Read row codes of `days` and whole `panes` into memory."""
        pipe = self._redis.pipeline(transaction=False)
        for day in days:
            for cube in (*self._cubes, KINDS):
                pipe.get(self.keys.rows(cube, day))
        sketches = [(sketch, cube) for sketch in self.keys.sketches for cube in self._cubes]
        for pane in panes:
            pipe.hgetall(self.keys.pane(*pane))
            for sketch, cube in sketches:
                pipe.get(self.keys.sketch(sketch, *pane, cube))
        with as_redis_errors():
            answers = iter(await pipe.execute())
        for day in days:
            tables.load_day(day, {cube: next(answers) or b"" for cube in (*self._cubes, KINDS)})
        for pane in panes:
            fields: Mapping[bytes, bytes] = next(answers)
            tables.load_pane(pane, fields, {key: next(answers) or b"" for key in sketches})

    async def seen(self, buckets: Iterable[int]) -> AsyncIterator[tuple[tuple[int, int], np.ndarray[Any, np.dtype[np.uint64]]]]:
        """Stored digests of applied event ids, part by part so that not all are held twice: where from, rows of (hi, lo, record time)."""
        for bucket in buckets:
            part = 0
            while stored := await self._redis.get(self.keys.seen(bucket, part)):
                yield (bucket, part), np.frombuffer(stored, np.uint64).reshape(-1, 3)
                part += 1

    async def reports(self, identities: Mapping[int, Sequence[bytes]]) -> dict[bytes, bytes]:
        """Stored spend reports, asked for by day and identity."""
        pipe = self._redis.pipeline(transaction=False)
        for day, fields in identities.items():
            pipe.hmget(self.keys.reports(day), list(fields))
        with as_redis_errors():
            answers = await pipe.execute()
        wanted = [field for fields in identities.values() for field in fields]
        found = [value for answer in answers for value in answer]
        return {field: value for field, value in zip(wanted, found, strict=True) if value is not None}

    async def apply(self, expected_offset: int, meta: Meta, commands: Sequence[Command]) -> None:
        """Run the commands and store `meta` in one atomic step, if the partition is still this writer's and at `expected_offset`.

        Safe to repeat after a lost answer. Raises Fenced, of which Unheeded is one, also where somebody made a key something else: Redis
        has then done what comes before it, and whoever claims the partition finds what it has not.
        """
        everything = [*commands, ("HSET", self.keys.meta(), *meta.flat())]
        arguments: list[int | str | bytes] = [
            expected_offset,
            meta.applied_offset,
            self._writer,
            _packed(everything) if len(everything) <= _FEW_COMMANDS else await aside(_packed, everything),
            self._erasure,
        ]
        try:
            answer = await self._apply(keys=_keys_of(everything) if self._of_cluster else [self.keys.meta()], args=arguments)
        except ResponseError as error:
            if _is_of_other_type(error):
                raise Fenced(f"{self.keys.topic}:{self.keys.partition}: a key of its tables has become something else: {error}") from error
            raise
        if answer != b"applied":
            raise _kind_of(answer)(
                f"{self.keys.topic}:{self.keys.partition}: expected offset {expected_offset}, Redis answered {answer.decode()}"
            )


def _escaped(text: str) -> str:
    """For a pattern that matches it as it is."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)


def _is_of_other_type(answer: object) -> bool:
    return isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer)


def _length(answer: Any) -> int:
    if _is_of_other_type(answer):
        return -1
    if isinstance(answer, Exception):
        raise answer
    return int(answer)


def _kind_of(answer: bytes) -> type[Fenced]:
    if answer.startswith(b"unheeded:"):
        return Unheeded
    return FencedToErase if answer.startswith(f"fenced:{ERASING}:".encode()) else Fenced


def _keys_of(commands: Sequence[Command]) -> list[str]:
    """Every key that they name, once; that of the last command first."""
    named = (command[1:] if command[0] == "UNLINK" else command[1:2] for command in reversed(commands))
    return cast("list[str]", list(dict.fromkeys(chain.from_iterable(named))))


def _packed(commands: Sequence[Command]) -> bytes:
    # One by one: a single call for very many would let no other thread have the interpreter, nor a signal.
    packer = msgpack.Packer(use_bin_type=False)
    return b"".join([packer.pack_array_header(len(commands)), *(packer.pack([_text(a) for a in command]) for command in commands)])


def _text(argument: str | bytes | int) -> str | bytes:
    # Lua would turn large integers into floats.
    return str(argument) if isinstance(argument, int) else argument

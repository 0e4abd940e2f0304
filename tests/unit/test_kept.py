"""The lengths that are kept of a partition's keys are those that the keys have."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.dedupe import BUCKET_MS
from streams.panes.ladder import DAY_MS
from streams.tables.kept import Kept, Lengths, asked, in_words, key_names, pane_named, parse, written
from streams.tables.keys import Command, PartitionKeys

KEYS = PartitionKeys("n", "t.spend", 3)
CUBES = ("total", "campaign")
#: As they are kept.
OVER = ("campaign", "total")
NAMES = (KEYS.rows("campaign", 7), KEYS.seen(9), KEYS.seen(9, 1), KEYS.reports(8), KEYS.registry(), KEYS.panes())


class Redis:
    """The hash that the commands write."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}

    def run(self, commands: Iterable[Command]) -> None:
        for name, key, *words in commands:
            assert key == KEYS.kept()
            if name == "DEL":
                self.stored.clear()
            elif name == "HDEL":
                for word in words:
                    self.stored.pop(str(word).encode(), None)
            elif name == "HSET":
                self.stored |= {str(k).encode(): str(v).encode() for k, v in zip(words[::2], words[1::2], strict=True)}
            else:
                assert name == "HINCRBY"
                field = str(words[0]).encode()
                self.stored[field] = str(int(self.stored.get(field, b"0")) + int(words[1])).encode()


STEP = st.tuples(st.sampled_from(("is now", "more", "gone", "write")), st.sampled_from(NAMES), st.integers(1, 9))


@given(st.lists(STEP))
def test_what_is_written_is_what_was_said_of_each_key(steps: list[tuple[str, str, int]]) -> None:
    redis, kept, lengths = Redis(), Kept(KEYS), dict[str, int]()
    redis.run(written(KEYS, {}, 4, CUBES))
    for what, key, length in steps:
        # A key is either set or lengthened, as its owner knows its length or not.
        if what == "is now" and key != KEYS.reports(8):
            kept.is_now(key, length)
            lengths[key] = length
        elif what == "more" and key == KEYS.reports(8):
            kept.has_more(key, length)
            lengths[key] = lengths.get(key, 0) + length
        elif what == "gone":
            kept.are_gone([key])
            lengths.pop(key, None)
        else:
            redis.run(kept.take_commands())
    redis.run(kept.take_commands())
    assert parse(redis.stored, 0) == Lengths({KEYS.behind_tag(key): length for key, length in lengths.items()}, [], OVER)
    assert kept.take_commands() == []


def test_what_was_written_since_the_key_was_lost_tells_nothing() -> None:
    redis, kept = Redis(), Kept(KEYS)
    redis.run(written(KEYS, {"panes": 5}, 4, CUBES))
    redis.stored.clear()
    kept.is_now(KEYS.panes(), 6)
    kept.has_more(KEYS.seen(9), 24)
    redis.run(kept.take_commands())
    assert redis.stored and parse(redis.stored, 0) is None


def test_commands_are_of_bounded_length() -> None:
    kept = Kept(KEYS)
    kept.are_gone(KEYS.reports(day) for day in range(2_000))
    for day in range(3_000, 5_000):
        kept.is_now(KEYS.rows("campaign", day), 1)
    commands = [*kept.take_commands(), *written(KEYS, {f"rows:campaign:{day}": 1 for day in range(5_000)}, 4, CUBES)]
    assert max(map(len, commands)) == 2 + 2 * 500
    redis = Redis()
    redis.run(commands)
    assert len(redis.stored) == 5_002


def test_nothing_is_told_from_a_key_without_entries() -> None:
    redis = Redis()
    assert parse(redis.stored, 0) is None
    redis.run(written(KEYS, {"registry": 0, "panes": 5}, 4, CUBES))
    assert parse(redis.stored, 0) == Lengths({"panes": 5}, [], OVER)


def test_what_redis_may_have_let_go_of_by_itself_is_not_asked_for() -> None:
    lengths = {KEYS.behind_tag(key): 1 for key in NAMES}
    redis = Redis()
    redis.run(written(KEYS, lengths, 4, CUBES))
    assert parse(redis.stored, 10 * BUCKET_MS - 1) == Lengths(lengths, [], OVER)
    assert parse(redis.stored, 8 * DAY_MS - 1) == Lengths({name: 1 for name in lengths if not name.startswith("seen")}, [], OVER)
    assert parse(redis.stored, 8 * DAY_MS) == Lengths({"reports:8": 1, "registry": 1, "panes": 1}, [], OVER)
    assert parse(redis.stored, 9 * DAY_MS) == Lengths({"registry": 1, "panes": 1}, [], OVER)


def test_each_key_is_asked_by_the_command_of_its_type() -> None:
    told = {name: asked(KEYS, KEYS.behind_tag(name)) for name in (*NAMES, KEYS.pane(10_000, 0), KEYS.sketch("dwell", 10_000, 0, "total"))}
    assert all(key == name for name, (_, key) in told.items())
    assert [command for command, _ in told.values()] == ["STRLEN", "STRLEN", "STRLEN", "HLEN", "HLEN", "ZCARD", "HLEN", "STRLEN"]


def test_sizes_of_panes_come_with_the_cubes_that_they_are_over() -> None:
    pane = KEYS.behind_tag(KEYS.pane(10_000, 70_000))
    assert pane_named(pane) == (10_000, 70_000)
    assert pane_named("panes") is None and pane_named("rows:campaign:7") is None
    stored = {b"form": b"5", b"cubes": b"campaign total", b"panes": b"1", pane.encode(): b"44"}
    assert parse(stored, 0) == Lengths({"panes": 1}, [(10_000, 70_000)], OVER)
    assert parse(stored, 70_000) == Lengths({"panes": 1}, [(10_000, 70_000)], OVER)
    assert parse(stored, 70_001) == Lengths({"panes": 1}, [], OVER)
    assert parse({b"form": b"4", b"panes": b"1"}, 0) == Lengths({"panes": 1}, [], ())
    assert key_names(name.decode() for name in stored) == ["panes", pane]


def test_lost_keys_are_named_while_they_are_few() -> None:
    assert in_words({"rows:total:2", "panes"}) == "panes, rows:total:2"
    assert in_words([f"reports:{day}" for day in range(9)]) == "reports:0, reports:1, reports:2, reports:3, reports:4 and 4 more"


def test_every_pane_is_looked_at_once_in_so_many_turns_though_others_come_and_go() -> None:
    looked: dict[int, list[int]] = {}
    for minute in range(120):
        there = Lengths({}, [(60_000, 60_000 * number) for number in range(minute, minute + 60)], OVER)
        for _, start in there.in_turn(minute, 10):
            looked.setdefault(start // 60_000, []).append(minute)
    assert all(len(looked[number]) == 6 for number in range(60, 120))

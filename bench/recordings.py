"""The topics that contenders read, and what they must make of them.

A recording is `count` events and then closing ones: an event of each key, a minute later than all others, after which every system knows
that the windows before are over. Answers are judged by the windows before the closing events. What must come out is worked out here in
plain Python from the very bytes that are sent; it shares no code with the product or a contender.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bench import ysb_events
from bench.clicks import Load, clicks
from streams.config import Settings, Topic
from streams.producing import Sender
from streams.topics import create_topics

WINDOW = 10_000
#: Events a second of event time; a million of them fill five windows.
RATE = 20_000.0
#: Milliseconds between the last event and the closing ones.
_QUIET = 60_000
_MICROS = 1_000_000

#: (key, start of the window in epoch ms) -> (count, micros)
Answer = Mapping[tuple[str, int], tuple[int, int]]
KeyValue = tuple[bytes, bytes]


@dataclass(frozen=True)
class Kind:
    """What a recording is made of."""

    topic: Topic
    #: (count, time of the first in epoch ms, number of the first) -> keys and values; the same for the same arguments.
    events: Callable[[int, int, int], Iterator[KeyValue]]
    #: How many different keys there are.
    keys: int
    #: The cell that an event counts in and its micros; None if it does not count. Its window follows from `occurred_at`.
    counts: Callable[[Mapping[str, str]], tuple[str, int] | None]


def _clicks(count: int, start: int, first: int) -> Iterator[KeyValue]:
    return clicks(Load(rate=RATE), count, start, first)


def _ads(count: int, start: int, first: int) -> Iterator[KeyValue]:
    return ysb_events.events(RATE, count, start, first)


CLICKS = Kind(Topic.CLICKS, _clicks, Load().campaigns, lambda click: (click["campaign_id"], int(Decimal(click["cost"]) * _MICROS)))
ADS = Kind(
    Topic.ENGAGEMENTS,
    _ads,
    len(ysb_events.ADS),
    lambda event: (ysb_events.ADS[event["creative_id"]], 0) if event["kind"] == "view" else None,
)


@dataclass(frozen=True)
class Recording:
    """A topic that is filled, and what must come of it."""

    settings: Settings
    topic: str
    #: Records in the topic, the closing ones included.
    events: int
    #: First window that is judged by nobody; those before are.
    end: int
    expected: Answer

    @property
    def start(self) -> int:
        """First window that an event is in."""
        return min(window for _, window in self.expected)

    @property
    def counted(self) -> int:
        """Sum of the counts that are expected."""
        return sum(count for count, _ in self.expected.values())


def differences(expected: Answer, got: Answer, end: int) -> list[str]:
    """Where an answer is wrong, a sentence each; windows from `end` on are not looked at. Empty: it is right, in every cell."""
    found = {cell: total for cell, total in got.items() if cell[1] < end}
    return [
        f"{key} at {window}: {_total(found.get((key, window)))}, should be {_total(expected.get((key, window)))}"
        for key, window in sorted(expected.keys() | found.keys())
        if found.get((key, window)) != expected.get((key, window))
    ]


def _total(total: tuple[int, int] | None) -> str:
    return "nothing" if total is None else f"{total[0]} events, {total[1]} micros"


def answer_of(rows: Iterable[Sequence[object]]) -> Answer:
    """What a contender wrote: rows of key, window, count and money in units of the currency, which may be sums of floats.

    Rounded to hundredths, as every event's money is a whole number of them. A window that came out twice counts twice.
    """
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for key, window, count, money in rows:
        cell = str(key), int(str(window))
        before = found.get(cell, (0, 0))
        found[cell] = before[0] + int(str(count)), before[1] + round(float(str(money)) * 100) * (_MICROS // 100)
    return found


async def record(settings: Settings, kind: Kind, count: int, now: int) -> Recording:
    """Create the topics and fill the one of `kind` with `count` events, the last of them two minutes before `now`, and closing ones."""
    span = int(count * 1_000 / RATE)
    start = (now - span - 2 * _QUIET) // WINDOW * WINDOW
    closing = (start + span + _QUIET) // WINDOW * WINDOW
    expected: dict[tuple[str, int], tuple[int, int]] = {}
    topic = settings.topic(kind.topic)
    await create_topics(settings)
    async with Sender(settings) as sender:
        sent = await sender.send(topic, _noting(kind.events(count, start, 0), kind, expected))
        sent += await sender.send(topic, closing_events(kind, closing, count))
    return Recording(settings, topic, sent, closing - WINDOW, expected)


def closing_events(kind: Kind, at: int, first: int) -> Iterator[KeyValue]:
    """One event for each key, at about `at`."""
    seen = set()
    for key, value in kind.events(1_000_000, at, first):
        if key not in seen and kind.counts(json.loads(value)) is not None:
            seen.add(key)
            yield key, value
        if len(seen) == kind.keys:
            return


def _noting(events: Iterator[KeyValue], kind: Kind, expected: dict[tuple[str, int], tuple[int, int]]) -> Iterator[KeyValue]:
    for key, value in events:
        event = json.loads(value)
        counted = kind.counts(event)
        if counted is not None:
            cell = counted[0], int(event["occurred_at"]) // WINDOW * WINDOW
            before = expected.get(cell, (0, 0))
            expected[cell] = before[0] + 1, before[1] + counted[1]
        yield key, value


def recorded(settings: Settings, kind: Kind, count: int) -> Recording:
    """`record`, as of now."""
    return asyncio.run(record(settings, kind, count, int(time.time() * 1_000)))

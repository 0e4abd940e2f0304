"""What a look at one thing ends in: how bad it is, what is so, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.errors import UserError

T = TypeVar("T")

#: Names that are spelled out; of more it is only said how many there are.
_SPELLED_OUT = 6


class Level(StrEnum):
    """How bad it is, from well to bad."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not for long, or the numbers need a second look."""
    FAILURE = "failure"
    """It does not work, or numbers are wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    #: What was looked at, in the same words each time: "redis memory".
    what: str
    detail: str
    #: The next step; empty where there is nothing to do.
    do: str = ""


def ok(what: str, detail: str) -> Finding:
    """It is as it should be, or worth a note only."""
    return Finding(Level.OK, what, detail)


def warning(what: str, detail: str, do: str) -> Finding:
    """It works, with a reservation."""
    return Finding(Level.WARNING, what, detail, do)


def failure(what: str, detail: str, do: str) -> Finding:
    """It does not work, or numbers are wrong."""
    return Finding(Level.FAILURE, what, detail, do)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Stands where an answer should be. `why` never holds a secret."""

    why: str


async def asked(question: Awaitable[T], seconds: float) -> T | Unanswered:
    """The answer, or why there is none within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await question
    except TimeoutError:
        return Unanswered(f"no answer within {seconds:g} s")
    except UserError as error:
        return Unanswered(str(error))
    except (RedisError, KafkaError, OSError, ValueError) as error:
        return Unanswered(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def unanswered(what: str, answer: Unanswered, do: str) -> Finding:
    """Something that could not be looked at, though the server answers otherwise."""
    return warning(what, f"could not be looked at: {answer.why}", do)


def names(found: Iterable[object]) -> str:
    """A, B, C and 4 more."""
    listed: Sequence[str] = [str(each) for each in found]
    more = len(listed) - _SPELLED_OUT
    return ", ".join(listed[:_SPELLED_OUT]) + (f" and {more} more" if more > 0 else "")


def span(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 3 h, 5 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

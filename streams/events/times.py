"""Times of events: RFC 3339 text with an offset, or integer epoch milliseconds; kept as UTC to the millisecond, rounded down."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

#: The first and the last millisecond of the years 1 to 9999, UTC: what can be told.
EARLIEST_MS = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MILLISECOND
LATEST_MS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MILLISECOND

_PARTS = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def epoch_ms_of_text(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time, rounded down.

    Raises ValueError, which says what is wrong with it: no offset, a leap second, a date that does not exist, another form.
    """
    match = _PARTS.fullmatch(text)
    if match is None:
        if _PARTS.fullmatch(text + "Z"):
            raise ValueError("it has no offset from UTC; end it with Z or, say, +02:00")
        raise ValueError("it is not RFC 3339, such as 2026-11-23T03:24:33.123Z")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, offset_hour, offset_minute = match.group(7, 8, 9, 10)
    if second == 60:
        raise ValueError("it is a leap second; send the second before or after")
    offset = 0
    if sign:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            raise ValueError("its offset from UTC is not between -23:59 and +23:59")
        offset = (int(offset_hour) * 60 + int(offset_minute)) * (60_000 if sign == "+" else -60_000)
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"there is no such time: {error}") from error
    milliseconds = int((fraction + "00")[:3]) if fraction else 0
    return checked_range((whole - EPOCH) // _MILLISECOND + milliseconds - offset)


def checked_range(epoch_ms: int) -> int:
    """`epoch_ms` itself; raises ValueError outside the years 1 to 9999, UTC."""
    if not EARLIEST_MS <= epoch_ms <= LATEST_MS:
        raise ValueError("it lies outside the years 1 to 9999 (epoch times are milliseconds)")
    return epoch_ms


def to_datetime(epoch_ms: int) -> datetime:
    """The aware datetime, UTC, of epoch milliseconds."""
    return EPOCH + timedelta(milliseconds=epoch_ms)


def to_epoch_ms(time: datetime) -> int:
    """Epoch milliseconds of an aware datetime, rounded down."""
    return (time - EPOCH) // _MILLISECOND


def date_of_text(text: str) -> date:
    """A calendar date written YYYY-MM-DD; raises ValueError for anything else."""
    if not _DATE.fullmatch(text):
        raise ValueError("it is not a date such as 2026-11-23")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"there is no such date: {error}") from error

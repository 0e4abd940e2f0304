"""Days, months and hours as a campaign's own clock has them. Times are epoch ms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

HOURS = 24
HOUR_MS = 3_600_000
DAY_MS = HOURS * HOUR_MS


@lru_cache(maxsize=1_024)
def zone_of(name: str | None) -> ZoneInfo:
    """The time zone of an IANA name; UTC for none or one that this machine does not know."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def local(at: int, zone: ZoneInfo) -> datetime:
    """Wall-clock time of `at` in a zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).astimezone(zone)


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def day_bounds(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """[start, end) of the local day that `at` is in; 23 or 25 hours long when the clock is changed."""
    midnight = local(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    # Adding to a wall-clock time keeps the wall clock, whatever the length of the day.
    return _epoch(midnight), _epoch((midnight + timedelta(days=1)).replace(fold=0))


def month_bounds(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """[start, end) of the local month."""
    first = local(at, zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    after = (first + timedelta(days=32)).replace(day=1)
    return _epoch(first), _epoch(after)


def slices_of(start: int, end: int, zone: ZoneInfo, slices: int) -> list[tuple[int, int]]:
    """Which of `slices` equal parts of the local day [start, end) covers: (slice, milliseconds in it), in order."""
    covered: list[tuple[int, int]] = []
    at = start
    while at < end:
        moment = local(at, zone)
        into_day = (moment.hour * 3_600 + moment.minute * 60 + moment.second) * 1000 + moment.microsecond // 1000
        current = into_day * slices // DAY_MS
        next_begins = -(-(current + 1) * DAY_MS // slices)
        # Whole hours bound a step too, since the clock is only ever changed there.
        until = min(end, at + next_begins - into_day, at + HOUR_MS - into_day % HOUR_MS)
        covered.append((current, until - at))
        at = until
    return covered

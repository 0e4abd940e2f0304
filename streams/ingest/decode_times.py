"""Times of a block to epoch milliseconds, from their bytes.

Understands every valid RFC 3339 time and every integer; what it does not understand is marked as unsure, never guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled
from streams.events.times import EARLIEST_MS, LATEST_MS
from streams.ingest.decode_scan import ABSENT, NUMBER, TEXT, Span

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DAYS_BEFORE_1970 = 719_162  # days from 0001-01-01
#: Longer integers lie outside the years that are taken.
_MOST_DIGITS = 16
_UNSURE = LATEST_MS + 1


def epoch_ms(times: Span, sure: Bools) -> Ints:
    """Epoch milliseconds, rounded down, 0 where absent. `sure` loses the records whose time may be valid or not."""
    result = np.zeros(len(sure), np.int64)
    _times(times.buffer, times.start, times.stop, times.form, result, sure)
    return result


@compiled
def _times(buffer: Bytes, start: Ints, stop: Ints, form: Bytes, result: Ints, sure: Bools) -> None:
    for i in range(len(result)):
        if not sure[i] or form[i] == ABSENT:
            continue
        value = _UNSURE
        if form[i] == TEXT:
            value = _of_text(buffer, start[i], stop[i])
        elif form[i] == NUMBER:
            value = _of_integer(buffer, start[i], stop[i])
        if EARLIEST_MS <= value <= LATEST_MS:
            result[i] = value
        else:
            sure[i] = False


@compiled
def _number(buffer: Bytes, at: int, digits: int) -> int:
    """The number of so many digits; -1 where something else stands there."""
    value: Any = 0
    for k in range(at, at + digits):
        if not 0x30 <= buffer[k] <= 0x39:
            return -1
        value = value * 10 + np.int64(buffer[k]) - 0x30
    return int(value)


@compiled
def _of_integer(buffer: Bytes, start: int, stop: int) -> int:
    negative = buffer[start] == 0x2D
    digits = start + 1 if negative else start
    if stop - digits > _MOST_DIGITS:
        return _UNSURE
    value = _number(buffer, digits, stop - digits)
    if value < 0:
        return _UNSURE
    return -value if negative else value


@compiled
def _days_of_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@compiled
def _of_text(buffer: Bytes, start: int, stop: int) -> int:
    if stop - start < 20:  # 2026-11-23T03:24:33Z
        return _UNSURE
    year, month, day = _number(buffer, start, 4), _number(buffer, start + 5, 2), _number(buffer, start + 8, 2)
    hour, minute, second = _number(buffer, start + 11, 2), _number(buffer, start + 14, 2), _number(buffer, start + 17, 2)
    t = buffer[start + 10]
    marks = buffer[start + 4] == 0x2D and buffer[start + 7] == 0x2D and buffer[start + 13] == 0x3A and buffer[start + 16] == 0x3A
    if not (marks and (t == 0x54 or t == 0x74 or t == 0x20)):
        return _UNSURE
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _days_of_month(year, month)):
        return _UNSURE
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return _UNSURE
    i = start + 19
    milliseconds: Any = 0
    weight = 100
    if buffer[i] == 0x2E:
        i += 1
        fraction = i
        while i < stop and 0x30 <= buffer[i] <= 0x39:
            milliseconds += (np.int64(buffer[i]) - 0x30) * weight
            weight //= 10
            i += 1
        if i == fraction:
            return _UNSURE
    offset = 0
    if i == stop - 1:
        if buffer[i] != 0x5A and buffer[i] != 0x7A:
            return _UNSURE
    else:
        if i != stop - 6 or buffer[i + 3] != 0x3A or not (buffer[i] == 0x2B or buffer[i] == 0x2D):
            return _UNSURE
        hours, minutes = _number(buffer, i + 1, 2), _number(buffer, i + 4, 2)
        if not (0 <= hours <= 23 and 0 <= minutes <= 59):
            return _UNSURE
        offset = (hours * 60 + minutes) * (60_000 if buffer[i] == 0x2B else -60_000)
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 + day - 1 - _DAYS_BEFORE_1970
    for each in range(1, month):
        days += _days_of_month(year, each)
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + int(milliseconds) - offset

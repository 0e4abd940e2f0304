"""Whole columns of times to epoch milliseconds, by numpy on the characters.

Understands every valid RFC 3339 time; what it does not understand is marked as unsure, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.events.times import EARLIEST_MS, LATEST_MS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SECONDS_END = 19  # of 2026-11-23T03:24:33
_OFFSET_LENGTH = 6  # of +02:00
#: Longer texts (a fraction of many digits) are left to the arbiter.
_LONGEST = 40
_DAYS_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], np.int64)
_DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_DAYS_BEFORE_1970 = 719_162  # days from 0001-01-01


def epoch_ms(values: Sequence[int | str]) -> tuple[Ints, Bools]:
    """Epoch milliseconds, rounded down, and whether each is sure. Integers are taken as they are; the caller has checked their range.

    Where it is not sure the millisecond is 0 and the text may be valid or not.
    """
    result = np.zeros(len(values), np.int64)
    sure = np.zeros(len(values), np.bool_)
    by_length: dict[int, list[int]] = {}
    try:
        lengths = set(map(len, values))  # type: ignore[arg-type]
    except TypeError:  # integers among them
        for position, value in enumerate(values):
            if isinstance(value, str):
                by_length.setdefault(len(value), []).append(position)
            else:
                result[position], sure[position] = value, True
    else:
        if len(lengths) == 1:
            return _of_text("".join(values), len(values))  # type: ignore[arg-type]
        for position, value in enumerate(values):
            by_length.setdefault(len(value), []).append(position)  # type: ignore[arg-type]
    for positions in by_length.values():
        result[positions], sure[positions] = _of_text("".join(values[i] for i in positions), len(positions))  # type: ignore[misc]
    return result, sure


def _of_text(text: str, rows: int) -> tuple[Ints, Bools]:
    """The times of `rows` texts of equal length, joined."""
    length = len(text) // rows if rows else 0
    if not _SECONDS_END < length <= _LONGEST:
        return np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    # "?" for what is not ASCII keeps the length, and is no part of any time.
    columns = np.frombuffer(text.encode("ascii", "replace"), np.uint8).reshape(rows, length).T
    digits = columns.astype(np.int64) - ord("0")
    is_digit = (digits >= 0) & (digits <= 9)

    def number(start: int, width: int) -> Ints:
        value: Ints = digits[start]
        for i in range(start + 1, start + width):
            value = value * 10 + digits[i]
        return value

    def all_digits(*spans: tuple[int, int]) -> Bools:
        result: Bools = np.logical_and.reduce([is_digit[i] for start, width in spans for i in range(start, start + width)])
        return result

    year, month, day, hour, minute, second = number(0, 4), number(5, 2), number(8, 2), number(11, 2), number(14, 2), number(17, 2)
    sure: Bools = all_digits((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
    for at, marks in ((4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")):
        sure &= np.logical_or.reduce([columns[at] == mark for mark in marks])
    sure &= (year >= 1) & (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    year, month = np.where(sure, year, 1), np.where(sure, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    sure &= (day >= 1) & (day <= _DAYS_OF_MONTH[month] + ((month == 2) & leap))
    past = year - 1
    days = (
        past * 365 + past // 4 - past // 100 + past // 400 + _DAYS_BEFORE_MONTH[month] + ((month > 2) & leap) + day - 1 - _DAYS_BEFORE_1970
    )
    whole = ((days * 24 + hour) * 60 + minute) * 60 + second

    is_utc = (columns[-1] == ord("Z")) | (columns[-1] == ord("z"))
    milliseconds, utc_fits = _fraction(columns, digits, is_digit, length - 1)
    result = whole * 1000 + milliseconds
    if not is_utc.all():
        offset_at = length - _OFFSET_LENGTH
        if offset_at < _SECONDS_END:
            offset_fits: Bools = np.zeros(rows, np.bool_)
        else:
            milliseconds, offset_fits = _fraction(columns, digits, is_digit, offset_at)
            sign = np.where(columns[offset_at] == ord("-"), -1, 1)
            offset_hour, offset_minute = number(offset_at + 1, 2), number(offset_at + 4, 2)
            offset_fits &= (columns[offset_at] == ord("+")) | (columns[offset_at] == ord("-"))
            offset_fits &= (columns[offset_at + 3] == ord(":")) & all_digits((offset_at + 1, 2), (offset_at + 4, 2))
            offset_fits &= (offset_hour <= 23) & (offset_minute <= 59)
            shifted = whole * 1000 + milliseconds - sign * (offset_hour * 60 + offset_minute) * 60_000
            result = np.where(is_utc, result, shifted)
        sure &= np.where(is_utc, utc_fits, offset_fits)
    else:
        sure &= utc_fits
    sure &= (result >= EARLIEST_MS) & (result <= LATEST_MS)
    return np.where(sure, result, 0), sure


def _fraction(columns: NDArray[np.uint8], digits: Ints, is_digit: Bools, end: int) -> tuple[Ints, Bools]:
    """Milliseconds of the fraction between the seconds and `end`, and whether it is one (or there is none)."""
    rows = columns.shape[1]
    width = end - _SECONDS_END - 1
    if width < 1:
        return np.zeros(rows, np.int64), np.full(rows, end == _SECONDS_END)
    fits: Bools = (columns[_SECONDS_END] == ord(".")) & np.logical_and.reduce(is_digit[_SECONDS_END + 1 : end])
    milliseconds: Ints = np.zeros(rows, np.int64)
    for i, weight in zip(range(_SECONDS_END + 1, end), (100, 10, 1), strict=False):
        milliseconds = milliseconds + digits[i] * weight
    return milliseconds, fits

"""Times and lengths of time as the pages and the command line write them: RFC 3339 or epoch milliseconds, and `5m`."""

from __future__ import annotations

import re
from datetime import timedelta

from streams.events.times import EPOCH, epoch_ms_of_text

#: The last millisecond of the year 9999, beyond which no date can be written.
LAST_MS = 253_402_300_799_999
#: Milliseconds that an answer may be old at most, if its asker likes.
MAX_AGE = 60_000

_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_LENGTH = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_time(text: str) -> int:
    """Epoch ms of an RFC 3339 time with offset, or of an integer of epoch ms; parts of a millisecond are dropped.

    A blank where the sign of the offset belongs is read as `+`: that is what a `+` in a URL becomes. ValueError, with the reason, for all
    else.
    """
    if _MILLISECONDS.fullmatch(text):
        ms = int(text)
    else:
        try:
            ms = epoch_ms_of_text(re.sub(r" (?=[0-9]{2}:[0-9]{2}$)", "+", text) if len(text) > len("2026-11-23 03:24:00") else text)
        except ValueError as error:
            raise ValueError(f"{text!r} cannot be used: {error}; epoch milliseconds would do, too") from None
    if not 0 <= ms <= LAST_MS:
        raise ValueError(f"{text!r} is outside the years 1970 to 9999")
    return ms


def write_time(ms: int) -> str:
    """RFC 3339 in UTC, `2026-11-23T03:24:00Z`; milliseconds only where there are any."""
    at = EPOCH + timedelta(milliseconds=ms)
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds" if ms % 1_000 else "seconds") + "Z"


def read_length(text: str) -> int:
    """Milliseconds of `10s`, `5m`, `1h` or `1d`. ValueError, with the reason, for all else."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a length of time; write a whole number and s, m, h or d, such as 10s, 5m, 1h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def read_age(text: str) -> int:
    """Milliseconds of an age that an answer may have. ValueError, with the reason, for all else."""
    age = read_length(text)
    if age > MAX_AGE:
        raise ValueError(f"{text!r} is more than {write_length(MAX_AGE)}")
    return age


def write_length(ms: int) -> str:
    """The shortest form of a length: 60000 -> `1m`."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


def round_up(ms: int, step: int) -> int:
    """The first multiple of `step` at or after `ms`."""
    return -(-ms // step) * step

"""How long something lasts, as people write it on the command line."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_duration(text: str) -> float:
    """Seconds of `600`, `90s`, `10m` or `1h30m`. ValueError, with the reason, for all else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _PART.sub("", text):
        raise ValueError(f"{text!r} is not a length of time; write seconds, or 90s, 10m, 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))

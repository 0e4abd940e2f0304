"""Numbers as people read them."""

from __future__ import annotations

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def number(value: float) -> str:
    """1,234,567; below ten with as many decimals as say something."""
    if value >= 10 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def size(value: float) -> str:
    """Bytes: 12 GiB, 1.4 TiB."""
    step = 0
    while value >= 1000 and step < len(_BINARY) - 1:
        value /= 1024
        step += 1
    return f"{value:,.0f} {_BINARY[step]}" if value >= 10 or not step else f"{value:.1f} {_BINARY[step]}"


def bandwidth(value: float) -> str:
    """Bytes a second: 450 MB/s."""
    for unit, step in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if value >= step:
            return f"{value / step:,.0f} {unit}" if value >= 10 * step else f"{value / step:.1f} {unit}"
    return f"{value:.0f} B/s"


def span(seconds: float) -> str:
    """Seconds: 10 s, 15 min, 26 h, 35 d."""
    for unit, step in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= step and seconds % step == 0:
            return f"{seconds / step:g} {unit}"
    return f"{seconds:g} s"

"""Text for Slack: escaped, clipped to a limit, and numbers, money, times and durations as people read them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from streams.kpis.formulas import KPIS, KpiUnit
from streams.kpis.measures import APPROXIMATE, Unit, unit_of

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ELLIPSIS = "\u2026"
#: Controls, and the marks that turn the direction of what follows: a campaign's name must not be able to rearrange the message around it.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Shown(StrEnum):
    """How a number is written."""

    COUNT = "count"
    MONEY = "money"
    SHARE = "share"
    MULTIPLE = "multiple"
    MILLISECONDS = "milliseconds"
    NUMBER = "number"


_OF_KPI = {KpiUnit.SHARE: Shown.SHARE, KpiUnit.MONEY: Shown.MONEY, KpiUnit.MULTIPLE: Shown.MULTIPLE}
_OF_MEASURE = {
    Unit.COUNT: Shown.COUNT,
    Unit.MONEY: Shown.MONEY,
    Unit.MILLISECONDS: Shown.MILLISECONDS,
    Unit.HUNDREDTHS: Shown.NUMBER,
}
#: What rules judge beside the declared measures and KPIs.
_OF_OTHERS = {"burn_rate": Shown.MULTIPLE}


def shown_as(measure: str | None, kpi: str | None) -> Shown:
    """How the values of a measure or KPI are written; a plain number where the name is not known."""
    name = kpi or measure or ""
    if name in _OF_OTHERS:
        return _OF_OTHERS[name]
    if name in KPIS:
        return _OF_KPI[KPIS[name].unit]
    if name in APPROXIMATE:
        return Shown.COUNT if name == "reach" else Shown.MILLISECONDS
    return _OF_MEASURE[unit_of(name)] if measure else Shown.NUMBER


def label(measure: str | None, kpi: str | None) -> str:
    """A measure's or KPI's name for people: `click-through rate (CTR)`, `clicks`, `net revenue`."""
    name = kpi or measure or "value"
    if name in KPIS:
        meaning = KPIS[name].meaning
        return meaning if meaning.replace(" ", "_") == name else f"{meaning} ({name.upper()})" if len(name) <= 4 else meaning
    return name.replace("_", " ")


def number(value: float, shown: Shown, currency: str) -> str:
    """`value` with its unit. Money is in units of `currency`, shares are parts of 1."""
    if not math.isfinite(value):
        return "unknown"
    match shown:
        case Shown.MONEY:
            return money(Decimal(str(value)), currency)
        case Shown.SHARE:
            return f"{_plain(value * 100, 2)}%"
        case Shown.MULTIPLE:
            return f"{value:,.2f}x"
        case Shown.MILLISECONDS:
            return f"{value:,.0f} ms" if abs(value) < 10_000 else f"{value / 1000:,.1f} s"
        case Shown.COUNT:
            return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"
        case Shown.NUMBER:
            return _plain(value, 2)


def money(amount: Decimal, currency: str) -> str:
    """`1,234.50 USD`; amounts below one keep four decimals, so that a click's cost can be read."""
    places = 2 if abs(amount) >= 1 or amount == 0 else 4
    return f"{amount:,.{places}f} {currency}"


def _plain(value: float, places: int) -> str:
    if value and abs(value) < 10**-places:
        return f"{value:.2g}"
    return f"{value:,.{places}f}"


def escaped(text: str) -> str:
    """`text` on one line, with what Slack takes for markup (&, <, >) escaped: no mention, link or command can come out of it."""
    return "".join(_ENTITIES.get(c, c) for c in one_line(text))


def one_line(text: str) -> str:
    """`text` without control characters and line breaks."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def clipped(text: str, limit: int) -> str:
    """`text`, escaped, in at most `limit` characters as Slack counts them; what is cut off leaves an ellipsis, never half an entity."""
    whole = escaped(text)
    if width(whole) <= limit:
        return whole
    kept: list[str] = []
    left = limit - 1
    for character in one_line(text):
        piece = _ENTITIES.get(character, character)
        left -= width(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip() + _ELLIPSIS if limit > 0 else ""


def width(text: str) -> int:
    """Length in UTF-16 units, the widest way to count characters."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def clock_time(moment: datetime) -> str:
    """A moment that each reader sees in their own time zone; UTC where that cannot be shown."""
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time}}|{utc(moment)}>"


def utc(moment: datetime) -> str:
    """`2026-11-23 14:05 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(length: timedelta) -> str:
    """`45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"

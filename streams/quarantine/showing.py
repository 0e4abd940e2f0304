"""Refused records as text for people: short in a list, pretty one by one, without personal data unless asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from streams.events.models import PERSONAL_FIELDS
from streams.printable import printable
from streams.quarantine.record import Quarantined

MASK = "***"
_LONGEST_KEY = 40


def instant(moment: datetime) -> str:
    """UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def safe_text(data: bytes) -> str:
    """Bytes as text that does nothing to a terminal: what is not printable is escaped."""
    return printable(data.decode("utf-8", "backslashreplace"))


def key_text(key: bytes | None) -> str:
    """A record's key in a list."""
    if key is None:
        return "-"
    text = safe_text(key)
    return text if len(text) <= _LONGEST_KEY else text[:_LONGEST_KEY] + "..."


def masked(value: Any) -> Any:
    """A JSON value whose personal fields, at any depth, are hidden."""
    if isinstance(value, _Pairs):
        return _Pairs((name, MASK if name in PERSONAL_FIELDS and part not in (None, "") else masked(part)) for name, part in value)
    if isinstance(value, list):
        return [masked(part) for part in value]
    return value


def pretty(refused: Quarantined, *, raw: bool) -> str:
    """The refused record's value over several lines. Without `raw`, personal fields are masked and bytes that are no JSON are withheld."""
    if refused.value is None:
        return "(no value)"
    try:
        content = json.loads(refused.value, object_pairs_hook=_Pairs, parse_float=_Literal, parse_int=_Literal, parse_constant=_Literal)
        # Written twice by the same member name, both are shown: that may be the reason.
        return _written(content if raw else masked(content), "")
    except (ValueError, RecursionError) as error:
        if raw:
            return safe_text(refused.value)
        return f"(not JSON: {error}; {len(refused.value):,} bytes that may hold personal data: --raw shows them)"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its members as they came, repeated names too."""


class _Literal(str):
    """A number as it was written."""

    __slots__ = ()


def _written(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, _Pairs):
        members = ",\n".join(f"{deeper}{_quoted(name)}: {_written(part, deeper)}" for name, part in value)
        return f"{{\n{members}\n{indent}}}" if members else "{}"
    if isinstance(value, list):
        parts = ",\n".join(f"{deeper}{_written(part, deeper)}" for part in value)
        return f"[\n{parts}\n{indent}]" if parts else "[]"
    if isinstance(value, _Literal):
        return str(value)
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    plain = all(c.isprintable() for c in text)
    return json.dumps(text, ensure_ascii=not plain)

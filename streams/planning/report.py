"""A plan as text for people and as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict

from streams.planning.cluster import Plan
from streams.planning.measured import Coefficients
from streams.planning.words import number, size

_WIDTH = 140
_WHAT, _SHOWN = 24, 14


def as_text(plan: Plan, c: Coefficients) -> str:
    """Section by section: what, how much, and the arithmetic."""
    return "\n".join(_lines(plan, c)) + "\n"


def _lines(plan: Plan, c: Coefficients) -> Iterator[str]:
    for section in plan.sections:
        yield section.title
        for line in section.lines:
            yield from _row(line.what, line.shown, line.how)
        yield ""
    if plan.alternatives:
        yield "Redis, if less were kept (each by itself)"
        for other in plan.alternatives:
            needs = f"{number(other.masters.count)} masters, {number(other.partitions)} partitions"
            yield from _row(
                "", size(other.redis_bytes), f"{other.what}: {needs if other.masters.fits else 'no number of masters is enough'}"
            )
        yield ""
    for warning in plan.warnings:
        yield textwrap.fill(f"! {warning}.", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    yield textwrap.fill(
        f"Coefficients {c.source}. Another machine is up to twice as fast or slow: measure one worker there (make bench) and "
        f"give what you found "
        "with --set. docs/scaling.md explains each line.",
        _WIDTH,
    )


def _row(what: str, shown: str, how: str) -> Iterator[str]:
    first = f"  {what:<{_WHAT}} {shown:>{_SHOWN}}   "
    yield textwrap.fill(
        how, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False, break_long_words=False
    )


def as_json(plan: Plan, c: Coefficients) -> str:
    """{"figures": {name: {"value", "what", "how"}}, "alternatives", "warnings", "coefficients"}; in plain units: 1, bytes, a second."""
    figures = {line.name: {"value": line.value, "what": line.what, "how": line.how} for section in plan.sections for line in section.lines}
    others = [
        {"what": o.what, "redis_bytes": o.redis_bytes, "redis_masters": o.masters.count if o.masters.fits else None}
        for o in plan.alternatives
    ]
    document = {"figures": figures, "alternatives": others, "warnings": plan.warnings, "coefficients": asdict(c)}
    return json.dumps(document, indent=2, ensure_ascii=False)

"""What the fast decoder knows of each topic's fields: the limits of `streams.events.models`, and a test holds the two together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from streams.config import DIMENSIONS, Topic
from streams.events.fields import CONTROL_CHARACTER
from streams.events.models import KIND_PATTERN, RESERVED_KINDS

_KIND = re.compile(KIND_PATTERN)


@dataclass(frozen=True, slots=True)
class TextField:
    """A text of at most so many code points, and what else is asked of it."""

    longest: int = 256
    required: bool = False
    judge: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class TopicFields:
    """The fields of one topic, by what becomes of them."""

    money: str
    #: Numbered, most of them to become columns.
    numbered: dict[str, TextField]
    #: Only their lengths are looked at.
    checked: dict[str, TextField]
    #: Times and numbers with a column of their own.
    others: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The numbered ones that become columns: a currency only says what an amount means."""
        return [name for name in self.numbered if name != "currency"]

    @property
    def names(self) -> list[str]:
        """All of them, and those that every topic has."""
        return ["occurred_at", self.money, *self.numbered, *self.checked, *self.others]


def _kind_is_fine(kind: str) -> bool:
    return _KIND.fullmatch(kind) is not None and kind not in RESERVED_KINDS


def _campaign_is_fine(campaign: str) -> bool:
    return CONTROL_CHARACTER.search(campaign) is None


_SHARED = {name: TextField() for name in (*DIMENSIONS, "currency")} | {
    "campaign_id": TextField(128, required=True, judge=_campaign_is_fine),
    "channel": TextField(64, required=True),
}
_KIND_FIELD = TextField(required=True, judge=_kind_is_fine)
_CHECKED = {
    "event_id": TextField(128, required=True),
    "user_id": TextField(),
    "ip": TextField(),
    "user_agent": TextField(2_048),
    "landing_page": TextField(2_048),
}

FIELDS: dict[Topic, TopicFields] = {
    Topic.CLICKS: TopicFields("cost", _SHARED, _CHECKED),
    Topic.CONVERSIONS: TopicFields(
        "value",
        _SHARED | {"kind": _KIND_FIELD, "customer_type": TextField(judge={"new", "returning"}.__contains__)},
        _CHECKED | {"order_id": TextField()},
        ("clicked_at",),
    ),
    Topic.ENGAGEMENTS: TopicFields(
        "cost", _SHARED | {"kind": _KIND_FIELD}, _CHECKED | {"term": TextField()}, ("dwell_ms", "load_ms", "rating")
    ),
    Topic.SPEND: TopicFields(
        "amount", _SHARED | {"platform": TextField(required=True)}, _CHECKED, ("period_start", "period_end", "revision")
    ),
}
#: Fields besides texts that must be there.
REQUIRED = frozenset({"occurred_at", "period_start", "period_end", "amount"})
